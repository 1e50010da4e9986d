"""What bounds a run: what it may cost, and how many of its rows may fail."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.values import kind
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint, JobEndpoint


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run over all tries; ``None`` for no limit.

    :param rows: rows of the input
    :param characters: characters of all prompts
    :param tokens: tokens that the platform counts, of prompts and answers
    """

    rows: int | None = None
    characters: int | None = None
    tokens: int | None = None

    def refusal(
        self,
        rows: int,
        characters: int,
        endpoint: JobEndpoint | DirectEndpoint | None = None,
        *,
        texts: str = "prompts",
    ) -> str | None:
        """Why an input must not be sent; ``None`` if it may be.

        :param rows: its rows
        :param characters: characters of its prompts
        :param endpoint: the endpoint that it is sent to; ``None`` if none answers the rows
        :param texts: what has these characters
        """
        if self.tokens is not None and not (endpoint and endpoint.reports_tokens):
            return "max_total_tokens cannot be kept: this endpoint reports no tokens. Remove it, perhaps for max_input_chars"
        if self.rows is not None and rows > self.rows:
            return f"max_rows allows {counted(self.rows, 'row')}, and the input has {rows}"
        if self.characters is not None and characters > self.characters:
            return f"max_input_chars allows {counted(self.characters, 'character')}, and the {texts} have {characters}"
        return None


_COUNT = re.compile(r"\d+")
_PERCENT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*%")
_SHARE = re.compile(r"\d*\.\d*(?:[eE][+-]?\d{1,3})?|\d+[eE]-\d{1,3}")
_MAX_LENGTH = 40
_NO_LIMIT = frozenset({"", "none", "null"})


@dataclass(frozen=True, slots=True)
class FailureLimit:
    """How many rows of a run may fail.

    :param count: number of rows; ``None`` if there is a share or no limit
    :param share: fraction of all rows, 0 to 1; ``None`` if there is a count or no limit
    """

    count: int | None = None
    share: Fraction | None = None

    @classmethod
    def parse(cls, value: object) -> FailureLimit:
        """Parse the limit that a user has passed, perhaps as text from a template.

        :param value: an integer, or its digits, for a number of rows; a number between 0 and 1 with a decimal point
            (``0.05``), or a percentage (``"5%"``), for a fraction of all rows; ``None`` for no limit
        :raises ValueError: for any other value
        """
        if value is None or (isinstance(value, str) and value.strip().lower() in _NO_LIMIT):
            return cls()
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError(f"max_failed_rows is {kind(value)}. {_EXPECTED}")  # noqa: TRY004 - one kind for callers
        if isinstance(value, int):
            return cls._of_count(value)
        if isinstance(value, float):
            return cls._of_share(value)
        text = value.strip()
        if len(text) > _MAX_LENGTH:
            raise ValueError(f"max_failed_rows is a text of {counted(len(text), 'character')}. {_EXPECTED}")
        if _COUNT.fullmatch(text):
            return cls._of_count(int(text))
        percent = _PERCENT.fullmatch(text)
        if percent:
            return cls._of_share(Fraction(percent[1]) / 100)
        if _SHARE.fullmatch(text) and text != ".":
            return cls._of_share(Fraction(text))
        raise ValueError(f"max_failed_rows is {value!r}. {_EXPECTED}")

    @classmethod
    def _of_count(cls, value: int) -> FailureLimit:
        if value < 0:
            raise ValueError(f"max_failed_rows is {value}. {_EXPECTED}")
        return cls(count=value)

    @classmethod
    def _of_share(cls, value: float | Fraction) -> FailureLimit:
        if not math.isfinite(value) or not 0 <= value <= 1:
            raise ValueError(
                f"max_failed_rows is {float(value)}, which is not a fraction from 0 to 1. {_EXPECTED}"
            )
        # Use the decimal digits, so that 0.1 of 30 rows is exactly 3 rows.
        return cls(share=value if isinstance(value, Fraction) else Fraction(repr(value)))

    def exceeded(self, failed: int, total: int) -> bool:
        """Whether too many rows have failed.

        :param failed: number of failed rows so far
        :param total: number of all rows of the run
        """
        if self.count is not None:
            return failed > self.count
        return self.share is not None and failed > self.share * total

    def __str__(self) -> str:
        if self.count is not None:
            return counted(self.count, "row")
        return "no limit" if self.share is None else f"{float(self.share * 100):g}% of all rows"


_EXPECTED = (
    "Pass a number of rows (10), a fraction of all rows with a decimal point (0.05), or a percentage ('5%')."
)
