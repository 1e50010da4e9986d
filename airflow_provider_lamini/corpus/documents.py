"""Documents for an index: whole files, found in a folder or by a pattern and compared by checksum, and their pieces."""

from __future__ import annotations

import glob
import hashlib
import mimetypes
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.api.call import FilePart
from airflow_provider_lamini.rows.errors import InputError
from airflow_provider_lamini.rows.storage.base import GLOB
from airflow_provider_lamini.rows.storage.locate import locate
from airflow_provider_lamini.rows.storage.uris import short_uri
from airflow_provider_lamini.rows.values import kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from airflow_provider_lamini.rows.storage.base import FileInfo, Store

_BLOCK = 1024 * 1024
_NAMED = 5


class DocumentVersion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The version of a document's content.

    :param size: size in bytes
    :param sha256: checksum in hexadecimal digits
    :param version: version of the file in its store (`FileInfo.version`); as long as it is the same, the file need not be
        read again
    """

    size: int
    sha256: str
    version: str = ""

    def same(self, other: DocumentVersion) -> bool:
        """Whether both have the same content."""
        return self.sha256 == other.sha256


@dataclass(frozen=True, slots=True)
class Document:
    """A file for an index.

    :param name: its path relative to the folder that the user has passed, with slashes
    :param info: path, size and version in its store
    :param store: its store
    """

    name: str
    info: FileInfo
    store: Store

    @property
    def sent_name(self) -> str:
        """The name for the platform, which knows no folders."""
        return self.name.replace("/", "__")

    def part(self) -> FilePart:
        """The file as part of a form. It is opened when it is sent, and read in blocks."""
        content_type = mimetypes.guess_type(self.name)[0] or "application/octet-stream"
        return FilePart(self.sent_name, lambda: self.store.open(self.info.path), content_type)

    def content_version(self, known: DocumentVersion | None = None) -> DocumentVersion:
        """Compute the version of the content.

        :param known: an earlier version; it is returned if the store says that the file is unchanged
        """
        size, version = self.info.size, self.info.version
        if known is not None and version and (known.size, known.version) == (size, version):
            return known
        digest = hashlib.sha256()
        with self.store.open(self.info.path) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return DocumentVersion(size, digest.hexdigest(), version)

    def text(self) -> str | None:
        """The content as text; ``None`` if it is not UTF-8 text."""
        try:
            text = self.store.read(self.info.path).decode("utf-8-sig")
        except UnicodeDecodeError:
            return None
        return None if "\0" in text else text


def find_documents(
    value: object, *, conn_id: str | None = None, leave_out: str | None = None
) -> list[Document]:
    """Find documents. Files are looked up, but not read.

    :param value: a path, a URI or a glob, or a list of these. A folder stands for all files in it and below it. Hidden
        files and folders, whose names start with a dot, are ignored.
    :param conn_id: the Airflow connection to the object store
    :param leave_out: a file to ignore, even if it is found
    :return: the documents, sorted by name
    :raises InputError: if the value is not a path, no file is found, or two files have the same name
    """
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, Sequence) or not all(isinstance(path, str) and path.strip() for path in paths):
        raise InputError(f"files is {_kind(value)}. Pass a path, a URI or a glob, or a list of these.")
    ignored = None if leave_out is None else locate(leave_out, conn_id)[1]
    found = {
        document.info.path: document
        for path in paths
        for document in _find(path, conn_id)
        if document.info.path != ignored
    }
    if not found:
        raise InputError(f"files: there are no documents in {_join(paths)}.")
    if not any(document.info.size for document in found.values()):
        raise InputError(f"files: all documents in {_join(paths)} are empty.")
    _check_names(found.values())
    return sorted(found.values(), key=lambda document: document.name)


def content_versions(
    documents: Iterable[Document], known: Mapping[str, DocumentVersion]
) -> dict[str, DocumentVersion]:
    """The versions of documents by name.

    :param documents: the documents
    :param known: earlier versions by name
    """
    return {document.name: document.content_version(known.get(document.name)) for document in documents}


def _find(uri: str, conn_id: str | None) -> list[Document]:
    store, path = locate(uri, conn_id)
    if store.is_folder(path):
        root, found = path, store.glob(f"{glob.escape(path.rstrip('/'))}/**/*")
    else:
        try:
            root, found = str(PurePosixPath(path).parent), [store.info(path)]
        except (FileNotFoundError, NotADirectoryError):
            if not GLOB.search(path):
                raise InputError(f"files: {short_uri(uri)} does not exist.") from None
            root, found = _before_pattern(path), store.glob(path)
    named = ((PurePosixPath(info.path).relative_to(PurePosixPath(root)), info) for info in found)
    return [
        Document(name.as_posix(), info, store)
        for name, info in named
        if not any(part.startswith(".") for part in name.parts)
    ]


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "an empty text"
    return "a list with an entry that is not a path" if isinstance(value, Sequence) else kind(value)


def _join(paths: Sequence[str]) -> str:
    more = ", ..." if len(paths) > _NAMED else ""
    return f"{', '.join(map(short_uri, paths[:_NAMED]))}{more}" if paths else "an empty list"


def _before_pattern(path: str) -> str:
    """The folder above the first component of a path that is a pattern."""
    parts = PurePosixPath(path).parts
    first = next(number for number, part in enumerate(parts) if GLOB.search(part))
    return str(PurePosixPath(*parts[:first]))


def _check_names(documents: Collection[Document]) -> None:
    for document in documents:
        # In a file name, bytes that are not UTF-8 become surrogates.
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in document.name):
            raise InputError(
                f"files: the name {document.name!a} contains characters that cannot be sent. Rename the file."
            )
    # Two folders may contain files with the same name, and "a/b" is sent as "a__b".
    names = Counter(document.sent_name for document in documents)
    name, count = names.most_common(1)[0]
    if count > 1:
        raise InputError(
            f"files: {count} documents would have the name {name} in the index. Pass the folder above them, or rename one."
        )


_BOUNDARIES = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"[.!?]\s+"), re.compile(r"\s+"))
"""Where to split, best first: between paragraphs, lines, sentences, words."""


def pieces(text: str, limit: int) -> Iterator[str]:
    """Split a text into pieces.

    :param text: the text
    :param limit: maximum length of a piece in characters
    :return: the pieces in order, without blank ones
    """
    start = 0
    while start < len(text):
        end = start + limit
        if end < len(text):
            end = _split_position(text, start, end)
        piece = text[start:end].strip()
        if piece:
            yield piece
        start = end


def _split_position(text: str, start: int, end: int) -> int:
    """The last boundary in the second half of the piece; ``end`` if there is none."""
    middle = start + (end - start) // 2
    for pattern in _BOUNDARIES:
        cuts = [match.end() for match in pattern.finditer(text, middle, end)]
        if cuts:
            return cuts[-1]
    return end
