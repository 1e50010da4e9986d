"""What one row sends if that is two texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.errors import BadRowError, NoPromptError
from airflow_provider_lamini.rows.failures import FailureReason
from airflow_provider_lamini.rows.prompt import PromptTemplate
from airflow_provider_lamini.rows.screening import no_text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from airflow_provider_lamini.rows.sources.batch import Batch
    from airflow_provider_lamini.rows.values import Row

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(tuple[str, str])


def decode_pair(text: str) -> tuple[str, str]:
    """Both texts of a row.

    :param text: what `TextPairTemplate` has rendered
    """
    return _DECODER.decode(text)


class TextPairTemplate(PromptTemplate):
    """Makes two texts of each row, as a JSON array, so that a text may contain any character.

    :param first: makes the first text
    :param second: makes the second text
    """

    def __init__(self, first: PromptTemplate, second: PromptTemplate) -> None:
        self._parts = (first, second)
        columns = (*first.placeholders, *second.placeholders)
        super().__init__(_encode((first.text, second.text)), ("",) * (len(columns) + 1), columns, bare=False)
        self.may_refuse = True

    @property
    def needs_columns(self) -> bool:
        return any(part.needs_columns for part in self._parts)

    def for_columns(self, columns: Collection[str]) -> TextPairTemplate:
        first, second = (part.for_columns(columns) for part in self._parts)
        return TextPairTemplate(first, second)

    def render(self, row: Row) -> str:
        """Make both texts of one row.

        :raises MissingColumnError: if the row has no value in one of the columns
        :raises NoPromptError: if one of both is blank
        :raises BadRowError: if one of both is a conversation
        """
        first, second = (self._text(row, part) for part in self._parts)
        return _encode((first, second))

    def render_all(self, rows: Sequence[Row]) -> list[str]:
        return list(map(self.render, rows))

    def _text(self, row: Row, part: PromptTemplate) -> str:
        failure = no_text(row, part)
        if failure is None:
            return part.render(row)
        raise (NoPromptError if failure.reason is FailureReason.NO_PROMPT else BadRowError)(failure.text)

    def characters(self, batch: Batch) -> int:
        return sum(part.characters(batch) for part in self._parts)

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        return [sum(map(len, decode_pair(text))) for text in prompts]


def _encode(texts: tuple[str, str]) -> str:
    return _ENCODER.encode(texts).decode()
