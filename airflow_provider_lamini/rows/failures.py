"""Why a row has failed: the one list of reasons that files, counts, logs and XCom share."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class FailureReason(StrEnum):
    """Why a row has no usable output. Finish reasons are mapped to these in ``answers/judging.py``."""

    BAD_ROW = "bad_row"
    """The row cannot be read, or a value of it cannot be used. It was not sent."""
    NO_PROMPT = "no_prompt"
    """A column that the prompt needs is missing, null or blank. The row was not sent."""
    NO_EXPECTED_ANSWER = "no_expected_answer"
    """A column that the expected answer needs is missing, null or blank. The row was not sent."""
    PROMPT_TOO_LONG = "prompt_too_long"
    """The prompt is longer than ``max_prompt_chars``, or than the platform accepts."""
    REJECTED = "rejected"
    """The platform refused the row."""
    PLATFORM_ERROR = "platform_error"
    """The platform fails at this row while it answers others."""
    TIMEOUT = "timeout"
    """A time limit ended the row."""
    NO_ANSWER = "no_answer"
    """The platform gave no answer for the row."""
    EMPTY = "empty"
    """The answer is empty."""
    REFUSED = "refused"
    """The model declined to answer."""
    FILTERED = "filtered"
    """A content filter stopped the answer."""
    TOOL_CALLS = "tool_calls"
    """The model called a tool instead of answering."""
    TRUNCATED = "truncated"
    """The token limit cut the answer off."""
    INVALID_OUTPUT = "invalid_output"
    """The answer does not have the requested shape."""
    CHECK_FAILED = "check_failed"
    """The check of the operator did not accept the answer."""
    UNDECODABLE = "undecodable"
    """The answer holds a value that JSON does not allow, such as half a surrogate pair or NaN."""

    @property
    def permanent(self) -> bool:
        """Whether the same row would fail again, so that sending it again only costs."""
        return self in _PERMANENT


class RowFailure(NamedTuple):
    """Why one row failed.

    :param reason: one of the list
    :param text: the same for a person; it contains neither the prompt nor the answer
    """

    reason: FailureReason
    text: str


_PERMANENT = frozenset(
    {
        FailureReason.BAD_ROW,
        FailureReason.NO_PROMPT,
        FailureReason.NO_EXPECTED_ANSWER,
        FailureReason.PROMPT_TOO_LONG,
        FailureReason.REJECTED,
        FailureReason.REFUSED,
        FailureReason.FILTERED,
    }
)
