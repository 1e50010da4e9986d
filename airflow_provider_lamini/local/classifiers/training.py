"""Training a classifier, as a job: the vectors of descriptions and examples, the model, its calibration."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.classifiers.features import features
from airflow_provider_lamini.local.classifiers.model import FORMAT, ClassifierModel, LearnedClass
from airflow_provider_lamini.local.classifiers.regression import Examples, calibrate, fit
from airflow_provider_lamini.local.engines.base import EngineError
from airflow_provider_lamini.local.errors import JobNotFoundError, PlatformError
from airflow_provider_lamini.local.jobs.row_jobs import embed_in_background
from airflow_provider_lamini.local.jobs.runner import JobFailed, wait_while_held
from airflow_provider_lamini.platforms.lamini.api.embeddings import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from airflow_provider_lamini.local.classifiers.projects import Projects
    from airflow_provider_lamini.local.inference import Inference
    from airflow_provider_lamini.local.jobs.runner import RunningJob
    from airflow_provider_lamini.local.jobs.store import Job, JobStore
    from airflow_provider_lamini.local.jobs.worker_pool import WorkerPool

KIND: Final = "classifier"
"""The word for a classifier's job in the store and in the control endpoints."""

TIME_LIMIT: Final = 4 * 3600.0
"""Seconds after which the platform stops a training."""

TEXTS_AT_ONCE: Final = 4
"""Texts between two looks at whether the job must end; with their sentences they fill requests to the engine."""

DESCRIPTION_WEIGHT: Final = 4.0
"""A class's description counts as so many examples: that is right for few examples and fades with more."""

_WORDS: Final = {
    JobState.QUEUED: "CREATED",
    JobState.RUNNING: "TRAINING MODEL",
    JobState.SUCCEEDED: "COMPLETED",
    JobState.PARTLY_SUCCEEDED: "PARTIALLY COMPLETED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "CANCELLED",
    JobState.TIMED_OUT: "TIMED OUT",
}


class ClassifierTrainings:
    """Trainings of classifiers. One that was interrupted goes on with the vectors that are missing.

    :param projects: classes, examples and models
    :param inference: makes the vectors
    :param pool: whose workers do it
    """

    name = KIND
    concurrency = 2
    time_limit = TIME_LIMIT

    def __init__(self, projects: Projects, inference: Inference, pool: WorkerPool) -> None:
        self._projects = projects
        self._inference = inference
        self._pool = pool

    def run(self, job: RunningJob) -> None:
        """Train on all classes and examples that the project has now."""
        project = self._projects.get(str(job.job.params["project"]))
        classes = self._projects.classes(project)
        given = self._projects.examples(project)
        vectors = self._vectors(job, learned_texts(classes, given))
        model = learned(project.name, classes, given, vectors, job.check)
        job.check()
        self._projects.keep(model, job.job.id, project)

    def _vectors(self, job: RunningJob, texts: list[str]) -> npt.NDArray[np.float64]:
        found = [self._projects.vector(DEFAULT_MODEL, text) for text in texts]
        missing = [place for place, vector in enumerate(found) if vector is None]
        for start in range(0, len(missing), TEXTS_AT_ONCE):
            places = missing[start : start + TEXTS_AT_ONCE]
            wait_while_held(job, len(texts) - len(missing) + start)
            part = [texts[place] for place in places]
            try:
                vectors = features(
                    part,
                    lambda some: embed_in_background(job, self._inference, self._pool, some, DEFAULT_MODEL),
                )
            except (EngineError, PlatformError) as error:
                raise JobFailed(f"The examples got no vectors: {error}") from None
            self._projects.set_vectors(DEFAULT_MODEL, part, vectors)
            for place, vector in zip(places, vectors, strict=True):
                found[place] = vector
        wait_while_held(job, len(texts))
        return np.asarray(found, dtype=np.float64)


def learned_texts(classes: Mapping[str, str], given: Sequence[tuple[str, str]]) -> list[str]:
    """The texts whose vectors a training needs: descriptions, then examples.

    :param classes: class to description
    :param given: class and text of each example
    """
    return [
        *(f"{name}: {description}" for name, description in classes.items()),
        *(text for _, text in given),
    ]


def learned(
    project: str,
    classes: Mapping[str, str],
    given: Sequence[tuple[str, str]],
    vectors: npt.NDArray[np.float64],
    check: Callable[[], None],
) -> ClassifierModel:
    """Train a classifier.

    :param project: name of its project
    :param classes: class to description
    :param given: class and text of each example
    :param vectors: the vectors of :func:`learned_texts`
    :param check: called now and then; what it raises ends the training
    """
    number = {name: place for place, name in enumerate(classes)}
    examples = Examples(
        vectors=vectors,
        labels=np.array([*number.values(), *(number[name] for name, _ in given)], dtype=np.intp),
        weights=np.array([DESCRIPTION_WEIGHT] * len(classes) + [1.0] * len(given)),
        held_out=np.array([False] * len(classes) + [True] * len(given)),
    )
    calibration = calibrate(examples, len(classes), check)
    weights = fit(examples, len(classes), check)
    counts = Counter(name for name, _ in given)
    return ClassifierModel(
        format=FORMAT,
        project=project,
        embedding_model=DEFAULT_MODEL,
        classes=[
            LearnedClass(name=name, description=description, examples=counts[name])
            for name, description in classes.items()
        ],
        slopes=weights.slopes.tolist(),
        offsets=weights.offsets.tolist(),
        sharpness=calibration.sharpness,
        accuracy=calibration.accuracy,
        created=time.time(),
    )


def shown_job(projects: Projects, store: JobStore, job_id: str) -> dict[str, str | None]:
    """How a classifier's job stands, as the platform answers it.

    :raises JobNotFoundError: there is none of that id
    """
    job = store.job(job_id, KIND)
    model_id = projects.model_of_job(job_id)
    if job is not None:
        return shown(job, model_id)
    # A model outlives the record of the job that made it.
    if model_id is None:
        raise JobNotFoundError(job_id)
    return {"job_id": job_id, "status": _WORDS[JobState.SUCCEEDED], "model_id": model_id}


def shown(job: Job, model_id: str | None) -> dict[str, str | None]:
    """A job as the platform answers it."""
    answer = {
        "job_id": job.id,
        "status": _WORDS[job.state],
        "model_id": model_id if job.state is JobState.SUCCEEDED else None,
    }
    return answer if job.detail is None else {**answer, "detail": job.detail}
