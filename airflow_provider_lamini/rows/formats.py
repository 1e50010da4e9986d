"""File formats of this package: every file that a later release must still read names its format and its version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import msgspec

from airflow_provider_lamini.rows.errors import OutputError

PACKAGE = "airflow-provider-lamini"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FileFormat:
    """The format of a JSON file.

    :param name: the format's name, the same in all versions
    :param version: the newest version that this release reads; it is the one that it writes
    """

    name: str
    version: int

    def decode(self, content: bytes, shape: type[T], location: str) -> T:
        """Decode a file of this format.

        :param content: the file's content
        :param shape: the struct that describes it
        :param location: path or URI of the file, for messages
        :raises UnknownFormatError: if the content is not of this format, or incomplete
        :raises NewerFormatError: if a newer release has written the file
        :raises DamagedFileError: if the content does not match the format
        """
        try:
            found = msgspec.json.decode(content, type=_FormatFields)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            found = _FormatFields()
        if found.format != self.name:
            raise UnknownFormatError(
                f"{location} is not a file of the format {self.name}, or it is incomplete."
            )
        if found.version > self.version:
            raise NewerFormatError(
                f"A newer release of {PACKAGE} has written {location}: it has version {found.version} of its format, "
                f"and this release reads versions up to {self.version}. Upgrade {PACKAGE}."
            )
        try:
            return msgspec.json.decode(content, type=shape)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise DamagedFileError(f"{location} is damaged.") from None


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
