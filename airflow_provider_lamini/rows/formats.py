"""File formats of this package: every file that a later release must still read names its format and its version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from airflow_provider_lamini.rows.errors import OutputError

PACKAGE = "airflow-provider-lamini"


class VersionedFile(Protocol):
    """What every file of this package says about itself."""

    @property
    def format(self) -> str:
        """The name of its format."""

    @property
    def version(self) -> int:
        """The version of its format."""


T = TypeVar("T", bound=VersionedFile)


@dataclass(frozen=True, slots=True)
class FileFormat:
    """The format of a JSON file.

    :param name: the format's name, the same in all versions
    :param version: the newest version that this release reads; it is the one that it writes
    """

    name: str
    version: int

    def decode(self, content: bytes, decoder: msgspec.json.Decoder[T], location: str) -> T:
        """Decode a file of this format.

        :param content: the file's content
        :param decoder: decodes the struct that describes it. It is made when its module is imported: if two threads
            resolve the types of a struct at the same moment, as its first use does, the process crashes.
        :param location: path or URI of the file, for messages
        :raises UnknownFormatError: if the content is not of this format, or incomplete
        :raises NewerFormatError: if a newer release has written the file
        :raises DamagedFileError: if the content does not match the format
        """
        try:
            document = decoder.decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._error(content, location) from None
        if document.format != self.name or document.version > self.version:
            raise self._error(content, location)
        return document

    def _error(self, content: bytes, location: str) -> FormatError:
        """Find out why a file cannot be decoded."""
        try:
            found = _FIELDS.decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            found = _FormatFields()
        if found.format != self.name:
            return UnknownFormatError(
                f"{location} is not a file of the format {self.name}, or it is incomplete."
            )
        if found.version > self.version:
            return NewerFormatError(
                f"A newer release of {PACKAGE} has written {location}: it has version {found.version} of its format, "
                f"and this release reads versions up to {self.version}. Upgrade {PACKAGE}."
            )
        return DamagedFileError(f"{location} is damaged.")


MANIFEST_FORMAT = FileFormat(f"{PACKAGE}/manifest", 1)
"""The manifest of a run over rows."""
SHARDS_FORMAT = FileFormat(f"{PACKAGE}/shards", 1)
"""The list of the folders of several runs."""


class FormatError(OutputError):
    """A file cannot be decoded as a file of its format."""


class UnknownFormatError(FormatError):
    """The file is not of the expected format, or incomplete."""


class NewerFormatError(FormatError):
    """A newer release has written the file."""


class DamagedFileError(FormatError):
    """The content of the file does not match its format."""


class _FormatFields(msgspec.Struct):
    format: str = ""
    version: int = 0


_FIELDS = msgspec.json.Decoder(_FormatFields)
