"""Counts the items of lists in a JSON object while it arrives, in constant memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# Each pattern consumes what it has matched for good (possessive quantifiers), so that it takes linear time.
_STRING = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_TOKENS = re.compile(
    rb'"' + _STRING + rb'"?'  # a string, perhaps without its end
    rb'|\[[^\[\]{}"]*+\]'  # a whole list without strings and nested values
    rb"|[\[\]{},:]|\s++|[^\s\[\]{},:\"\\]++",
    re.DOTALL,
)
_END_OF_STRING = re.compile(_STRING + rb'"', re.DOTALL)
_WHOLE_STRING = re.compile(rb'"' + _STRING + rb'"', re.DOTALL)
_MAX_NAME = 1000

MAX_DEPTH = 100
"""Maximum depth of nested lists and objects."""

MAX_TOKENS = 20_000_000
"""Maximum number of values, names and punctuation marks: a few seconds of work."""


@dataclass(slots=True)
class Counted:
    """What is known about the value of one field.

    :param is_list: whether it is a list
    :param items: number of its items
    :param nulls: number of those that are ``null``
    :param nested: whether the first item is a list or an object
    :param empty: whether it is ``null`` or an empty text, so that there is no value
    """

    is_list: bool = False
    items: int = 0
    nulls: int = 0
    nested: bool = False
    empty: bool = False


class JsonCounter:
    """Counts the items of lists that are fields of one JSON object.

    It checks only what it needs: brackets and strings must end, but the text between them may be anything.

    :param names: the fields
    """

    def __init__(self, names: Collection[str]) -> None:
        self.fields: dict[str, Counted] = {}
        self._names = {f'"{name}"'.encode(): name for name in names}
        self._depth = self._tokens = 0
        self._started = False
        self._in_string = False
        self._rest = b""
        """The end of the last block: a word, a field's name or an escape that continues in the next one."""
        self._name = b""
        self._value: Counted | None = None
        """The value of the current field, if that is counted."""
        self._in_value = False

    def feed(self, block: bytes) -> None:
        """Read the next bytes.

        :param block: some bytes
        :raises ValueError: if they are not part of a JSON object
        """
        data, start = self._rest + block, 0
        self._rest = b""
        if self._in_string:
            end = _END_OF_STRING.match(data)
            if end is None:
                self._rest = _cut_escape(data)
                return
            self._in_string, start = False, end.end()
        tokens = _TOKENS.findall(data, start)
        self._tokens += len(tokens)
        if self._tokens > MAX_TOKENS:
            raise ValueError(f"it has more than {MAX_TOKENS} values")
        last = tokens.pop() if tokens and _may_continue(tokens[-1]) else b""
        self._read(tokens)
        if last[:1] != b'"':
            self._rest = last
        elif self._depth == 1 and not self._in_value:
            self._rest = last + _cut_escape(data)
        else:
            self._read([last])
            self._in_string, self._rest = True, _cut_escape(data)
        if len(self._rest) > _MAX_NAME:
            raise ValueError("a name or a number is too long")

    def counts(self) -> Mapping[str, Counted]:
        """Return what was counted, by field; called once, at the end.

        :raises ValueError: if the object is not complete
        """
        if self._in_string or self._depth or not self._started or self._rest.strip():
            raise ValueError("it is not a complete JSON object")
        return self.fields

    def _read(self, tokens: list[bytes]) -> None:
        for token in tokens:
            if (token == b"," and self._depth > 1) or token.isspace():
                continue
            if self._depth == 2 and self._value is not None:  # noqa: PLR2004 - inside the list of a field
                self._read_item(token)
            elif self._depth <= 1:
                self._read_outside(token)
            else:
                self._move(token)

    def _read_outside(self, token: bytes) -> None:
        """Read a token of the object itself: a name, or the beginning of a value."""
        if self._depth == 0:
            if token != b"{" or self._started:
                raise ValueError("a JSON object was expected")
            self._started, self._depth = True, 1
        elif token == b",":
            self._in_value, self._value = False, None
        elif token == b":":
            self._in_value = True
            self._value = self._counted(self._names.get(self._name))
        elif not self._in_value:
            self._name = token
            self._move(token)
        else:
            self._begin_value(token)

    def _counted(self, name: str | None) -> Counted | None:
        if name is None:
            return None
        return self.fields.setdefault(name, Counted())

    def _begin_value(self, token: bytes) -> None:
        value = self._value
        if value is not None and token[:1] == b"[":
            value.is_list = True
            content = token[1:-1].strip()
            if len(token) > 1 and content:  # a whole list without nested values
                items = content.split(b",")
                value.items, value.nulls = len(items), sum(item.strip() == b"null" for item in items)
        elif value is not None:
            value.empty = token in (b"null", b'""')
        self._move(token)

    def _read_item(self, token: bytes) -> None:
        value = self._value
        assert value is not None  # noqa: S101 - for the type checker
        if token != b"]":
            if value.items == 0:
                value.nested = token[:1] in (b"[", b"{")
            value.items += 1
            value.nulls += token == b"null"
        self._move(token)

    def _move(self, token: bytes) -> None:
        if token in (b"[", b"{"):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise ValueError("it is nested too deeply")
        elif token in (b"]", b"}"):
            self._depth -= 1
            if self._depth < 0:
                raise ValueError("a bracket is closed that was not opened")


def _may_continue(token: bytes) -> bool:
    """Return whether the last token of a block may continue in the next one."""
    if token[:1] == b'"':
        return _WHOLE_STRING.fullmatch(token) is None
    return token[-1:] not in b"[]{},:" and not token.isspace()


def _cut_escape(data: bytes) -> bytes:
    """Return the backslash at the end of a cut string whose escaped character is in the next block."""
    backslashes = len(data) - len(data.rstrip(b"\\"))
    return b"\\" if backslashes % 2 else b""
