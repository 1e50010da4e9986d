"""Keeps keys and prompts out of what the platform says of a call."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import FilePart, Json
    from airflow_provider_lamini.api.dialect import Dialect

LONGEST = 300
"""Characters of a platform's text that are shown at most."""

_LEFT_OUT = "[...]"
_SHORTEST_TEXT = 6
_WINDOW = 16
_STEP = 8
_BLOCK = 1 << 20
_SURELY_SECRET = 16
_TOKENS = re.compile(
    r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}"  # of the Hugging Face hub
    r"|(?<=bearer )[\w.~+/=-]{8,}"
    r"|(?<=://)[^/\s@]+(?=@)",  # user and password in a URL
    re.IGNORECASE,
)


def without_tokens(text: str) -> str:
    """Take out what looks like a token of some hub, whose value is not known here.

    :param text: what the platform says of its work with a hub
    """
    return _TOKENS.sub("***", text)


def without(content: bytes, secrets: Sequence[str]) -> bytes:
    """Take secrets out of an answer that repeats them: states and logs of jobs go on to logs and events.

    :param content: the answer
    :param secrets: the settings' secrets; short ones stay, which may be words of a text
    """
    for secret in secrets:
        found = secret.encode()
        if len(found) >= _SURELY_SECRET and found in content:
            content = content.replace(found, b"***")
    return content


def shown(text: str, *, secrets: Sequence[str], sent: Json, dialect: Dialect) -> str:
    """Make a text of the platform fit to be shown: one line, short, without secrets and what was sent.

    :param text: what the platform said
    :param secrets: the settings' secrets
    :param sent: the body of the call; its prompts and rows are left out where the text repeats them
    :param dialect: names the fields of the body that hold data and secrets
    """
    if not text:
        return ""  # what was sent may be long, and is looked at for nothing else
    for secret in secrets:
        text = text.replace(secret, "***")
    # A cut may leave a piece of something sent at the end, so that what was sent goes first, then the rest.
    line = _one_line(text[: LONGEST * 4])
    line = _without_sent(line, [_one_line(each) for each in _data_texts(sent, dialect)])
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."


def unless_in(content: FilePart, line: str) -> str:
    """Leave a text out that repeats a piece of a body that was sent from a file.

    :param content: the body; it is read once, in blocks
    :param line: what the platform said, short
    """
    pieces = [line[start : start + _WINDOW].encode() for start in range(0, len(line) - _WINDOW + 1, _STEP)]
    if not pieces:
        return line
    before = b""
    with content.open() as file:
        while block := file.read(_BLOCK):
            here = before + block
            if any(piece in here for piece in pieces):
                return _LEFT_OUT
            before = here[-4 * _WINDOW :]
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


def _without_sent(line: str, texts: list[str]) -> str:
    for text in texts:
        if _SHORTEST_TEXT <= len(text) <= len(line) and text in line:
            line = line.replace(text, _LEFT_OUT)
    everything = "\0".join(texts)
    start = 0
    while start + _WINDOW <= len(line):
        place = everything.find(line[start : start + _WINDOW])
        if place < 0:
            start += _STEP
            continue
        first, last = _stretched(line, start, everything, place)
        line = line[:first] + _LEFT_OUT + line[last:]
        start = first + len(_LEFT_OUT)
    return line


def _stretched(line: str, start: int, everything: str, place: int) -> tuple[int, int]:
    """Return where in ``line`` the repetition that begins at ``start`` really begins and ends."""
    back = 0
    while back < min(start, place) and line[start - back - 1] == everything[place - back - 1]:
        back += 1
    length = _WINDOW
    room = min(len(line) - start, len(everything) - place)
    while length < room and line[start + length] == everything[place + length]:
        length += 1
    return start - back, start + length
