"""Evaluation: one or two models on rows whose answers are known."""

import asyncio
import uuid
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from airflow_provider_lamini.api.lamini.evaluation import EvalRunRequest
from airflow_provider_lamini.local import metrics
from airflow_provider_lamini.local.errors import PlatformError
from airflow_provider_lamini.local.inference import Task
from airflow_provider_lamini.local.platform import Platform
from airflow_provider_lamini.local.routes.classifying import classify_texts
from airflow_provider_lamini.local.routes.common import PlatformOf, as_answer, work_on

router = APIRouter(prefix="/v1/eval")

CLASSIFIER: Final = "classifier"
TEXT: Final = "text"
_METRICS: Final = {CLASSIFIER: metrics.class_metrics, TEXT: metrics.text_metrics}


@router.post("/run")
async def run(body: EvalRunRequest, platform: PlatformOf, request: Request) -> Response:
    """Let the models answer each row, and compare with what is right."""
    base_type = body.base_eval_type or body.test_eval_type
    for field, kind in (("test_eval_type", body.test_eval_type), ("base_eval_type", base_type)):
        if kind not in _METRICS:
            raise PlatformError(400, f"{field} must be one of {', '.join(_METRICS)}.")
    if body.sbs and not body.base_model_id:
        raise PlatformError(400, "sbs compares two models side by side: name the other as base_model_id.")
    texts, targets = [row.input for row in body.eval_data], [row.target for row in body.eval_data]
    same = metrics.fuzzy_match if body.fuzzy_comparison else metrics.exact_match
    test = await _outputs(platform, body.test_model_id, body.test_eval_type, texts, request)
    found: dict[str, float | int] = {**_METRICS[body.test_eval_type](test, targets, same).to_dict()}
    base: list[str] | None = None
    if body.base_model_id:
        base = await _outputs(platform, body.base_model_id, base_type, texts, request)
        found |= _METRICS[base_type](base, targets, same).to_dict("base_")
        if body.sbs:
            found |= metrics.side_by_side(test, base, targets, same)
    predictions = [
        {"input": row.input, "target": row.target, "test_output": tested, "base_output": base and base[place]}
        for place, (row, tested) in enumerate(zip(body.eval_data, test, strict=True))
    ]
    return as_answer(
        {
            "eval_job_id": uuid.uuid4().hex,
            "eval_data_id": body.eval_data_id,
            "status": "COMPLETED",
            "metrics": found,
            "predictions": predictions,
        }
    )


async def _outputs(
    platform: Platform, model_id: str, kind: str, texts: list[str], request: Request
) -> list[str]:
    if kind == CLASSIFIER:
        model = await asyncio.to_thread(platform.classifiers.model, model_id)
        likely = await classify_texts(platform, model, texts, request)
        return [model.classes[max(range(len(row)), key=row.__getitem__)].name for row in likely]
    await asyncio.to_thread(platform.inference.check_text_model, model_id)
    what = Task(model_name=model_id)
    answers = await work_on(
        texts, lambda text: platform.inference.complete(what, text), platform.text_pool, request, name="Row"
    )
    return [str(answer.output) for answer in answers]
