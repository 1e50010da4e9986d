"""Classifier training jobs: embed class descriptions and examples, then fit, calibrate and store a model."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.classifiers.features import features
from airflow_provider_lamini.local.classifiers.model import FORMAT, LearnedClass, TrainedClassifier
from airflow_provider_lamini.local.classifiers.regression import Examples, calibrate, fit
from airflow_provider_lamini.local.engines.base import EngineError
from airflow_provider_lamini.local.errors import ApiError, NoSuchJobError
from airflow_provider_lamini.local.jobs.row_jobs import embed_in_background
from airflow_provider_lamini.local.jobs.runner import JobFailed, wait_while_held
from airflow_provider_lamini.platforms.lamini.api.embeddings import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from airflow_provider_lamini.local.classifiers.repository import ClassifierRepository
    from airflow_provider_lamini.local.inference import InferenceService
    from airflow_provider_lamini.local.jobs.runner import RunningJob
    from airflow_provider_lamini.local.jobs.store import Job, JobStore
    from airflow_provider_lamini.local.jobs.worker_pool import WorkerPool

KIND: Final = "classifier"
"""Job kind of classifier training, in the store and in the control endpoints."""

TIME_LIMIT: Final = 4 * 3600.0
"""Seconds after which the platform stops a training job."""

BATCH_SIZE: Final = 4
"""Texts to embed before checking again whether the job must stop; their sentences fill requests to the engine."""

DESCRIPTION_WEIGHT: Final = 4.0
"""Number of examples that a class description counts as; matters only while there are few examples."""

_STATUS_WORDS: Final = {
    JobState.QUEUED: "CREATED",
    JobState.RUNNING: "TRAINING MODEL",
    JobState.SUCCEEDED: "COMPLETED",
    JobState.PARTLY_SUCCEEDED: "PARTIALLY COMPLETED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "CANCELLED",
    JobState.TIMED_OUT: "TIMED OUT",
}


class CachedFeatures:
    """Feature vectors of texts, computed in the background; no text is embedded twice.

    :param projects: caches the vectors
    :param inference: computes embedding vectors
    :param pool: worker pool for the embedding
    """

    def __init__(self, projects: ClassifierRepository, inference: InferenceService, pool: WorkerPool) -> None:
        self._projects = projects
        self._inference = inference
        self._pool = pool

    def compute(
        self, job: RunningJob, texts: Sequence[str], on_progress: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return one vector per text.

        :param job: the job that needs them; it pauses while the job is held
        :param texts: the texts
        :param on_progress: called with the number of texts that have a vector
        :raises JobFailed: a text could not be embedded
        """
        vectors = [self._projects.cached_vector(DEFAULT_MODEL, text) for text in texts]
        missing = [index for index, vector in enumerate(vectors) if vector is None]
        for start in range(0, len(missing), BATCH_SIZE):
            indexes = missing[start : start + BATCH_SIZE]
            done = len(texts) - len(missing) + start
            if on_progress is not None:
                on_progress(done)
            wait_while_held(job, done)
            batch = [texts[index] for index in indexes]
            try:
                computed = features(
                    batch,
                    lambda part: embed_in_background(job, self._inference, self._pool, part, DEFAULT_MODEL),
                )
            except (EngineError, ApiError) as error:
                raise JobFailed(f"The examples could not be embedded: {error}") from None
            self._projects.cache_vectors(DEFAULT_MODEL, batch, computed)
            job.note_progress()
            for index, vector in zip(indexes, computed, strict=True):
                vectors[index] = vector
        wait_while_held(job, len(texts))
        return np.asarray(vectors, dtype=np.float64)


class ClassifierTrainingRunner:
    """Runs classifier training jobs. An interrupted job resumes with the vectors that are not cached yet.

    :param projects: classes, examples and models
    :param vectors: computes feature vectors
    """

    name = KIND
    concurrency = 2
    time_limit = TIME_LIMIT

    def __init__(self, projects: ClassifierRepository, vectors: CachedFeatures) -> None:
        self._projects = projects
        self._vectors = vectors

    def run(self, job: RunningJob) -> None:
        """Train on the current classes and examples of the project, and store the model."""
        project = self._projects.get(str(job.job.params["project"]))
        classes = self._projects.classes(project)
        examples = self._projects.examples(project)
        vectors = self._vectors.compute(job, training_texts(classes, examples))
        model = train_classifier(project.name, classes, examples, vectors, job.check)
        job.check()
        self._projects.add_model(model, job.job.id, project)


def training_texts(classes: Mapping[str, str], examples: Sequence[tuple[str, str]]) -> list[str]:
    """Return the texts that training needs vectors of: class descriptions, then examples.

    :param classes: class to description
    :param examples: class and text of each example
    """
    return [
        *(f"{name}: {description}" for name, description in classes.items()),
        *(text for _, text in examples),
    ]


def train_classifier(
    project: str,
    classes: Mapping[str, str],
    examples: Sequence[tuple[str, str]],
    vectors: npt.NDArray[np.float64],
    check: Callable[[], None],
    *,
    description_weight: float = DESCRIPTION_WEIGHT,
    on_loss: Callable[[int, float], None] | None = None,
) -> TrainedClassifier:
    """Train a classifier.

    :param project: name of the project
    :param classes: class to description
    :param examples: class and text of each example
    :param vectors: the vectors of :func:`training_texts`
    :param check: called every 100 steps of a fit; an exception it raises stops the training
    :param description_weight: number of examples that a class description counts as
    :param on_loss: called with steps of the final fit and their loss
    """
    index_of = {name: index for index, name in enumerate(classes)}
    data = Examples(
        vectors=vectors,
        labels=np.array([*index_of.values(), *(index_of[name] for name, _ in examples)], dtype=np.intp),
        weights=np.array([description_weight] * len(classes) + [1.0] * len(examples)),
        held_out=np.array([False] * len(classes) + [True] * len(examples)),
    )
    calibration = calibrate(data, len(classes), check)
    weights = fit(data, len(classes), check, on_loss)
    counts = Counter(name for name, _ in examples)
    return TrainedClassifier(
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


def find_job(projects: ClassifierRepository, store: JobStore, job_id: str) -> dict[str, str | None]:
    """Find a classifier job and describe it as the platform's API does.

    :raises NoSuchJobError: the job does not exist
    """
    job = store.job(job_id, KIND)
    model_id = projects.model_of_job(job_id)
    if job is not None:
        return describe_job(job, model_id)
    # A model outlives the record of the job that trained it.
    if model_id is None:
        raise NoSuchJobError(job_id)
    return {"job_id": job_id, "status": _STATUS_WORDS[JobState.SUCCEEDED], "model_id": model_id}


def describe_job(job: Job, model_id: str | None) -> dict[str, str | None]:
    """Describe a job as the platform's API does."""
    answer = {
        "job_id": job.id,
        "status": _STATUS_WORDS[job.state],
        "model_id": model_id if job.state is JobState.SUCCEEDED else None,
    }
    return answer if job.detail is None else {**answer, "detail": job.detail}
