"""Lists of names: of files, of keys without a bucket, or of texts that only look like names."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.rows.errors import InputError
from airflow_provider_lamini.rows.sources.forms import files_of_list
from airflow_provider_lamini.rows.storage.locate import locate
from tests.bad_input.test_inputs import OPERATORS, columns_of, lines, run, sent
from tests.bad_input.world import SECRET
from tests.support.object_store import object_store  # noqa: F401 - a fixture
from tests.support.tasks import log_lines

KEYS = {
    "pages": [["a/1.jsonl"], ["a/2.jsonl", "b.jsonl"]],
    "pages of one length": [["a/1.jsonl"], ["a/2.jsonl"]],
    "pages of one length of two": [["a/1.jsonl", "a/2.jsonl"], ["a/3.jsonl", "a/4.jsonl"]],
    "one-tuples": [("a/1.jsonl",), ("a/2.jsonl",)],
    "an empty page": [[], ["a/1.jsonl"]],
    "folders": ["data/day1/", "data/day2/"],
    "blanks": ["day 1/a file.jsonl", "day 1/b file.jsonl"],
    "blanks without a folder": ["my file.csv", "my other file.csv"],
    "blanks and none": ["my file.csv", "file.csv"],
    "a blank at the end": ["a.jsonl ", "b.jsonl"],
    "three words": ["sales report 2026.csv", "sales report 2025.csv"],
    "four words": ["Q1 sales report 2026.csv", "Copy of sales report.csv"],
    "a sentence and few words": ["Summarize the contract in report.csv", "sales report.csv"],
    "a sentence and a name": ["Summarize the contract in report.csv", "report.csv"],
    "many words and a folder": ["day 1/copy of a file.csv", "day 2/copy of a file.csv"],
    "many words and a folder of Windows": ["day 1\\copy of a file.csv"],
    "files of Hive": ["day/000000_0", "day/000001_0_copy_1"],
    "documents": ["a/report.pdf", "a/page.html", "a/table.xlsx"],
    "documents without a folder": ["report.pdf", "page.html", "table.xlsx", "letter.docx"],
    "images and sounds": ["a/scan.png", "a/photo.JPG", "a/call.mp3"],
    "images and sounds without a folder": ["scan.png", "photo.jpeg", "call.wav"],
    "archives without a folder": ["data.csv.zip", "more.csv.zip"],
}
TEXTS = {
    "sentences": ["Summarize report.csv", "What is in data.csv?"],
    "sentences that all end in a name": [
        "Summarize the contract in report.csv",
        "What is the sum in data.json",
    ],
    "one sentence that ends in a name": ["Summarize the contract in report.txt"],
    "such a sentence and a row": ["Summarize the contract in report.txt", {"prompt": "a"}],
    "pages of such sentences": [["Summarize the contract in a.csv"], ["Summarize the contract in b.csv"]],
    "words": ["km/h", "3.14", "Node.js", "and/or"],
    "web addresses": ["https://example.com/", "https://example.com/a page.html", "http://example.com/a.pdf"],
    "web addresses with a query": ["https://example.com/?file=a", "https://example.com/a.csv?b=c is what?"],
    "a slash at the end of a sentence": ["Is it 1 or 2, and/or both/"],
    "a beginning like a URI": ["s3://bucket/key is this: explain it", "another text"],
    "a document among texts": ["index.html", "a text"],
    "pages of texts": [["a text"], ["another", "more"]],
}


@pytest.mark.parametrize("form", KEYS)
def test_names_that_look_like_keys_are_refused_with_the_remedy(form):
    with pytest.raises(
        InputError, match=r"do not exist on this machine.*add the scheme and the bucket.*pass rows"
    ):
        files_of_list(KEYS[form])


@pytest.mark.parametrize("form", TEXTS)
def test_texts_are_no_files(form):
    assert files_of_list(TEXTS[form]) is None


def test_presigned_urls_are_files_and_keep_their_signature_secret(world):
    urls = [f"https://bucket.store.test/{name}.csv.gz?X-Signature=opensesame" for name in "ab"]
    with pytest.raises(InvalidArgumentError, match=r"no file system for https.*Download the file") as caught:
        world.run("BatchInferenceOperator", {"input": urls})
    assert SECRET not in str(caught.value)
    assert world.work == {}


@pytest.mark.parametrize("text", ["['s3://bucket/a.csv', 's3://bucket/b.csv']", '["/data/a.csv"]'])
def test_a_list_that_a_template_has_rendered_is_no_pattern(world, text):
    with pytest.raises(InvalidArgumentError, match="set render_template_as_native_obj=True on the Dag"):
        world.run("BatchInferenceOperator", {"input": text})


def test_names_with_many_words_are_files_beside_files(world):
    world.put("the sales report of 2026.csv", b"prompt\na\n")
    world.put("b.jsonl", b'{"prompt": "b"}\n')
    for more, expected in ((["{here}/b.jsonl"], ["a", "b"]), ([], ["a"])):
        world.platform.bodies.clear()
        (world.folder / "out" / "manifest.json").unlink(missing_ok=True)
        run(world, "completions", ["{here}/the sales report of 2026.csv", *more], on_other_run="replace")
        assert sent(world) == expected


@pytest.mark.usefixtures("world")
def test_an_existing_file_is_not_a_sentence():
    name = "the sales report of 2026.csv"
    assert files_of_list([name]) is None
    Path(name).write_bytes(b"prompt\na\n")  # in the current folder, of the test
    assert files_of_list([name]) == [name]
    with pytest.raises(InputError, match="1 names of files or folders that do not exist"):
        files_of_list([name, "the sales report of 2025.csv"])


@pytest.mark.parametrize(
    "operator", ["batch", "completions", "embedding", "classify", "rag", "Emissary batch"]
)
def test_sentences_that_end_in_a_name_are_sent_and_the_log_says_so(world, operator):
    texts = ["Summarize the contract in report.csv", "What is the sum in data.json"]
    with log_lines() as logged:
        run(world, operator, texts)
    assert sent(world) == texts
    (line,) = (text for text in logged if text.startswith("Validated"))
    assert "took texts that end like names of files as prompts (the list)" in line


def test_uris_with_blanks_are_files_without_a_suffix():
    assert files_of_list(["s3://b/my folder/part 0", "s3://b/x"]) == ["s3://b/my folder/part 0", "s3://b/x"]


def test_a_pattern_with_many_words_is_not_a_sentence():
    assert files_of_list(["all files of day *.csv"]) == ["all files of day *.csv"]


def test_lists_are_rows_if_their_columns_have_names():
    assert files_of_list([["1", "a/1.jsonl"], ["2", "a/2.jsonl"]], columns=["id", "path"]) is None
    with pytest.raises(InputError, match="name their columns"):
        files_of_list([["1", "a/1.jsonl"], ["2", "a/2.jsonl"]])


@pytest.mark.parametrize("form", ["pages", "folders", "blanks", "documents"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_no_operator_sends_keys(world, operator, form):
    with pytest.raises(InvalidArgumentError, match="add the scheme and the bucket"):
        run(world, operator, KEYS[form])
    assert sent(world) == []


@pytest.mark.parametrize(
    ("operator", "form"),
    [
        (operator, ["lists", "tuples", "paths", "store"][number % 4])
        for number, operator in enumerate((*OPERATORS, *OPERATORS, "batch", "upload"))
    ],
)
def test_pages_of_files_are_read(world, object_store, operator, form):  # noqa: F811, ARG001
    base = "memory://bucket/in" if form == "store" else str(Path(world.folder) / "in")
    names = [f"{base}/{text}.jsonl" for text in "abc"]
    for name, text in zip(names, "abc", strict=True):
        store, path = locate(name)
        store.write(path, lines(columns_of(operator), text), durable=False)
    value = {
        "lists": [names[:1], names[1:]],
        "tuples": [(name,) for name in names],
        "paths": [[Path(names[0])], [Path(name) for name in names[1:]]],
        "store": [names[:1], [], names[1:]],
    }[form]
    run(world, operator, value)
    assert sent(world) == ["a", "b", "c"]


def test_a_row_in_a_tuple_is_the_row(world):
    run(world, "completions", [({"prompt": "a"},), ({"prompt": "b"},)])
    assert sent(world) == ["a", "b"]


def test_a_repeated_column_of_a_cursor_is_refused_only_if_it_is_used(world):
    described = [[[name, *[None] * 6] for name in ("id", "id", "prompt")], [[1, 2, "a"]]]
    with pytest.raises(InvalidArgumentError, match="more than one column 'id'"):
        run(world, "completions", described, passthrough=["id"])
    run(world, "completions", described)
    assert sent(world) == ["a"]


@pytest.mark.parametrize("pages", [[["a"], None, ["b"]], [None, [{"prompt": "a"}]], [[("a",)], None]])
def test_a_missing_page_is_named(world, pages):
    with pytest.raises(
        InvalidArgumentError, match=r"lists of rows, of which 1 are None, such as item [01]\. Leave"
    ):
        run(world, "completions", pages, on_bad_row="error")
    assert sent(world) == []


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("names", [["in/x/*", "in/y/**/*"], ["in/x/*", "in/y/b.jsonl"], ["in/*/*"]])
def test_patterns_without_a_suffix_are_files_where_their_folder_exists(world, monkeypatch, names, relative):
    monkeypatch.chdir(world.folder)
    for folder, text in (("x", "a"), ("y", "b")):
        world.put(f"in/{folder}/{text}.jsonl", lines(["prompt"], text))
    run(world, "completions", names if relative else [f"{{here}}/{name}" for name in names])
    assert sent(world) == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "/*",
            "/**",
            "/help*",
            "/help *",
            "/tmp/* is full",
            "/no-such-folder/* is empty",
            "What is 2*3?",
            "2*3",
        ),
        *(
            "a/b*c",
            "*/tmp/*",
            "http://example.com/*",
            "image/*",
            "no-such-folder/*",
            "//div/*",
            "/search?q=*/x",
        ),
        *("/* a comment */", "/api/items[0]", "/ab*c/d"),
    ],
)
def test_texts_that_only_resemble_patterns_are_sent(text):
    assert files_of_list([text, text]) is None


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("pattern", ["/no-such-folder/in/*", "./no/such/**/*", "~/no-such-folder/day-*"])
def test_a_pattern_in_a_folder_that_does_not_exist_is_no_text(world, operator, pattern):
    for value in (pattern, [pattern], [pattern, pattern], [[pattern], [pattern]]):
        with pytest.raises(
            InvalidArgumentError, match=r"the folder .*/(in|such|no-such-folder) does not exist on this"
        ):
            run(world, operator, value)
    with pytest.raises(InvalidArgumentError, match="1 of 2 items are files"):
        run(world, operator, [pattern, "a text"])
    with pytest.raises(InvalidArgumentError, match=r"does not exist on this machine\.$"):
        run(world, operator, f"{pattern}.jsonl")
    assert sent(world) == []
