"""What a platform is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class FieldKind(Enum):
    """What a field holds, and so how forms show it and how its value is read."""

    TEXT = "string"
    SECRET = "password"  # noqa: S105 - a kind of field
    NUMBER = "number"
    INTEGER = "integer"
    FLAG = "boolean"
    MAPPING = "object"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionField:
    """One extra field of a connection.

    :param name: key in the connection's extra
    :param kind: what it holds
    :param title: label in forms
    :param help: help text in forms, one or two short sentences
    :param default: value that a form starts with; ``None`` leaves the field empty
    :param minimum: least value that a form offers
    """

    name: str
    kind: FieldKind
    title: str
    help: str
    default: bool | None = None
    minimum: float | None = None
