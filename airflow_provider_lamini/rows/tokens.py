"""The tokens of answers, as a platform counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")
"""The names under which tokens are summed."""


class TokenUsage(Protocol):
    """The tokens of one answer."""

    @property
    def prompt_tokens(self) -> float:
        """Tokens of the prompt."""

    @property
    def completion_tokens(self) -> float:
        """Tokens of the output."""

    @property
    def total_tokens(self) -> float:
        """Both."""


def sum_tokens(usages: Iterable[TokenUsage | None]) -> dict[str, float]:
    """Sum the tokens of answers.

    :param usages: the tokens of each answer; ``None`` if the platform did not count them
    :return: the sums by name; empty if the platform counted none
    """
    counted = [usage for usage in usages if usage is not None]
    return {name: sum(getattr(usage, name) for usage in counted) for name in TOKENS} if counted else {}
