"""Endpoints over an index and a classifier: how prompts become calls, and answers the outcomes of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.platforms.lamini.api import classifiers, memory_rag
from airflow_provider_lamini.rows.endpoints import RowResult, outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.api.call import Call, Json
    from airflow_provider_lamini.api.output_types import OutputType
    from airflow_provider_lamini.platforms.lamini.api.classifiers import ClassScore


@dataclass(frozen=True, slots=True, kw_only=True)
class RagQuery:
    """What is asked of an index for every row.

    :param index_id: the index
    :param model_name: the model that answers; ``None`` for the index's own
    :param rag_query_size: passages looked up; ``None`` leaves it to the platform
    :param output_type: the shape of each output; ``None`` for plain text
    :param max_new_tokens: tokens generated at most; ``None`` leaves it to the platform
    """

    index_id: str
    model_name: str | None
    rag_query_size: int | None
    output_type: OutputType | None
    max_new_tokens: int | None


class MemoryRagCompletions:
    """``/alpha/memory-rag/completions``: a row is one request.

    :param lookup: what is asked for every row
    """

    per_request = 1  # else the slowest of several prompts would hold up the answers to the others

    def __init__(self, lookup: RagQuery) -> None:
        self._lookup = lookup

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        """See `DirectEndpoint.ask`."""
        asked = self._lookup
        call = memory_rag.complete(
            prompt=prompts[0],
            job_id=asked.index_id,
            model_name=asked.model_name,
            rag_query_size=asked.rag_query_size,
            output_type=asked.output_type,
            max_new_tokens=asked.max_new_tokens,
        )
        # This endpoint may leave the reason out for a single prompt; it has answered, so the row is done.
        return call.map(
            lambda answer: [outcome(answer.outputs[0], answer.finish_reason[0] or "stop", asked.output_type)]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyOptions:
    """What is asked of a classifier for every row.

    :param model_id: the classifier
    :param top_n: classes answered at most; ``None`` for all
    :param threshold: classes that are less likely are left out; ``None`` for none
    """

    model_id: str
    top_n: int | None
    threshold: float | None


class Classify:
    """``/v2/classifier/{model_id}/classify``: a request has many rows.

    :param sorting: what is asked for every row
    """

    per_request = 32  # it is quick, and the way there and back costs more than a text

    def __init__(self, sorting: ClassifyOptions) -> None:
        self._sorting = sorting

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        """See `DirectEndpoint.ask`. The output of a row is what :func:`classified` makes of its classes."""
        asked = self._sorting
        call = classifiers.classify(
            model_id=asked.model_id, prompt=prompts, top_n=asked.top_n, threshold=asked.threshold
        )
        return call.map(lambda answer: [RowResult(classified(scores), None) for scores in answer])


def classified(scores: Sequence[ClassScore]) -> dict[str, Json]:
    """A row's classes.

    :param scores: as the platform answers them
    :return: ``class`` and ``prob`` of the likeliest, both ``None`` where no class reaches the threshold, and
        ``classes``, all that were answered, the likeliest first
    """
    ordered = sorted(scores, key=lambda score: -score.prob)
    classes: list[Json] = [{"class": score.class_name, "prob": score.prob} for score in ordered]
    first = ordered[0] if ordered else None
    return {
        "class": first.class_name if first else None,
        "prob": first.prob if first else None,
        "classes": classes,
    }
