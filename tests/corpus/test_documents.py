"""Documents: which files are found, under which names, and what tells them apart."""

from __future__ import annotations

import hashlib
import io
import os

import pytest

from airflow_provider_lamini.corpus.documents import DocumentVersion, content_versions, find_documents
from airflow_provider_lamini.rows.errors import InputError

FILES = {"a.md": "first", "b.txt": "second", "guides/c.html": "<p>third", "guides/deep/d.md": "fourth"}


def put(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.fixture(params=["local", "object store"])
def place(request, tmp_path):
    """A folder with files, of each kind."""
    put(tmp_path / "docs", FILES)
    if request.param == "local":
        return str(tmp_path / "docs")
    store = request.getfixturevalue("object_store")
    store.put(str(tmp_path / "docs"), "/bucket/docs", recursive=True)
    return "memory://bucket/docs"


def names(given, **more):
    return [document.name for document in find_documents(given, **more)]


@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_stands_for_all_files_in_it_and_below(place, end):
    assert names(place + end) == sorted(FILES)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.md", ["a.md"]),
        ("**/*.md", ["a.md", "guides/deep/d.md"]),
        ("guides/*", ["c.html"]),
        ("g*/*.html", ["guides/c.html"]),
        ("[ab].*", ["a.md", "b.txt"]),
    ],
)
def test_documents_of_a_pattern_have_names_below_its_fixed_part(place, pattern, found):
    assert names(f"{place}/{pattern}") == found


def test_a_file_stands_for_itself_and_a_list_for_all_of_its_entries_once(place):
    assert names(f"{place}/guides/c.html") == ["c.html"]
    assert names([f"{place}/b.txt", f"{place}/*.md", f"{place}/a.md"]) == ["a.md", "b.txt"]


def test_the_name_of_a_folder_may_contain_pattern_characters(tmp_path):
    put(tmp_path / "a[1]*", {"x.md": "x"})
    assert names(str(tmp_path / "a[1]*")) == ["x.md"]


def test_hidden_files_folders_and_the_manifest_are_left_out(tmp_path):
    put(tmp_path, {".hidden": "", ".git/config": "", "a/.b/c": "", "index.json": "{}", "x.md": "x"})
    assert names(str(tmp_path), leave_out=f"{tmp_path}/index.json") == ["x.md"]


@pytest.mark.parametrize("given", [None, 5, "", " ", [], ["a", 5], {"a": 1}, [""]])
def test_a_value_that_is_not_a_path_is_refused(given):
    with pytest.raises(InputError):
        find_documents(given)


def test_the_error_names_a_missing_path(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"missing\.md does not exist"):
        find_documents(f"{tmp_path}/missing.md")
    with pytest.raises(InputError, match=r"no documents in .*empty"):
        find_documents(f"{tmp_path}/empty")
    with pytest.raises(InputError, match=r"no documents in .*\*\.pdf"):
        find_documents(f"{tmp_path}/*.pdf")


def test_two_files_with_the_same_name_in_the_index_are_refused(tmp_path):
    put(tmp_path, {"one/x.md": "1", "two/x.md": "2", "a/b.md": "3", "a__b.md": "4"})
    assert names(str(tmp_path / "one")) == ["x.md"]
    with pytest.raises(InputError, match=r"2 documents would have the name x\.md"):
        find_documents([f"{tmp_path}/one", f"{tmp_path}/two"])
    with pytest.raises(InputError, match=r"2 documents would have the name a__b\.md"):
        find_documents(str(tmp_path))


def test_a_part_of_a_form_has_a_flat_name_a_media_type_and_the_content(place):
    parts = [document.part() for document in find_documents(place)]
    assert [part.name for part in parts] == ["a.md", "b.txt", "guides__c.html", "guides__deep__d.md"]
    assert [part.content_type for part in parts][1:3] == ["text/plain", "text/html"]
    for part, content in zip(parts, FILES.values(), strict=True):
        for _ in range(2):  # an attempt that failed is repeated
            with part.open() as file:
                assert file.read() == content.encode()
                assert file.seek(0, io.SEEK_END) == len(content)


def test_a_version_has_the_checksum_of_the_content(place):
    found = content_versions(find_documents(place), {})
    assert {name: version.sha256 for name, version in found.items()} == {
        name: hashlib.sha256(content.encode()).hexdigest() for name, content in FILES.items()
    }


def test_a_file_with_the_same_store_version_is_not_read_again(tmp_path):
    put(tmp_path, {"a.md": "old"})
    (document,) = find_documents(str(tmp_path))
    known = document.content_version()
    assert document.content_version(known) is known


def test_a_file_with_another_time_is_read_and_may_be_unchanged(tmp_path):
    put(tmp_path, {"a.md": "same"})
    known = find_documents(str(tmp_path))[0].content_version()
    os.utime(tmp_path / "a.md", ns=(1, 1))
    again = find_documents(str(tmp_path))[0].content_version(known)
    assert again != known
    assert again.same(known)
    put(tmp_path, {"a.md": "else"})
    assert not find_documents(str(tmp_path))[0].content_version(known).same(known)


def test_without_store_versions_files_are_read_each_time(tmp_path):
    put(tmp_path, {"a.md": "new"})
    (document,) = find_documents(str(tmp_path))
    unversioned = document.info._replace(version="")
    document = type(document)(document.name, unversioned, document.store)
    assert (
        document.content_version(DocumentVersion(3, "0" * 64, "")).sha256
        == hashlib.sha256(b"new").hexdigest()
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("\ufeffgrüß".encode(), "grüß"),
        (b"", ""),
        (b"\xff\xfea\0", None),
        (b"%PDF-1.4\0\1", None),
        ("é".encode("latin-1"), None),
    ],
)
def test_only_utf_8_without_zero_bytes_is_text(tmp_path, content, text):
    put(tmp_path, {"a.txt": content, "b.txt": b"another"})
    assert find_documents(str(tmp_path))[0].text() == text


def test_only_empty_documents_are_refused(tmp_path):
    put(tmp_path, {"a.txt": b"", "b.txt": b""})
    with pytest.raises(InputError, match=r"all documents in .* are empty"):
        find_documents(str(tmp_path))
