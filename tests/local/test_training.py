"""Tuning jobs over HTTP: start, poll, end in every state, resume, restart. The trainer is scripted."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.tuning.repository import TuningRepository
from tests.support.contract import check
from tests.support.local_platform import wait_until
from tests.support.scripted_tuning import BASE, ScriptedTrainer, tunable_platform
from tests.support.tuning_api import (
    FINETUNE_ARGS,
    JOB,
    ROWS,
    change,
    complete,
    dataset,
    get_job,
    start_job,
    steps_of,
    wait_for_jobs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.scripted_tuning import TunablePlatform


@pytest.fixture
def trainer() -> ScriptedTrainer:
    return ScriptedTrainer()


@pytest.fixture
def platform(tmp_path: Path, trainer: ScriptedTrainer) -> Iterator[TunablePlatform]:
    with tunable_platform(tmp_path / "platform", trainer) as running:
        yield running


def test_a_job_tunes_a_model_that_is_served_alongside_its_base_model(platform, trainer):
    dataset_id = dataset(platform)
    response = platform.http.post(
        "/v1/train",
        json={
            "model_name": BASE,
            "dataset_id": dataset_id,
            "upload_file_path": f"local/{dataset_id}.jsonl",
            "custom_model_name": "tickets",
            "is_public": True,
            "train_type": "memory_tuning",
            "gpu_config": {"gpus": 2, "nodes": 1},
            "finetune_args": {
                **FINETUNE_ARGS,
                "learning_rate": 1e-3,
                "r_value": 8,
                "gradient_accumulation_steps": 4,
                "new": 1,
            },
        },
    )
    started = check(response, "/v1/train")
    assert started["status"] == "CREATED"
    job = wait_for_jobs(platform, started["job_id"], "COMPLETED")
    assert (job["model_name"], job["custom_model_name"]) == ("tickets", "tickets")
    assert (job["dataset_id"], job["base_model_name"], job["is_public"]) == (dataset_id, BASE, True)
    assert (job["resume_count"], job["resume_limit"]) == (0, 0)
    history = json.loads(job["history"])
    assert history[-1] == {
        "step": 4,
        "loss": 1.0,
        "learning_rate": 1e-3,
        "epoch": 10.0,
        "remaining_time": 0.0,
    }
    assert history[0]["remaining_time"] == 6.0
    (recipe,) = trainer.recipes
    assert (recipe.max_steps, recipe.batch_size, recipe.rank, recipe.alpha) == (4, 20, 8, 16.0)
    assert recipe.checkpoint_every == 2
    assert complete(platform, "tickets", "question 3").json() == {"output": "answer 3"}
    assert complete(platform, BASE, "question 3").json() == {"output": f"{BASE}: question 3"}


def test_a_tuned_model_is_listed_and_used_like_any_other(platform):
    name = wait_for_jobs(platform, start_job(platform), "COMPLETED")["model_name"]
    assert name == "base-tuned-1"
    http = platform.http
    assert name in [model["id"] for model in http.get("/inf/models").json()["data"]]
    assert name in [model["model_name"] for model in http.get("/v1alpha/downloaded_models/").json()]
    chat = http.post(
        "/inf/chat/completions", json={"model": name, "messages": [{"role": "user", "content": "question 1"}]}
    )
    assert "answer 1" in chat.json()["choices"][0]["message"]["content"]
    for path in ("/v1/batch_completions", "/v3/streaming_completions"):
        job_id = http.post(path, json={"model_name": name, "prompt": ["question 1"]}).json()["id"]
        wait_until(lambda where=f"{path}/{job_id}/result": "answer 1" in http.get(where).text)
    rows = [{"input": "question 1", "target": "answer 1"}]
    compared = {"test_model_id": name, "base_model_id": BASE, "eval_data_id": "e", "eval_data": rows}
    metrics = http.post("/v1/eval/run", json={**compared, "test_eval_type": "text"}).json()["metrics"]
    assert (metrics["accuracy"], metrics["base_accuracy"]) == (1.0, 0.0)


def test_the_tuned_model_and_its_base_model_are_compared_on_the_first_rows(platform):
    job_id = start_job(platform)
    wait_for_jobs(platform, job_id, "COMPLETED")
    found = check(platform.http.get(f"/v1/train/jobs/{job_id}/eval"), f"{JOB}/eval")
    assert [row["input"] for row in found["eval_results"]] == [row["input"] for row in ROWS[:5]]
    assert found["eval_results"][0]["outputs"] == [
        {"model_name": BASE, "output": f"{BASE}: question 0"},
        {"model_name": "base-tuned-1", "output": "answer 0"},
    ]


def test_a_job_without_a_model_cannot_be_compared(platform, trainer):
    trainer.allowed = 0
    response = platform.http.get(f"/v1/train/jobs/{start_job(platform)}/eval")
    assert response.status_code == 400
    assert "has no model to evaluate, current status:" in response.json()["detail"]


def test_a_used_model_name_gets_the_job_number_as_a_suffix(platform):
    names = [
        wait_for_jobs(platform, start_job(platform, custom_model_name=custom), "COMPLETED")["model_name"]
        for custom in ("tickets", "tickets", BASE)
    ]
    assert names == ["tickets", "tickets-2", f"{BASE}-3"]


def test_rows_can_be_sent_in_the_request(platform):
    job = wait_for_jobs(platform, start_job(platform, data=ROWS[:3]), "COMPLETED")
    assert "answer 2" in complete(platform, job["model_name"], "question 2").text
    assert "answer 3" not in complete(platform, job["model_name"], "question 3").text
    assert check(platform.http.get("/v1/train/jobs"), "/v1/train/jobs") == [job]
    path = f"local/{job['dataset_id']}.jsonl"
    assert (
        wait_for_jobs(platform, start_job(platform, upload_file_path=path), "COMPLETED")["dataset_id"]
        == job["dataset_id"]
    )


def test_one_job_trains_while_the_next_waits(platform, trainer):
    trainer.allowed = 2
    first, second = start_job(platform), start_job(platform)
    job = wait_for_jobs(platform, first, "TRAINING MODEL")
    wait_until(lambda: steps_of(get_job(platform, first)) == [1, 2])
    assert job["model_name"] is None
    assert get_job(platform, second)["status"] == "QUEUED"
    trainer.allowed = 100
    wait_for_jobs(platform, second, "COMPLETED")
    assert [job["job_id"] for job in platform.http.get("/v1/train/jobs").json()] == [first, second]


def test_a_resumed_job_continues_from_its_checkpoint(platform, trainer):
    trainer.allowed = 3
    job_id = start_job(platform)
    wait_until(lambda: steps_of(get_job(platform, job_id)) == [1, 2, 3])
    assert change(platform, job_id, "cancel") == "CANCELLED"
    assert change(platform, job_id, "cancel") == "CANCELLED"
    assert get_job(platform, job_id)["status"] == "CANCELLED"
    trainer.allowed = 100
    assert change(platform, job_id, "resume") in ("QUEUED", "LOADING DATA")
    job = wait_for_jobs(platform, job_id, "COMPLETED")
    assert trainer.taken == [1, 2, 3, 3, 4]
    assert steps_of(job) == [1, 2, 3, 4]
    assert job["resume_count"] == 1


def test_a_failed_job_says_why_and_can_be_resumed_more_than_once(platform, trainer):
    trainer.breaks_at = 3
    job_id = start_job(platform)
    job = wait_for_jobs(platform, job_id, "FAILED")
    assert job["detail"] == "The training process died: out of luck."
    trainer.breaks_at = 4
    change(platform, job_id, "resume")
    wait_until(lambda: get_job(platform, job_id)["resume_count"] == 1)
    wait_for_jobs(platform, job_id, "FAILED")
    change(platform, job_id, "resume")
    job = wait_for_jobs(platform, job_id, "COMPLETED")
    assert job["resume_count"] == 2
    assert "detail" not in job


def test_only_an_unsuccessful_job_can_be_resumed(platform, trainer):
    trainer.allowed = 1
    job_id = start_job(platform)
    wait_for_jobs(platform, job_id, "TRAINING MODEL")
    early = platform.http.post(f"/v1/train/jobs/{job_id}/resume")
    trainer.allowed = 100
    wait_for_jobs(platform, job_id, "COMPLETED")
    late = platform.http.post(f"/v1/train/jobs/{job_id}/resume")
    assert [response.status_code for response in (early, late)] == [400, 400]
    assert "is TRAINING MODEL" in early.json()["detail"]
    assert "is COMPLETED" in late.json()["detail"]
    assert change(platform, job_id, "cancel") == "COMPLETED"


def test_all_jobs_can_be_cancelled_at_once(platform, trainer):
    done = start_job(platform)
    wait_for_jobs(platform, done, "COMPLETED")
    trainer.allowed = 0
    jobs = [start_job(platform), start_job(platform)]
    response = platform.http.post("/v1/train/jobs/cancel")
    assert response.json() == {"status": "CANCELLED", "job_ids": jobs}
    assert [get_job(platform, job_id)["status"] for job_id in (done, *jobs)] == [
        "COMPLETED",
        "CANCELLED",
        "CANCELLED",
    ]


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("failed", "FAILED"),
        ("timed out", "TIMED OUT"),
        ("cancelled", "CANCELLED"),
        ("partly succeeded", "PARTIALLY COMPLETED"),
    ],
)
def test_every_final_state_can_be_forced(platform, trainer, state, word):
    trainer.allowed = 1
    job_id = start_job(platform)
    wait_for_jobs(platform, job_id, "TRAINING MODEL")
    body = {"state": state, "detail": "forced by a test"}
    assert platform.http.post(f"/_control/jobs/{job_id}/end", json=body).json() == {"ended": True}
    job = wait_for_jobs(platform, job_id, word)
    assert (job["model_name"], job["detail"]) == (None, "forced by a test")


def test_a_held_job_takes_no_more_steps(platform):
    hold = {"kind": "tuning", "after_rows": 2}
    platform.http.post("/_control/holds", json=hold)
    job_id = start_job(platform)
    wait_until(lambda: steps_of(get_job(platform, job_id)) == [1, 2])
    assert change(platform, job_id, "cancel") == "CANCELLED"
    platform.http.delete("/_control/holds")
    change(platform, job_id, "resume")
    wait_for_jobs(platform, job_id, "COMPLETED")


def test_a_loading_model_cannot_be_tuned_yet(platform):
    platform.http.post("/_control/loading", json={"model_name": BASE, "seconds": 60})
    body = {"model_name": BASE, "dataset_id": dataset(platform)}
    assert platform.http.post("/v1/train", json=body).status_code == 513


def test_a_restarted_platform_continues_from_the_checkpoint_and_serves_tuned_models(platform, trainer):
    first = wait_for_jobs(platform, start_job(platform, custom_model_name="first"), "COMPLETED")
    trainer.allowed, trainer.taken = 3, []
    job_id, waiting = start_job(platform), start_job(platform)
    wait_until(lambda: steps_of(get_job(platform, job_id)) == [1, 2, 3])
    platform.stop()
    trainer.allowed = 100
    platform.start()
    assert "answer 1" in complete(platform, first["model_name"]).text
    job = wait_for_jobs(platform, job_id, "COMPLETED")
    assert (steps_of(job), job["resume_count"]) == ([1, 2, 3, 4], 0)
    assert trainer.taken[:5] == [1, 2, 3, 3, 4]
    wait_for_jobs(platform, waiting, "COMPLETED")
    assert get_job(platform, first["job_id"]) == first


def test_a_platform_that_died_after_training_does_not_train_again(platform, trainer):
    """The adapter exists, but neither the model's name nor the job's end has been stored."""
    trainer.allowed = 1
    job_id = start_job(platform)
    wait_for_jobs(platform, job_id, "TRAINING MODEL")
    platform.stop()
    trainer.taken = []
    platform.platform.tunings.adapter_path(job_id).write_text('{"question 1": "learnt before"}')
    platform.start()
    job = wait_for_jobs(platform, job_id, "COMPLETED")
    assert "learnt before" in complete(platform, job["model_name"]).text
    assert trainer.taken == []


def test_a_deleted_adapter_is_no_longer_served(platform):
    job_id = start_job(platform)
    name = wait_for_jobs(platform, job_id, "COMPLETED")["model_name"]
    platform.stop()
    platform.platform.tunings.adapter_path(job_id).unlink()
    platform.start()
    assert complete(platform, name).status_code == 594


def test_rows_and_checkpoints_are_deleted_once_the_model_exists(platform, trainer):
    trainer.allowed = 3
    job_id = start_job(platform)
    folder = platform.data / "tuning" / "jobs" / str(job_id)
    wait_until((folder / "checkpoint.txt").exists)
    trainer.allowed = 100
    wait_for_jobs(platform, job_id, "COMPLETED")
    assert not folder.exists()


def test_a_reset_deletes_jobs_but_keeps_models(platform, trainer):
    name = wait_for_jobs(platform, start_job(platform), "COMPLETED")["model_name"]
    trainer.allowed = 0
    start_job(platform)
    platform.http.post("/_control/reset")
    assert platform.http.get("/v1/train/jobs").json() == []
    wait_until(lambda: not list((platform.data / "tuning" / "jobs").iterdir()))
    assert complete(platform, name).status_code == 200
    trainer.allowed = 100
    assert start_job(platform) == 3


def test_a_job_that_is_reset_while_it_begins_leaves_no_files(platform, monkeypatch):
    begun, folder = threading.Event(), TuningRepository.folder

    def folder_after_a_reset(repository, number):
        platform.http.post("/_control/reset")
        created = folder(repository, number)
        begun.set()
        return created

    monkeypatch.setattr(TuningRepository, "folder", folder_after_a_reset)
    start_job(platform)
    assert begun.wait(20)
    wait_until(lambda: not list((platform.data / "tuning" / "jobs").iterdir()))


def test_an_adapter_without_a_model_is_deleted_with_its_job(platform):
    platform.engine.refuses = "no room"
    name = wait_for_jobs(platform, start_job(platform), "FAILED")["model_name"]
    assert name == "base-tuned-1"  # it is kept and served after the next start
    orphan = platform.platform.tunings.adapter_path(7)
    orphan.write_text("{}")
    platform.stop()
    platform.start()
    assert not orphan.exists()
    assert "answer 1" in complete(platform, name).text


def test_a_model_that_cannot_be_served_fails_its_job_and_is_kept_for_a_resume(platform, trainer):
    platform.engine.refuses = "no room"
    job_id = start_job(platform)
    job = wait_for_jobs(platform, job_id, "FAILED")
    assert job["detail"] == "The model was tuned but cannot be served: no room"
    platform.engine.refuses = None
    change(platform, job_id, "resume")
    wait_for_jobs(platform, job_id, "COMPLETED")
    assert trainer.taken == [1, 2, 3, 4]


def test_jobs_deleted_from_the_store_lose_their_checkpoints_but_keep_their_models(platform, trainer):
    kept = wait_for_jobs(platform, start_job(platform), "COMPLETED")
    trainer.allowed = 3
    gone = start_job(platform)
    wait_until(lambda: steps_of(get_job(platform, gone)) == [1, 2, 3])
    change(platform, gone, "cancel")
    wait_until(lambda: not platform.platform.runner._running)
    platform.platform.store.delete_ended()
    platform.stop()
    platform.start()
    assert platform.http.get(f"/v1/train/jobs/{gone}").status_code == 498
    assert get_job(platform, kept["job_id"])["status"] == "COMPLETED"
    assert get_job(platform, kept["job_id"])["history"] == kept["history"]
    assert list((platform.data / "tuning" / "jobs").iterdir()) == []
