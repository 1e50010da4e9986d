"""Evaluation: runs one or two models on rows with known answers and computes metrics."""

import asyncio
import uuid
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from airflow_provider_lamini.local import metrics
from airflow_provider_lamini.local.errors import ApiError
from airflow_provider_lamini.local.inference import CompletionSettings
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.routes.classifiers import classify_texts
from airflow_provider_lamini.local.routes.common import PlatformDep, json_response, run_in_pool
from airflow_provider_lamini.platforms.lamini.api.evaluation import EvalRunRequest

router = APIRouter(prefix="/v1/eval")

CLASSIFIER: Final = "classifier"
TEXT: Final = "text"
_METRICS: Final = {CLASSIFIER: metrics.class_metrics, TEXT: metrics.text_metrics}


@router.post("/run")
async def run(body: EvalRunRequest, platform: PlatformDep, request: Request) -> Response:
    """Run the models on each row, and compare their outputs with the targets."""
    base_type = body.base_eval_type or body.test_eval_type
    for field, kind in (("test_eval_type", body.test_eval_type), ("base_eval_type", base_type)):
        if kind not in _METRICS:
            raise ApiError(400, f"{field} must be one of {', '.join(_METRICS)}.")
    if body.sbs and not body.base_model_id:
        raise ApiError(400, "sbs compares two models side by side: set base_model_id to the other model.")
    texts, targets = [row.input for row in body.eval_data], [row.target for row in body.eval_data]
    test = await _outputs(platform, body.test_model_id, body.test_eval_type, texts, request)
    base: list[str] | None = None
    if body.base_model_id:
        base = await _outputs(platform, body.base_model_id, base_type, texts, request)
    values = await asyncio.to_thread(_metric_values, body, test, base, targets)
    predictions = [
        {
            "input": row.input,
            "target": row.target,
            "test_output": output,
            "base_output": base and base[index],
        }
        for index, (row, output) in enumerate(zip(body.eval_data, test, strict=True))
    ]
    return json_response(
        {
            "eval_job_id": uuid.uuid4().hex,
            "eval_data_id": body.eval_data_id,
            "status": "COMPLETED",
            "metrics": values,
            "predictions": predictions,
        }
    )


def _metric_values(
    body: EvalRunRequest, test: list[str], base: list[str] | None, targets: list[str]
) -> dict[str, float | int]:
    """Compute all metrics of a request.

    :param body: the request
    :param test: the outputs of the model under test
    :param base: the outputs of the model that it is compared with
    :param targets: the right answers
    """
    same = metrics.fuzzy_match if body.fuzzy_comparison else metrics.exact_match
    values: dict[str, float | int] = {**_METRICS[body.test_eval_type](test, targets, same).to_dict()}
    if base is not None:
        values |= _METRICS[body.base_eval_type or body.test_eval_type](base, targets, same).to_dict("base_")
        if body.sbs:
            values |= metrics.side_by_side(test, base, targets, same)
    return values


async def _outputs(
    platform: LocalPlatform, model_id: str, kind: str, texts: list[str], request: Request
) -> list[str]:
    """Return the model's output for each text: the most likely class, or generated text."""
    if kind == CLASSIFIER:
        model = await asyncio.to_thread(platform.classifiers.model, model_id)
        probabilities = await classify_texts(platform, model, texts, request)
        return [model.classes[max(range(len(row)), key=row.__getitem__)].name for row in probabilities]
    await asyncio.to_thread(platform.inference.check_text_model, model_id)
    settings = CompletionSettings(model_name=model_id)
    completions = await run_in_pool(
        texts,
        lambda text: platform.inference.complete(settings, text),
        platform.text_pool,
        request,
        item_name="Row",
    )
    return [str(completion.output) for completion in completions]
