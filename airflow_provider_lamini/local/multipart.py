"""Multipart forms with files. Files are written to disk while they arrive, so an upload takes little memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from fastapi.exceptions import RequestValidationError
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

if TYPE_CHECKING:
    from fastapi import Request
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELD_BYTES: Final = 1 << 20
"""Maximum size of a field that is not a file."""

MAX_PARTS: Final = 10_000
"""Maximum number of files and fields of a form."""

MAX_HEADER_BYTES: Final = 16 << 10
"""Maximum size of a header of a part."""


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """An uploaded file.

    :param name: file name as sent by the client
    :param path: where its content was written
    :param size: size in bytes
    """

    name: str
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Form:
    """A received form.

    :param fields: fields that are not files
    :param files: files in the order they were sent
    """

    fields: dict[str, str]
    files: list[ReceivedFile]


def invalid_field(name: str, message: str, kind: str = "value_error") -> RequestValidationError:
    """Build a validation error for one field of a request body.

    :param name: name of the field
    :param message: what is wrong with it
    :param kind: pydantic's type of the error
    """
    return RequestValidationError([{"loc": ("body", name), "msg": message, "type": kind}])


async def receive_form(request: Request, folder: Path, file_field: str) -> Form:
    """Read a multipart form and write its files into a folder.

    :param request: the request
    :param folder: an existing, empty folder
    :param file_field: the only field that may hold files
    :raises RequestValidationError: the body is not a valid form, or has files in another field
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise invalid_field(file_field, "Expected a form with files (multipart/form-data).", "missing")
    receiver = _FormReceiver(folder, file_field)
    parser = MultipartParser(boundary, receiver.callbacks())
    try:
        async for chunk in request.stream():
            await asyncio.to_thread(parser.write, chunk)
        parser.finalize()
    except FormParserError:
        raise invalid_field(file_field, "The form is not valid multipart/form-data.") from None
    finally:
        receiver.close()
    if not receiver.complete:
        raise invalid_field(file_field, "The form is incomplete: its final boundary is missing.")
    return Form(receiver.fields, receiver.files)


def _unescape(name: bytes) -> str:
    """Decode a name in a part's header, where quotes and line breaks are percent-encoded."""
    text = name.decode(errors="replace")
    for escaped, character in (("%22", '"'), ("%0D", "\r"), ("%0A", "\n")):
        text = text.replace(escaped, character)
    return text


@dataclass(slots=True)
class _Part:
    name: str = ""
    file_name: str | None = None
    content: bytearray = field(default_factory=bytearray)
    size: int = 0
    file: IO[bytes] | None = None
    path: Path = field(default_factory=Path)


class _FormReceiver:
    """Collects a form's fields and files from the parser's callbacks."""

    def __init__(self, folder: Path, file_field: str) -> None:
        self.fields: dict[str, str] = {}
        self.files: list[ReceivedFile] = []
        self.complete = False
        self._folder = folder
        self._file_field = file_field
        self._part = _Part()
        self._parts = 0
        self._header_name = bytearray()
        self._header_value = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        """Callbacks for the parser."""
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._extend(self._header_name, data[start:end]),
            "on_header_value": lambda data, start, end: self._extend(self._header_value, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
            "on_end": self._end_form,
        }

    def close(self) -> None:
        """Close the file of a part that was cut off."""
        if self._part.file is not None:
            self._part.file.close()

    def _begin_part(self) -> None:
        self._part = _Part()
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise invalid_field(self._file_field, f"The form has more than {MAX_PARTS} parts.")

    def _extend(self, header: bytearray, piece: bytes) -> None:
        header += piece
        if len(header) > MAX_HEADER_BYTES:
            raise invalid_field(
                self._file_field, f"A header of a part is longer than {MAX_HEADER_BYTES} bytes."
            )

    def _end_header(self) -> None:
        if bytes(self._header_name).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._header_value))
            self._part.name = _unescape(options.get(b"name", b""))
            if b"filename" in options:
                self._part.file_name = _unescape(options[b"filename"])
        self._header_name.clear()
        self._header_value.clear()

    def _end_headers(self) -> None:
        part = self._part
        if not part.name:
            raise invalid_field(self._file_field, "A part of the form has no name.")
        if part.file_name is None:
            if part.name == self._file_field:
                raise invalid_field(self._file_field, "Expected a file, not text.")
            return
        if part.name != self._file_field:
            raise invalid_field(part.name, f"Files must be sent as {self._file_field!r}.")
        part.path = self._folder / f"{len(self.files):06d}"
        part.file = part.path.open("xb")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        part.size += end - start
        if part.file is not None:
            part.file.write(data[start:end])
            return
        if part.size > MAX_FIELD_BYTES:
            raise invalid_field(part.name, f"The field is longer than {MAX_FIELD_BYTES} bytes.")
        part.content += data[start:end]

    def _end_part(self) -> None:
        part = self._part
        if part.file is None:
            self.fields[part.name] = part.content.decode(errors="replace")
            return
        part.file.close()
        self.files.append(ReceivedFile(part.file_name or f"file {len(self.files)}", part.path, part.size))

    def _end_form(self) -> None:
        self.complete = True
