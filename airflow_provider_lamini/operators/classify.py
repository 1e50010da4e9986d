"""Sorting texts into classes with a trained classifier."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_lamini.operators.row_operator import ChunkedOperator
from airflow_provider_lamini.runs.arguments import identifier, share, whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.rows.endpoints import DirectEndpoint, RowResult


class LaminiClassifyOperator(ChunkedOperator):
    """Sorts one text, a list, or every row of an input into the classes of a classifier.

    - Without ``output``, ``input`` is one text, or a list of at most 100, and the answers are the task's result.
    - With ``output``, rows of any number go from storage to storage, in chunks and with a ledger: a retry goes on from
      there. A row's ``output`` holds ``class``, ``prob`` and ``classes``. The requests, of up to 32 texts each, hold a
      worker: the platform has no jobs for them.

    ``classes`` has what the platform answers, the likeliest first, each as ``{"class": ..., "prob": ...}``. Where no class
    reaches the threshold, ``class`` and ``prob`` are null; that is no failure.

    Endpoint: ``POST /v2/classifier/{model_id}/classify``.

    :param model_id: the classifier, as its training returns it
    :param input: a text, a list of texts, a list of rows (mappings), or a path, URI or glob on object storage: JSON
        Lines, CSV, or Parquet (extra ``parquet``)
    :param prompt: where the input has rows: the name of the column that holds the text, or a template over columns,
        such as ``"{subject}: {body}"``
    :param output: the folder for the results, a path or URI. Give each run its own, as with ``{{ run_id }}`` in it.
    :param top_n: classes answered at most for each text; the platform's default if not given
    :param threshold: leave out classes that are less likely, from 0 to 1
    :param kwargs: see :class:`~airflow_provider_lamini.operators.row_operator.ChunkedOperator`: ``passthrough``,
        ``max_prompt_chars``, ``chunk_size``, ``max_in_flight``, ``row_retries``, ``max_failed_rows``, ``on_other_run``,
        ``input_conn_id``, ``output_conn_id``
    :return: ``model_id`` with ``class``, ``prob`` and ``classes`` for one text, with ``outputs``, a list of such, for
        a list; or the manifest of the output folder: URIs, counts by outcome, chunks, seconds, model
    """

    template_fields: Sequence[str] = (*ChunkedOperator.template_fields, "model_id", "top_n", "threshold")
    most_inline = 100

    def __init__(
        self,
        *,
        model_id: str,
        top_n: int | str | None = None,
        threshold: float | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_id = model_id
        self.top_n = top_n
        self.threshold = threshold

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        from airflow_provider_lamini.platforms.lamini.endpoints import ClassifyOptions

        super().check()
        self._sorting = ClassifyOptions(
            model_id=identifier("model_id", self.model_id),
            top_n=None if self.top_n is None else whole_number("top_n", self.top_n, least=1),
            threshold=None if self.threshold is None else share("threshold", self.threshold),
        )

    def fingerprint_inputs(self) -> Mapping[str, object]:
        """See :class:`ChunkedOperator`."""
        return {"sorting": asdict(self._sorting)}

    def answered_by(self) -> str:
        """See :class:`ChunkedOperator`."""
        return self._sorting.model_id

    def direct_endpoint(self) -> DirectEndpoint:
        """See :class:`ChunkedOperator`."""
        from airflow_provider_lamini.platforms.lamini.endpoints import Classify

        return Classify(self._sorting)

    def inline_result(self, rows: list[RowResult]) -> dict[str, object]:
        """See :class:`ChunkedOperator`."""
        from airflow_provider_lamini.runs.inline import is_single

        outputs = [row.output for row in rows]
        found = outputs[0] if is_single(self.input) else {"outputs": outputs}
        return {"model_id": self._sorting.model_id, **cast("dict[str, object]", found)}
