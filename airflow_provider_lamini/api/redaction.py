"""Removes keys and prompts from texts of the platform before they reach logs and errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import BodyReader, FilePart, Json
    from airflow_provider_lamini.api.dialect import Dialect

T_co = TypeVar("T_co", covariant=True)

MAX_LENGTH = 300
"""Maximum characters of a platform's text in a message."""

_OMITTED = "[...]"
_MIN_TEXT = 6
_WINDOW = 16
_STEP = 8
_BLOCK = 1 << 20
_MIN_SECRET = 16
_TOKENS = re.compile(
    r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}"  # Hugging Face tokens
    r"|(?<=bearer )[\w.~+/=-]{8,}"
    r"|(?<=://)[^/\s@]+(?=@)",  # user and password in a URL
    re.IGNORECASE,
)


def remove_tokens(text: str) -> str:
    """Remove what looks like a token of a model hub.

    :param text: what the platform reports about a hub
    """
    return _TOKENS.sub("***", text)


def remove_secrets(content: bytes, secrets: Sequence[str]) -> bytes:
    """Remove secrets from a response: statuses and logs of jobs are passed on to logs and events.

    :param content: the response
    :param secrets: the secrets; short ones stay, because they may be ordinary words
    """
    for secret in secrets:
        found = secret.encode()
        if len(found) >= _MIN_SECRET and found in content:
            content = content.replace(found, b"***")
    return content


class RedactingReader(Generic[T_co]):
    """Removes secrets from a body before another reader reads it; also those that two blocks share.

    :param reader: the other reader
    :param secrets: the secrets; short ones stay, because they may be ordinary words
    """

    def __init__(self, reader: BodyReader[T_co], secrets: Sequence[str]) -> None:
        self._reader = reader
        self._secrets = secrets
        self._held_back = max((len(secret.encode()) for secret in secrets), default=1) - 1
        self._end = b""

    def feed(self, block: bytes) -> None:
        """Read the next bytes.

        :param block: some bytes
        :raises ValueError: if the body is invalid
        """
        content = remove_secrets(self._end + block, self._secrets)
        cut = max(0, len(content) - self._held_back)
        self._end = content[cut:]
        self._reader.feed(content[:cut])

    def result(self) -> T_co:
        """Return the other reader's result.

        :raises ValueError: if the body is invalid
        """
        self._reader.feed(self._end)
        return self._reader.result()


def redact(text: str, *, secrets: Sequence[str], sent: Json, dialect: Dialect) -> str:
    """Return a text of the platform as one short line, without secrets and without what was sent.

    :param text: the platform's text
    :param secrets: the secrets
    :param sent: the body of the call; its prompts and rows are replaced where the text repeats them
    :param dialect: names the fields of the body that hold data and secrets
    """
    if not text:
        return ""  # the body of the call may be long
    for secret in secrets:
        text = text.replace(secret, "***")
    # Data is removed before the line is shortened: the cut might leave a piece of it that is not recognized.
    line = _one_line(text[: MAX_LENGTH * 4])
    line = _remove_texts(line, [_one_line(value) for value in _data_texts(sent, dialect)])
    return line if len(line) <= MAX_LENGTH else line[: MAX_LENGTH - 3] + "..."


def redact_file(content: FilePart, line: str) -> str:
    """Replace a text that repeats a piece of a file that was sent.

    :param content: the file; it is read once, in blocks
    :param line: the platform's text, shortened
    """
    pieces = [line[start : start + _WINDOW].encode() for start in range(0, len(line) - _WINDOW + 1, _STEP)]
    if not pieces:
        return line
    before = b""
    with content.open() as file:
        while block := file.read(_BLOCK):
            window = before + block
            if any(piece in window for piece in pieces):
                return _OMITTED
            before = window[-4 * _WINDOW :]
    return line


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    if line.isprintable():
        return line
    return " ".join("".join(char if char.isprintable() else " " for char in line).split())


def _data_texts(sent: Json, dialect: Dialect) -> Iterator[str]:
    if isinstance(sent, Mapping):
        for name, value in sent.items():
            if name in dialect.data_fields or name in dialect.secret_fields:
                yield from _texts(value)


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _remove_texts(line: str, texts: list[str]) -> str:
    for text in texts:
        if _MIN_TEXT <= len(text) <= len(line) and text in line:
            line = line.replace(text, _OMITTED)
    all_texts = "\0".join(texts)
    start = 0
    while start + _WINDOW <= len(line):
        found = all_texts.find(line[start : start + _WINDOW])
        if found < 0:
            start += _STEP
            continue
        first, last = _extend(line, start, all_texts, found)
        line = line[:first] + _OMITTED + line[last:]
        start = first + len(_OMITTED)
    return line


def _extend(line: str, start: int, all_texts: str, found: int) -> tuple[int, int]:
    """Return the start and end in ``line`` of the whole repetition around ``start``."""
    back = 0
    while back < min(start, found) and line[start - back - 1] == all_texts[found - back - 1]:
        back += 1
    length = _WINDOW
    room = min(len(line) - start, len(all_texts) - found)
    while length < room and line[start + length] == all_texts[found + length]:
        length += 1
    return start - back, start + length
