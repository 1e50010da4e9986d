"""What a run may cost at most: rows, characters and tokens."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_lamini.rows.endpoints import reports_tokens
from airflow_provider_lamini.wording import counted


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

    def refusal(self, rows: int, characters: int, endpoint: object) -> str | None:
        """Why an input must not be sent; ``None`` if it may be.

        :param rows: its rows
        :param characters: characters of its prompts
        :param endpoint: the endpoint that it is sent to
        """
        if self.tokens is not None and not reports_tokens(endpoint):
            return "max_total_tokens cannot be kept: this endpoint reports no tokens. Remove it, perhaps for max_input_chars"
        if self.rows is not None and rows > self.rows:
            return f"max_rows allows {counted(self.rows, 'row')}, and the input has {rows}"
        if self.characters is not None and characters > self.characters:
            return f"max_input_chars allows {counted(self.characters, 'character')}, and the prompts have {characters}"
        return None
