"""What jobs that are not made of rows share: vectors made by the pool's workers, and being held by a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.local.jobs.rows import patiently
from airflow_provider_lamini.local.jobs.runner import HOLD_POLL

if TYPE_CHECKING:
    from airflow_provider_lamini.local.inference import Inference
    from airflow_provider_lamini.local.jobs.pool import WorkPool
    from airflow_provider_lamini.local.jobs.runner import RunningJob


def wait_while_held(job: RunningJob, done: int) -> None:
    """Return if the job may go on; wait while it is held at so much work.

    :param job: the job
    :param done: units of its work that are done
    """
    job.check()
    while job.held(done):
        job.sleep(HOLD_POLL)
        job.check()


def embed_in_background(
    job: RunningJob, inference: Inference, pool: WorkPool, texts: list[str], model_name: str
) -> list[list[float]]:
    """One vector per text, made by a worker of the pool in its turn.

    :param job: the job that needs them
    :param inference: makes them
    :param pool: whose workers do it
    :param texts: the texts, few enough for one request to the engine
    :param model_name: the embedding model
    :raises EngineError: they could not be made
    """
    vectors: list[list[float]] = []

    def unit() -> None:
        vectors.extend(inference.embed(texts, model_name))

    def in_turn() -> list[list[float]]:
        vectors.clear()
        pool.run(iter([unit]), interactive=False).finished.result()
        return vectors

    return patiently(job, in_turn)
