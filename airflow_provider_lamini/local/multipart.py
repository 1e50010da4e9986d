"""Forms with files, written to disk as they come in: neither size nor number of files takes memory."""

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

FIELD_BYTES: Final = 1 << 20
"""Most bytes of a field that is no file."""


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file of a form.

    :param name: what the client calls it
    :param path: where its content lies
    :param size: bytes
    """

    name: str
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Form:
    """What a form held.

    :param fields: its plain fields
    :param files: its files, in order
    """

    fields: dict[str, str]
    files: list[ReceivedFile]


def invalid(place: str, message: str, kind: str = "value_error") -> RequestValidationError:
    """An error of a request's body, in the platform's form.

    :param place: the field
    :param message: what is wrong with it
    :param kind: the error's type
    """
    return RequestValidationError([{"loc": ("body", place), "msg": message, "type": kind}])


async def receive(request: Request, folder: Path, file_field: str) -> Form:
    """Read a form and write its files into a folder.

    :param request: the request
    :param folder: the folder, which is there and empty
    :param file_field: the field that files come under
    :raises RequestValidationError: it is no such form
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise invalid(file_field, "A form with files (multipart/form-data) was expected.", "missing")
    receiver = _Receiver(folder, file_field)
    parser = MultipartParser(boundary, receiver.callbacks())
    try:
        async for block in request.stream():
            await asyncio.to_thread(parser.write, block)
        parser.finalize()
    except FormParserError:
        raise invalid(file_field, "The form is broken: it does not keep to multipart/form-data.") from None
    finally:
        receiver.close()
    if not receiver.complete:
        raise invalid(file_field, "The form is cut off: its last boundary is missing.")
    return Form(receiver.fields, receiver.files)


def _name(given: bytes) -> str:
    """A name in a form's header, where three signs are escaped."""
    name = given.decode(errors="replace")
    for escaped, sign in (("%22", '"'), ("%0D", "\r"), ("%0A", "\n")):
        name = name.replace(escaped, sign)
    return name


@dataclass(slots=True)
class _Part:
    name: str = ""
    file_name: str | None = None
    content: bytearray = field(default_factory=bytearray)
    size: int = 0
    file: IO[bytes] | None = None
    path: Path = field(default_factory=Path)


class _Receiver:
    """Takes a form apart while it comes in."""

    def __init__(self, folder: Path, file_field: str) -> None:
        self.fields: dict[str, str] = {}
        self.files: list[ReceivedFile] = []
        self.complete = False
        self._folder = folder
        self._file_field = file_field
        self._part = _Part()
        self._header = bytearray()
        self._value = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        """What the parser has to call."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._open,
            "on_part_data": self._take,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def close(self) -> None:
        """Close a file that was cut off."""
        if self._part.file is not None:
            self._part.file.close()

    def _begin(self) -> None:
        self._part = _Part()

    def _end_header(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._part.name = _name(options.get(b"name", b""))
            if b"filename" in options:
                self._part.file_name = _name(options[b"filename"])
        self._header.clear()
        self._value.clear()

    def _open(self) -> None:
        part = self._part
        if not part.name:
            raise invalid(self._file_field, "A part of the form has no name.")
        if part.file_name is None:
            if part.name == self._file_field:
                raise invalid(self._file_field, "A file was expected, not a text.")
            return
        if part.name != self._file_field:
            raise invalid(part.name, f"Files come under {self._file_field!r}, not under this name.")
        part.path = self._folder / f"{len(self.files):06d}"
        part.file = part.path.open("xb")

    def _take(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        part.size += end - start
        if part.file is not None:
            part.file.write(data[start:end])
            return
        if part.size > FIELD_BYTES:
            raise invalid(part.name, f"The field is longer than {FIELD_BYTES} bytes.")
        part.content += data[start:end]

    def _end(self) -> None:
        part = self._part
        if part.file is None:
            self.fields[part.name] = part.content.decode(errors="replace")
            return
        part.file.close()
        self.files.append(ReceivedFile(part.file_name or f"file {len(self.files)}", part.path, part.size))

    def _finish(self) -> None:
        self.complete = True
