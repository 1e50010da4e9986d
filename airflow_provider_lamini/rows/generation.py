"""The options with which a model generates texts, for all rows and for one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from airflow_provider_lamini.rows.answers.judging import AnswerPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.prompts.row_request import RowRequest

TEXTS = AnswerPolicy()
"""Any text counts as an output."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The options of a completion or a chat, the same for every row.

    :param model_name: what the platform calls the model
    :param answers: which answers count as outputs, and the shape of each output
    :param max_new_tokens: maximum tokens to generate per row; ``None`` leaves it to the platform
    :param system: the system prompt of conversations that have none; ``None`` for none
    :param parameters: other parameters, by our names, which are those of the APIs
    """

    model_name: str
    answers: AnswerPolicy = TEXTS
    max_new_tokens: int | None = None
    system: str | None = None
    parameters: Mapping[str, Json] = field(default_factory=dict)

    def plain(self) -> dict[str, object]:
        """Everything that decides the results, as plain values, for a fingerprint."""
        found: dict[str, object] = {
            "model_name": self.model_name,
            "max_new_tokens": self.max_new_tokens,
            **self.answers.plain(),
        }
        if self.system is not None:
            found["system"] = self.system
        if self.parameters:
            found["parameters"] = dict(self.parameters)
        return found

    def for_row(self, request: RowRequest) -> Self:
        """The options of one row.

        :param request: the row's request, whose parameters count more than those of all rows
        """
        own = dict(request.parameters)
        name, tokens = own.pop("model_name", self.model_name), own.pop("max_new_tokens", self.max_new_tokens)
        return replace(
            self,
            model_name=str(name),
            max_new_tokens=tokens if isinstance(tokens, int) else None,
            parameters={**self.parameters, **own},
        )
