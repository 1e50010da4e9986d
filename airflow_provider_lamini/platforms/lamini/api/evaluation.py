"""Evaluation: one or two models on rows with expected outputs."""

from collections.abc import Mapping, Sequence

from pydantic import Field, JsonValue

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import RESULTS, Call, Json, Retry


class EvalRow(schema.Request):
    """An input and its expected output."""

    input: str
    target: str


class EvalRunRequest(schema.Request):
    """The body of ``POST /v1/eval/run``."""

    test_model_id: str = Field(min_length=1)
    test_eval_type: str = Field(min_length=1)
    eval_data: list[EvalRow] = Field(min_length=1)
    eval_data_id: str = Field(min_length=1)
    base_model_id: str | None = None
    base_eval_type: str | None = None
    sbs: bool | None = None
    fuzzy_comparison: bool | None = None


class Prediction(schema.Response):
    """The outputs of the models for one row."""

    input: str | None = None
    target: str | None = None
    test_output: str | None = None
    base_output: str | None = None


class Evaluation(schema.Response):
    """The result of an evaluation."""

    eval_job_id: schema.Id
    status: str
    metrics: dict[str, JsonValue]
    """Such as accuracy, precision, recall and f1."""
    eval_data_id: schema.Id | None = None
    predictions: list[Prediction] = Field(default_factory=list)


def run(
    *,
    test_model_id: str,
    test_eval_type: str,
    eval_data: Sequence[EvalRow | Mapping[str, str]],
    eval_data_id: str,
    base_model_id: str | None = None,
    base_eval_type: str | None = None,
    sbs: bool | None = None,
    fuzzy_comparison: bool | None = None,
    extra: Mapping[str, Json] | None = None,
) -> Call[Evaluation]:
    """Compare one or two models on rows with expected outputs: ``POST /v1/eval/run``.

    :param test_model_id: the model to evaluate
    :param test_eval_type: type of that model, such as ``classifier``
    :param eval_data: the rows, each with ``input`` and ``target``
    :param eval_data_id: a name for the rows
    :param base_model_id: a model to compare with
    :param base_eval_type: type of that model
    :param sbs: compare side by side
    :param fuzzy_comparison: accept outputs that differ slightly
    :param extra: additional fields of the body
    :raises ValueError: if an argument is invalid
    """
    arguments: dict[str, object] = {
        "test_model_id": test_model_id,
        "test_eval_type": test_eval_type,
        "eval_data": [row.model_dump() if isinstance(row, EvalRow) else row for row in eval_data],
        "eval_data_id": eval_data_id,
        "base_model_id": base_model_id,
        "base_eval_type": base_eval_type,
        "sbs": sbs,
        "fuzzy_comparison": fuzzy_comparison,
    }
    return Call(
        operation="eval_run_post",
        method="POST",
        path="/v1/eval/run",
        json=schema.body(EvalRunRequest, {**(extra or {}), **arguments}),
        parse=schema.parser(Evaluation),
        prompt_fields=("eval_data",),
        retry=Retry.ONLY_IF_NOT_STARTED,
        max_bytes=RESULTS,
    )
