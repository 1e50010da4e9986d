"""Classifies texts with a trained classifier."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_lamini.operators.lineage import reports_lineage
from airflow_provider_lamini.operators.row_operator import RowOperator
from airflow_provider_lamini.runs.arguments import identifier, plain_name, share, whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.hooks.lamini import LaminiHook
    from airflow_provider_lamini.rows.answers.judging import RowResult
    from airflow_provider_lamini.runs.row_run import InlineRun, RowRun
    from airflow_provider_lamini.runs.task import TaskRun

MAX_INLINE = 100


@reports_lineage("lamini", uses={"model_id": "classifiers"})
class LaminiClassifyOperator(RowOperator):
    """Assigns one text, a list of texts, or every row of an input to the classes of a classifier.

    - Without ``output``, ``input`` is one text or a list of up to 100 texts, and the answers are the task's result.
    - With ``output``, any number of rows is read from storage and written to storage, in chunks and with a ledger: a
      retry continues from there. ``output`` of a row has ``class``, ``prob`` and ``classes``. The requests, each with up
      to 32 texts, hold a worker slot: the platform has no jobs for them.

    ``classes`` lists the platform's answer, the most likely class first, each as ``{"class": ..., "prob": ...}``. If no
    class reaches the threshold, ``class`` and ``prob`` are null; the row has not failed.

    Endpoint: ``POST /v2/classifier/{model_id}/classify``.

    :param model_id: the classifier, as its training returns it
    :param input: a text, a list of texts, a list of rows (mappings), or a path, URI or glob on object storage: JSON
        Lines, CSV, or Parquet (extra ``parquet``)
    :param prompt: if the input has rows: the name of the column with the text, or a template over columns, such as
        ``"{subject}: {body}"``
    :param output: folder for the results, a path or URI. Each run needs its own, for example with ``{{ run_id }}`` in it.
    :param top_n: maximum number of classes in the answer for a text; default: the platform's
    :param threshold: leave out classes with a lower probability, from 0 to 1
    :param lamini_conn_id: the connection to the platform
    :param kwargs: arguments of :class:`~airflow_provider_lamini.operators.row_operator.RowOperator`, such as
        ``passthrough``, ``chunk_size``, ``max_in_flight``, ``row_retries`` and ``max_failed_rows``
    :return: ``model_id`` with ``class``, ``prob`` and ``classes`` for one text, or with ``outputs``, a list of these, for
        a list; with ``output``, the manifest: URIs, counts by outcome, chunks, seconds, model
    """

    template_fields: Sequence[str] = (
        *RowOperator.template_fields,
        "lamini_conn_id",
        "model_id",
        "top_n",
        "threshold",
    )

    def __init__(
        self,
        *,
        model_id: str,
        top_n: int | str | None = None,
        threshold: float | str | None = None,
        lamini_conn_id: str = "lamini_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_id = model_id
        self.top_n = top_n
        self.threshold = threshold
        self.lamini_conn_id = lamini_conn_id

    def make_hook(self) -> LaminiHook:
        """The platform's hook."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook

        return LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))

    def work(self, task: TaskRun) -> RowRun | InlineRun:
        """Validate the arguments, then return the run."""
        from airflow_provider_lamini.platforms.lamini.endpoints import Classify, ClassifyOptions
        from airflow_provider_lamini.runs.inline import failures_value, is_single
        from airflow_provider_lamini.runs.lamini.classifier import ClassLines
        from airflow_provider_lamini.runs.row_run import InlineRun, RowRun

        options = ClassifyOptions(
            model_id=identifier("model_id", self.model_id),
            top_n=None if self.top_n is None else whole_number("top_n", self.top_n, minimum=1),
            threshold=None if self.threshold is None else share("threshold", self.threshold),
        )
        endpoint = Classify(options)

        def inline_result(rows: list[RowResult]) -> dict[str, object]:
            outputs = [row.output for row in rows]
            answer = outputs[0] or {} if is_single(config.input) else {"outputs": outputs}
            return {
                "model_id": options.model_id,
                **cast("dict[str, object]", answer),
                **failures_value(rows),
            }

        config = self.row_run_config(
            task,
            endpoint=endpoint,
            model=options.model_id,
            fingerprint_inputs={"classify": asdict(options)},
            writer=ClassLines,
        )
        if self.output_folder is None:
            return InlineRun(task, config, endpoint, max_rows=MAX_INLINE, result=inline_result)
        return RowRun(task, config)
