"""What is in an index: a small file beside the documents, so that a refresh adds only what is new."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.corpus.documents import DocumentVersion  # noqa: TC001 - msgspec reads the annotations
from airflow_provider_lamini.rows.errors import ConcurrentAccessError, OutputError
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.storage.locate import locate
from airflow_provider_lamini.rows.storage.uris import brief

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORMAT = "lamini-index-manifest"
_VERSION = 1


class Building(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A build that is under way.

    :param files: what was sent, by name
    :param submission: the record of its submission, as plain values
    """

    files: dict[str, DocumentVersion]
    submission: dict[str, Any]


class RefreshOutcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the last refresh has done.

    :param run: whose it was: a hash of Dag, task, run and map index
    :param action: ``built``, ``added``, ``rebuilt`` or ``unchanged``
    :param reason: why, in a few words
    :param added: files that were new
    :param changed: files whose content was another
    :param removed: files that were gone
    :param replaced: the index that was in use before, where a new one was built
    :param forced_by: the request whose ``force_new`` has asked for it
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
    """An index, and the files that are in it.

    :param platform: base URL of the platform that has it
    :param model_name: the model that it was built with
    :param index_id: the platform's id of the index; ``None`` before the first one is there
    :param files: the files in it, by name
    :param building: a build that will replace it
    :param wanted: what that build is for
    :param adding: a file that is being added: how much of it is in the index is not known
    :param outcome: what the last refresh has done
    :param token: changes with every writing
    """

    format: str = _FORMAT
    version: int = _VERSION
    platform: str
    model_name: str
    index_id: str | None = None
    files: dict[str, DocumentVersion] = {}
    building: Building | None = None
    wanted: RefreshOutcome | None = None
    adding: str | None = None
    outcome: RefreshOutcome | None = None
    token: str = ""


class ManifestFile:
    """The file that a manifest lies in. It has one writer at a time.

    :param uri: path or URI of the file; it need not exist
    :param conn_id: the Airflow connection to the object store
    :raises OutputError: for what is not the path of a file, or a file that is not a manifest
    """

    def __init__(self, uri: str, conn_id: str | None = None) -> None:
        self._folder, self._name = self._split(uri, conn_id)
        self._folder.clean()
        self.uri = self._folder.uri(self._name)
        """The file, absolute."""
        self.content = self._read()

    @staticmethod
    def _split(uri: str, conn_id: str | None) -> tuple[OutputFolder, str]:
        folder, slash, name = uri.rpartition("/")
        if not name or locate(uri, conn_id)[0].is_folder(locate(uri, conn_id)[1]):
            place = brief(uri).rstrip("/")
            raise OutputError(
                f"The manifest {brief(uri)} is a folder. Give the path of a file, such as {place}/index.json."
            )
        return OutputFolder((folder or "/") if slash else ".", conn_id), name

    @classmethod
    def check_place(cls, uri: str, conn_id: str | None = None) -> None:
        """Make sure that a manifest can be written, as far as the store tells without writing one.

        :param uri: path or URI of the file
        :param conn_id: the Airflow connection to the object store
        :raises OutputError: where it surely cannot
        :raises InputError: for what can be no path or URI
        """
        folder, name = cls._split(uri, conn_id)
        folder.uri(name)
        folder.check_writable()

    @property
    def known(self) -> Mapping[str, DocumentVersion]:
        """What is in the index, by name."""
        return {} if self.content is None else self.content.files

    def write(self, content: IndexManifest) -> None:
        """Replace the file.

        :param content: the new content
        :raises ManifestTakenError: where another process has written to it since it was read here
        """
        with self._folder.lock(self._name):
            self._write(content)

    def _write(self, content: IndexManifest) -> None:
        there = self._read()
        if (there.token if there else None) != (self.content.token if self.content else None):
            raise ManifestChangedError(
                f"{self.uri} was written to by another task while this one worked with it. Let one task at a time "
                "refresh an index, as with max_active_runs=1 on the Dag; a retry starts from what is there now."
            )
        self.content = msgspec.structs.replace(content, token=uuid.uuid4().hex)
        self._folder.write(self._name, msgspec.json.format(msgspec.json.encode(self.content), indent=1))

    def change(self, **values: Any) -> None:
        """Write it with some other values.

        :param values: the values, by field
        """
        if self.content is None:
            raise OutputError(f"{self.uri} is gone. Let nobody remove it while an index is refreshed.")
        self.write(msgspec.structs.replace(self.content, **values))

    def _read(self) -> IndexManifest | None:
        try:
            data = self._folder.read(self._name)
        except FileNotFoundError:
            return None
        try:
            content = msgspec.json.decode(data, type=IndexManifest)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            content = None
        if content is None or (content.format, content.version) != (_FORMAT, _VERSION):
            raise OutputError(
                f"{self.uri} is no manifest of an index, damaged, or of a newer version of airflow-provider-lamini. "
                "Choose another file; or remove this one, and an index is built anew."
            )
        return content


class ManifestChangedError(ConcurrentAccessError):
    """Another process refreshes the same index. This one must stop."""
