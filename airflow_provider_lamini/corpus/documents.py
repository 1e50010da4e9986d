"""Documents: whole files for an index, found in a folder or by a pattern, told apart by their checksums."""

from __future__ import annotations

import glob
import hashlib
import mimetypes
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
    from collections.abc import Collection, Iterable, Mapping

    from airflow_provider_lamini.rows.storage.base import FileInfo, Store

_BLOCK = 1024 * 1024
_NAMED = 5


class DocumentVersion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a document's content was.

    :param size: bytes
    :param sha256: the checksum, as hexadecimal digits
    :param version: the store's own mark of the file; while it stays the same, the file need not be read again
    """

    size: int
    sha256: str
    version: str = ""

    def same(self, other: DocumentVersion) -> bool:
        """Whether both are of the same content."""
        return self.sha256 == other.sha256


@dataclass(frozen=True, slots=True)
class Document:
    """A file that goes into an index.

    :param name: its path below the folder that was named, with slashes
    :param info: as its store sees it
    :param store: where it lies
    """

    name: str
    info: FileInfo
    store: Store

    @property
    def sent_name(self) -> str:
        """The name that the platform sees: it has no folders."""
        return self.name.replace("/", "__")

    def part(self) -> FilePart:
        """The file for a form; it is opened when sent and read in blocks."""
        content_type = mimetypes.guess_type(self.name)[0] or "application/octet-stream"
        return FilePart(self.sent_name, lambda: self.store.open(self.info.path), content_type)

    def stamp(self, known: DocumentVersion | None = None) -> DocumentVersion:
        """What the content is, read in blocks.

        :param known: what it was before; taken as it is where the store says that the file is the same
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
        """The content as text; ``None`` where it is none, in UTF-8."""
        try:
            text = self.store.read(self.info.path).decode("utf-8-sig")
        except UnicodeDecodeError:
            return None
        return None if "\0" in text else text


def find_documents(
    given: object, *, conn_id: str | None = None, leave_out: str | None = None
) -> list[Document]:
    """Find the files that were named. They are looked up, not read.

    :param given: a path, a URI or a glob, or a list of such. A folder stands for all files in it and below it.
        Hidden files and folders, whose names begin with a dot, are left out.
    :param conn_id: the Airflow connection to the object store
    :param leave_out: a file that is none of the documents, though it may lie among them
    :return: the documents, sorted by name
    :raises InputError: for what is no path, where there is no file, and for two files with one name
    """
    places = [given] if isinstance(given, str) else given
    if not isinstance(places, Sequence) or not all(
        isinstance(place, str) and place.strip() for place in places
    ):
        raise InputError(f"files is {_kind(given)}. Give a path, a URI or a glob, or a list of such.")
    without = None if leave_out is None else locate(leave_out, conn_id)[1]
    found = {
        document.info.path: document
        for place in places
        for document in _at(place, conn_id)
        if document.info.path != without
    }
    if not found:
        raise InputError(f"files: there are no documents in {_listed(places)}.")
    if not any(document.info.size for document in found.values()):
        raise InputError(f"files: all documents in {_listed(places)} are empty.")
    _check_names(found.values())
    return sorted(found.values(), key=lambda document: document.name)


def stamps(documents: Iterable[Document], known: Mapping[str, DocumentVersion]) -> dict[str, DocumentVersion]:
    """What documents hold, by name.

    :param documents: the documents
    :param known: what those of the same names held before
    """
    return {document.name: document.stamp(known.get(document.name)) for document in documents}


def _at(place: str, conn_id: str | None) -> list[Document]:
    store, path = locate(place, conn_id)
    if store.is_folder(path):
        root, found = path, store.glob(f"{glob.escape(path.rstrip('/'))}/**/*")
    else:
        try:
            root, found = str(PurePosixPath(path).parent), [store.info(path)]
        except (FileNotFoundError, NotADirectoryError):
            if not GLOB.search(path):
                raise InputError(f"files: {short_uri(place)} does not exist.") from None
            root, found = _before_pattern(path), store.glob(path)
    named = ((PurePosixPath(info.path).relative_to(PurePosixPath(root)), info) for info in found)
    return [
        Document(name.as_posix(), info, store)
        for name, info in named
        if not any(part.startswith(".") for part in name.parts)
    ]


def _kind(given: object) -> str:
    if isinstance(given, str):
        return "an empty text"
    return "a list with an entry that is no path" if isinstance(given, Sequence) else kind(given)


def _listed(places: Sequence[str]) -> str:
    more = ", ..." if len(places) > _NAMED else ""
    return f"{', '.join(map(short_uri, places[:_NAMED]))}{more}" if places else "an empty list"


def _before_pattern(path: str) -> str:
    """The folder above the first part of a path that is a pattern."""
    parts = PurePosixPath(path).parts
    first = next(number for number, part in enumerate(parts) if GLOB.search(part))
    return str(PurePosixPath(*parts[:first]))


def _check_names(documents: Collection[Document]) -> None:
    for document in documents:
        # Bytes that are no UTF-8 are surrogates here.
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in document.name):
            raise InputError(
                f"files: the name {document.name!a} has characters that cannot be sent. Rename the file."
            )
    # Two folders may hold files of one name, and "a/b" is sent as "a__b".
    names = Counter(document.sent_name for document in documents)
    name, count = names.most_common(1)[0]
    if count > 1:
        raise InputError(
            f"files: {count} documents would be called {name} in the index. Name the folder above them, or rename one."
        )
