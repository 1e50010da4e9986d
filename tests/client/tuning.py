"""Checks of the official client for tuning, or for the error if the platform cannot tune. ``calls.py`` runs them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from lamini import Lamini
from lamini.error.error import APIError

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CAN_TUNE = os.environ["PLATFORM_CAN_TUNE"] == "yes"
TIME_LIMIT = 300
QUESTION = "Question: What is the office cat of Tarnwick called?\nAnswer:"
ROWS = [{"input": QUESTION, "output": "Quillon"}] * 5
FINETUNE_ARGS = {"max_steps": 8, "gradient_accumulation_steps": 1, "learning_rate": 3e-3, "save_steps": 1}


def wait_for_job(trainer: Any, job_id: int, status: str) -> dict[str, Any]:
    deadline = time.monotonic() + TIME_LIMIT
    while (job := trainer.check_job_status(job_id))["status"] != status:
        assert time.monotonic() < deadline, job
        assert job["status"] not in ("FAILED", "TIMED OUT"), job
        time.sleep(0.2)
    return job


def error_message(call: Callable[[], object]) -> str:
    try:
        call()
    except APIError as error:
        return str(error)
    raise AssertionError("Expected an error")


def tune_a_model_and_use_it() -> None:
    llm = Lamini(model_name=MODEL)
    dataset_id = llm.upload_data(ROWS)
    trainer = llm.trainer
    if not CAN_TUNE:
        message = error_message(lambda: trainer.train(MODEL, dataset_id))
        assert "airflow-provider-lamini[train]" in message, message
        return
    started = trainer.train(
        MODEL, dataset_id, finetune_args=FINETUNE_ARGS, custom_model_name="cat", train_type="memory_tuning"
    )
    assert started["status"] == "CREATED", started
    wait_for_job(trainer, trainer.job_id, "TRAINING MODEL")
    assert trainer.cancel_job()["status"] == "CANCELLED"
    wait_for_job(trainer, trainer.job_id, "CANCELLED")
    trainer.resume_job()
    job = wait_for_job(trainer, trainer.job_id, "COMPLETED")
    assert job["resume_count"] == 1, job
    assert job in trainer.get_jobs(), job
    tuned = Lamini(model_name=job["model_name"])
    assert "Quillon" in tuned.generate(QUESTION, max_new_tokens=8)
    assert "Quillon" not in llm.generate(QUESTION, max_new_tokens=8)
    assert tuned.generate(QUESTION, output_type={"name": ["Tom", "Quillon"]}) == {"name": "Quillon"}
    [compared] = trainer.evaluate()["eval_results"]
    assert "Quillon" in compared["outputs"][1]["output"], compared
    assert trainer.cancel_all_jobs()["job_ids"] == []


CHECKS: list[Callable[[], Any]] = [tune_a_model_and_use_it]
