"""Streaming parser for dataset uploads: parses rows while the request body arrives, at constant memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import ijson
from fastapi.exceptions import RequestValidationError
from ijson.common import ObjectBuilder

from airflow_provider_lamini.local.edge.json_bodies import EscapeCheck

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.api.call import Json

ROWS_FIELD: Final = "data"
"""The field that holds the rows."""

MAX_ROW_BYTES: Final = 16 << 20
"""Maximum size of a row, and of the other fields."""

_OPENING: Final = frozenset({"start_map", "start_array"})
_CLOSING: Final = frozenset({"end_map", "end_array"})


class UploadParser:
    """Parses ``{..., "data": [row, ...], ...}``.

    :param on_row: called with each row
    """

    def __init__(self, on_row: Callable[[dict[str, Json]], None]) -> None:
        self.fields: dict[str, Json] = {}
        """All other fields; complete at the end of the body."""
        self.rows = 0
        self._on_row = on_row
        self._events = ijson.sendable_list()
        self._parser = ijson.basic_parse_coro(self._events, use_float=True)
        self._depth = 0
        self._key = ""
        self._in_rows = False
        self._builder: ObjectBuilder | None = None
        self._ended = False
        self._check = EscapeCheck()
        self._pending = 0  # bytes since the last complete row, at most

    def feed(self, chunk: bytes) -> None:
        """Parse the next chunk of the body. An empty chunk marks its end.

        :raises RequestValidationError: the body is invalid; the error does not repeat its content
        :raises InvalidBodyError: it has half of a surrogate pair
        """
        self._check.feed(chunk)
        rows = self.rows
        try:
            if chunk:
                self._parser.send(chunk)
            else:
                self._parser.close()
        except (ijson.JSONError, UnicodeDecodeError):
            raise self._invalid_json() from None
        for event, value in self._events:
            self._handle(event, value)
        del self._events[:]
        self._pending = len(chunk) if self.rows > rows else self._pending + len(chunk)
        if self._pending > MAX_ROW_BYTES:
            raise _error(
                (ROWS_FIELD, self.rows), f"The row is larger than {MAX_ROW_BYTES >> 20} MiB.", "value_error"
            )
        if not chunk and not self._ended:
            raise self._invalid_json()

    def _invalid_json(self) -> RequestValidationError:
        message = f"After {self.rows} rows, the body is not valid JSON, is incomplete, or has a number beyond 64 bits."
        return _error((), message, "json_invalid")

    def _handle(self, event: str, value: Json) -> None:
        if self._builder is not None:
            self._build(self._builder, event, value)
        elif self._depth == 0:
            if event != "start_map":
                raise _error((), "The body must be an object.", "model_attributes_type")
            self._depth = 1
        elif self._in_rows:
            self._handle_row(event, value)
        elif event == "map_key":
            self._key = str(value)
        elif event == "end_map":
            self._depth, self._ended = 0, True
        elif self._key == ROWS_FIELD:
            if event != "start_array":
                raise _error((ROWS_FIELD,), "Input should be a valid list", "list_type")
            if self.rows:
                raise _error((ROWS_FIELD,), "The field occurs twice.", "value_error")
            self._in_rows = True
        else:
            self._begin_value(event, value)

    def _handle_row(self, event: str, value: Json) -> None:
        if event == "end_array":
            self._in_rows = False
        elif event == "start_map":
            self._begin_value(event, value)
        else:
            raise _error((ROWS_FIELD, self.rows), "Input should be an object", "dict_type")

    def _begin_value(self, event: str, value: Json) -> None:
        self._builder = ObjectBuilder()
        self._build(self._builder, event, value)

    def _build(self, builder: ObjectBuilder, event: str, value: Json) -> None:
        builder.event(event, value)
        self._depth += (event in _OPENING) - (event in _CLOSING)
        if self._depth > 1:
            return
        self._builder = None
        if self._in_rows:
            try:
                self._on_row(builder.value)
            except RecursionError:
                raise _error(
                    (ROWS_FIELD, self.rows), "The row is nested too deeply.", "value_error"
                ) from None
            self.rows += 1
        else:
            self.fields[self._key] = builder.value


def _error(location: tuple[str | int, ...], message: str, kind: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", *location), "msg": message, "type": kind}])
