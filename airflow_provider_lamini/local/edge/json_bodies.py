"""Checks of a JSON body before it is decoded: valid UTF-8, no lone surrogates, a bounded number of values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import ijson
from starlette.exceptions import HTTPException

from airflow_provider_lamini.local.edge.limits import MAX_VALUES
from airflow_provider_lamini.local.errors import InvalidBodyError

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE: Final = 1 << 16
"""Bytes that are parsed at a time while values are counted."""

PAIR: Final = len(rb"\ud83d\ude00")
"""Length of the longest escape."""

# Linear: no character can be matched in two ways, and nothing is matched a second time.
_VALID: Final = re.compile(
    rb"(?:[^\\]++|\\(?:[^u]|u(?:[^dD]|[dD][0-7])|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))*+",
    re.DOTALL,
)
_VALUE_EVENTS: Final = frozenset({"null", "boolean", "number", "string", "start_map", "start_array"})


def check_json(body: bytes) -> None:
    """Check a JSON body. Errors of syntax are left to the endpoint.

    :param body: the whole body
    :raises InvalidBodyError: a text is not valid Unicode
    :raises HTTPException: 413 for too many values
    """
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidBodyError(f"The body is not valid UTF-8 at byte {error.start}") from None
    if b"\x00" in body:
        raise InvalidBodyError("The body contains a NUL byte")
    # Commas bound the number of values from above, as texts may contain some, too.
    if body.count(b",") >= MAX_VALUES and _has_too_many_values(body):
        raise HTTPException(413, f"The body has more than {MAX_VALUES} values: send it in several requests.")
    if b"\\ud" in body or b"\\uD" in body:
        check = EscapeCheck()
        check.feed(body)
        check.feed(b" " * PAIR)


class EscapeCheck:
    """Checks that the escapes of JSON text form valid Unicode, while the text arrives."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        """Check the next piece.

        :raises InvalidBodyError: it has half of a surrogate pair
        """
        text = self._rest + piece
        valid = _VALID.match(text)
        self._rest = text[valid.end() :] if valid else text
        # What is shorter may be the begin of a pair whose end has not arrived.
        if len(self._rest) >= PAIR:
            raise InvalidBodyError("The body has half of a surrogate pair, which is not valid Unicode")


def _has_too_many_values(body: bytes) -> bool:
    values = 0
    events = ijson.sendable_list()
    parser = ijson.basic_parse_coro(events, use_float=True)
    try:
        for piece in _pieces(body):
            parser.send(piece)
            values += sum(event in _VALUE_EVENTS for event, _ in events)
            del events[:]
            if values > MAX_VALUES:
                return True
    except ijson.JSONError:
        return False  # the endpoint reports it, without reading further either
    return False


def _pieces(body: bytes) -> Iterator[bytes]:
    return (body[start : start + PIECE] for start in range(0, len(body), PIECE))
