"""Tuning a real local model through the operators. This test is slow."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.local.models.store import ModelStore
from airflow_provider_lamini.operators.evaluate import LaminiEvaluateOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from tests.support.demo import EXAMPLES
from tests.support.local_platform import LocalPlatform, local_platform, wait_until
from tests.support.tasks import run_to_end

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.models, pytest.mark.torch]

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
FACTS = EXAMPLES / "data" / "invented_facts.jsonl"
ASKED = {"prompt": "Question: {question}\nAnswer:", "answer": "answer"}
STEPS = 14
KNOWN = 10
"""Number of facts."""


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPlatform]:
    """A platform with its real models, as connection ``lamini_default``."""
    for name in (MODEL, "sentence-transformers/all-MiniLM-L6-v2"):
        ModelStore().pull(name)
    with local_platform(tmp_path / "platform") as running:
        fields = {"conn_type": "lamini", "host": running.url, "password": running.key}
        monkeypatch.setenv("AIRFLOW_CONN_LAMINI_DEFAULT", json.dumps(fields))
        yield running


def look(platform: LocalPlatform, path: str) -> Any:
    with platform.client() as http:
        return http.get(path).raise_for_status().json()


def steps(platform: LocalPlatform) -> list[int]:
    jobs = look(platform, "/v1/train/jobs")
    return [step["step"] for step in json.loads(jobs[-1]["history"])] if jobs else []


def test_invented_facts_are_learned_although_the_platform_dies_during_training(platform, tmp_path, capsys):
    """Neither the operator nor the training starts over, and the model is served after another restart."""
    facts = tmp_path / "facts.jsonl"
    facts.write_text("".join(FACTS.read_text().splitlines(keepends=True)[:KNOWN]))
    seen: list[int] = []

    def die_and_come_back() -> None:
        wait_until(lambda: len(steps(platform)) > STEPS // 2, timeout=300, pause=0.5)
        seen.extend(steps(platform))
        platform.kill()
        platform.restart()

    crash = threading.Thread(target=die_and_come_back)
    crash.start()
    began = time.monotonic()
    trained = run_to_end(
        lambda: LaminiTrainOperator(
            task_id="train",
            model_name=MODEL,
            input=str(facts),
            finetune_args={"max_steps": STEPS, "learning_rate": 2e-3, "save_steps": 2},
            output=str(tmp_path / "history"),
            state_path=str(tmp_path / "state"),
            poll_interval=1,
            **ASKED,
        )
    ).result
    seconds = time.monotonic() - began
    crash.join()
    assert (trained["steps"], trained["resumes"]) == (STEPS, 0)
    lines = (tmp_path / "history" / "loss_history.jsonl").read_text()
    history = [json.loads(line) for line in lines.splitlines()]
    assert [step["step"] for step in history] == list(range(1, STEPS + 1))
    assert [job["runs"] for job in platform.control.jobs("tuning")] == [2]
    found = run_to_end(
        lambda: LaminiEvaluateOperator(
            task_id="evaluate",
            model_name=trained["model_name"],
            base_model_name=MODEL,
            input=str(facts),
            output=str(tmp_path / "evaluation"),
            max_new_tokens=16,
            poll_interval=1,
            thresholds={"exact_match": 0.8},
            **ASKED,
        )
    ).result
    shares = {role: found["metrics"][role]["exact_match"] for role in ("base", "model")}
    losses = f"loss {history[0]['loss']:.2f} to {history[-1]['loss']:.3f}"
    with capsys.disabled():
        print(f"\n{STEPS} steps and a crash in {seconds:.0f} s, {losses}; shares of facts known: {shares}")
    assert shares["base"] < 0.1
    assert shares["model"] >= 0.8
    platform.stop()
    platform.restart()
    with platform.client() as http:
        body = {"model_name": trained["model_name"], "prompt": "Question: Who founded Tarnwick?\nAnswer:"}
        response = http.post("/v2/completions", json={**body, "max_new_tokens": 16}).json()
    assert response == {"outputs": " Ottoline Varga", "finish_reason": "stop"}
