"""What a user's package has: a model of an output, and a check. Tests name both by a dotted path."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Review(BaseModel):
    """A shape that every endpoint can decode."""

    mood: Literal["good", "bad"]
    kind: Literal["bug", "wish"]
    stars: int


def has_two(output: str) -> str | bool:
    """Accept texts with the word two."""
    return "two" in output or "there is no two"
