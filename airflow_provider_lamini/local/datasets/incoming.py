"""Rows out of a request's body while it comes in: a body of gigabytes takes no memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import ijson
from fastapi.exceptions import RequestValidationError
from ijson.common import ObjectBuilder

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.api.call import Json

ROWS: Final = "data"
"""The field that holds the rows."""

_OPENS: Final = frozenset({"start_map", "start_array"})
_CLOSES: Final = frozenset({"end_map", "end_array"})


class RowsReader:
    """Reads ``{..., "data": [row, ...], ...}``.

    :param take: takes each row
    """

    def __init__(self, take: Callable[[dict[str, Json]], None]) -> None:
        self.fields: dict[str, Json] = {}
        """The other fields, once everything is read."""
        self.rows = 0
        self._take = take
        self._events = ijson.sendable_list()
        self._parser = ijson.basic_parse_coro(self._events, use_float=True)
        self._depth = 0
        self._key = ""
        self._in_rows = False
        self._builder: ObjectBuilder | None = None
        self._ended = False

    def feed(self, block: bytes) -> None:
        """Take the next block of the body; an empty one ends it.

        :raises RequestValidationError: the body is no such JSON; its content is not told
        """
        try:
            if block:
                self._parser.send(block)
            else:
                self._parser.close()
        except ijson.JSONError:
            raise self._no_json() from None
        for event, value in self._events:
            self._handle(event, value)
        del self._events[:]
        if not block and not self._ended:
            raise self._no_json()

    def _no_json(self) -> RequestValidationError:
        said = (
            f"After {self.rows} rows the body is no valid JSON, is cut off, or holds a number beyond 64 bits."
        )
        return _error((), said, "json_invalid")

    def _handle(self, event: str, value: Json) -> None:
        if self._builder is not None:
            self._build(self._builder, event, value)
        elif self._depth == 0:
            if event != "start_map":
                raise _error((), "The body must be an object.", "model_attributes_type")
            self._depth = 1
        elif self._in_rows:
            self._row(event, value)
        elif event == "map_key":
            self._key = str(value)
        elif event == "end_map":
            self._depth, self._ended = 0, True
        elif self._key == ROWS:
            if event != "start_array":
                raise _error((ROWS,), "Input should be a valid list", "list_type")
            if self.rows:
                raise _error((ROWS,), "The field occurs twice.", "value_error")
            self._in_rows = True
        else:
            self._begin(event, value)

    def _row(self, event: str, value: Json) -> None:
        if event == "end_array":
            self._in_rows = False
        elif event == "start_map":
            self._begin(event, value)
        else:
            raise _error((ROWS, self.rows), "Input should be an object", "dict_type")

    def _begin(self, event: str, value: Json) -> None:
        self._builder = ObjectBuilder()
        self._build(self._builder, event, value)

    def _build(self, builder: ObjectBuilder, event: str, value: Json) -> None:
        builder.event(event, value)
        self._depth += (event in _OPENS) - (event in _CLOSES)
        if self._depth > 1:
            return
        self._builder = None
        if self._in_rows:
            try:
                self._take(builder.value)
            except RecursionError:
                raise _error((ROWS, self.rows), "The row is nested too deeply.", "value_error") from None
            self.rows += 1
        else:
            self.fields[self._key] = builder.value


def _error(place: tuple[str | int, ...], message: str, kind: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", *place), "msg": message, "type": kind}])
