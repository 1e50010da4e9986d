"""The manifest of an index: a small file that lists its documents, so that a refresh adds only what is new."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.corpus.documents import DocumentVersion  # noqa: TC001 - msgspec reads the annotations
from airflow_provider_lamini.rows.errors import ConcurrentAccessError, OutputError
from airflow_provider_lamini.rows.formats import PACKAGE, FileFormat, FormatError, NewerFormatError
from airflow_provider_lamini.rows.hashes import digest
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.storage.locate import locate
from airflow_provider_lamini.rows.storage.uris import short_uri

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = FileFormat(f"{PACKAGE}/index-manifest", 1)


class Building(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A build that is running.

    :param files: the documents that were sent, by name
    :param submission: its submission record, as plain values
    """

    files: dict[str, DocumentVersion]
    submission: dict[str, Any]


class RefreshOutcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The outcome of the last refresh.

    :param run: hash of the Dag, task, run and map index of the refresh
    :param action: ``built``, ``added``, ``rebuilt`` or ``unchanged``
    :param reason: the reason in a few words
    :param added: number of new files
    :param changed: number of changed files
    :param removed: number of removed files
    :param replaced: the index that was used before, if a new one was built
    :param forced_by: the request (`TaskIdentity.request_key`) whose ``force_new`` led to it
    """

    run: str
    action: str
    reason: str
    added: int = 0
    changed: int = 0
    removed: int = 0
    replaced: str | None = None
    forced_by: str | None = None


class IndexManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of the manifest.

    :param platform: base URL of the index's platform
    :param model_name: the model that the index was built with
    :param index_id: the platform's id of the index; ``None`` before the first one exists
    :param files: the files in the index, by name
    :param building: a running build of the index that will replace it
    :param purpose: the outcome once that build has succeeded
    :param adding: a file that is being added; nobody knows how much of it is in the index
    :param outcome: the outcome of the last refresh
    :param token: changes with each write
    """

    format: str = FORMAT.name
    version: int = FORMAT.version
    platform: str
    model_name: str
    index_id: str | None = None
    files: dict[str, DocumentVersion] = {}
    building: Building | None = None
    purpose: RefreshOutcome | None = None
    adding: str | None = None
    outcome: RefreshOutcome | None = None
    token: str = ""


class _Refreshes(msgspec.Struct, frozen=True):
    """What a manifest says about refreshes, without the files, which may be many."""

    format: str
    version: int
    purpose: RefreshOutcome | None = None
    outcome: RefreshOutcome | None = None


_MANIFEST = msgspec.json.Decoder(IndexManifest)
_REFRESHES = msgspec.json.Decoder(_Refreshes)


def run_key(identity: Mapping[str, object]) -> str:
    """Return what a manifest has of the run that refreshes the index.

    :param identity: Dag, task, run and map index, as records have them
    """
    return digest(identity)


def is_last_refresh(content: bytes, identity: Mapping[str, object]) -> bool:
    """Whether a run has written a manifest last: it has refreshed the index, or is building a new one.

    :param content: the file; if it is not the manifest of an index, no run has written it
    :param identity: as for `run_key`
    """
    try:
        found = FORMAT.decode(content, _REFRESHES, "the manifest")
    except FormatError:
        return False
    last = found.purpose or found.outcome
    return last is not None and last.run == run_key(identity)


def manifest_place(uri: str, conn_id: str | None) -> tuple[OutputFolder, str]:
    """Return the folder of a manifest, and the name of the file.

    :param uri: path or URI of the file; it need not exist
    :param conn_id: the Airflow connection to the object store
    :raises OutputError: if it is not the path of a file
    """
    folder, slash, name = uri.rpartition("/")
    if not name or locate(uri, conn_id)[0].is_folder(locate(uri, conn_id)[1]):
        folder_uri = short_uri(uri).rstrip("/")
        raise OutputError(
            f"The manifest {short_uri(uri)} is a folder. Pass the path of a file, such as {folder_uri}/index.json."
        )
    return OutputFolder((folder or "/") if slash else ".", conn_id), name


class ManifestFile:
    """The file of a manifest. It has one writer at a time.

    :param uri: path or URI of the file; it need not exist
    :param conn_id: the Airflow connection to the object store
    :raises OutputError: if it is not the path of a file, or this release cannot read the file
    """

    def __init__(self, uri: str, conn_id: str | None = None) -> None:
        self._folder, self._name = manifest_place(uri, conn_id)
        self._folder.clean()
        self.uri = self._folder.uri(self._name)
        """The absolute path or the URI of the file."""
        self.content = self._read()

    @classmethod
    def check_place(cls, uri: str, conn_id: str | None = None) -> None:
        """Check that a manifest can be written, as far as the store tells without a write.

        :param uri: path or URI of the file
        :param conn_id: the Airflow connection to the object store
        :raises OutputError: if it cannot
        :raises InputError: if it is not a valid path or URI
        """
        folder, name = manifest_place(uri, conn_id)
        folder.uri(name)
        folder.check_writable()

    @property
    def known(self) -> Mapping[str, DocumentVersion]:
        """The documents in the index, by name."""
        return {} if self.content is None else self.content.files

    def write(self, content: IndexManifest) -> None:
        """Replace the file.

        :param content: the new content
        :raises ManifestChangedError: if another process has written the file since this one read it
        """
        with self._folder.lock(self._name):
            self._write(content)

    def _write(self, content: IndexManifest) -> None:
        current = self._read()
        if (current.token if current else None) != (self.content.token if self.content else None):
            raise ManifestChangedError(
                f"Another task has written {self.uri} while this one was using it. Let only one task at a time refresh an "
                "index, for example with max_active_runs=1 on the Dag; a retry starts from the present file."
            )
        self.content = msgspec.structs.replace(content, token=uuid.uuid4().hex)
        self._folder.write(self._name, msgspec.json.format(msgspec.json.encode(self.content), indent=1))

    def change(self, **values: Any) -> None:
        """Replace some fields of the file.

        :param values: new values by field
        """
        if self.content is None:
            raise OutputError(f"{self.uri} is gone. It must not be removed while the index is refreshed.")
        self.write(msgspec.structs.replace(self.content, **values))

    def _read(self) -> IndexManifest | None:
        try:
            data = self._folder.read(self._name)
        except FileNotFoundError:
            return None
        try:
            return FORMAT.decode(data, _MANIFEST, self.uri)
        except NewerFormatError:
            raise
        except FormatError as error:
            raise OutputError(
                f"{self.uri} is not the manifest of an index, or it is damaged. Choose another file, or remove this one to "
                "build the index again."
            ) from error


class ManifestChangedError(ConcurrentAccessError):
    """Another process refreshes the same index. This process must stop."""
