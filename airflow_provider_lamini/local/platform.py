"""The platform: assembles stores, engines, worker pools and job kinds into one object behind the endpoints."""

from __future__ import annotations

import fcntl
import shutil
import threading
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Final

from airflow_provider_lamini.local.classifiers.repository import ClassifierRepository
from airflow_provider_lamini.local.classifiers.training import CachedFeatures, ClassifierTrainingRunner
from airflow_provider_lamini.local.datasets.repository import DatasetRepository, UploadBase
from airflow_provider_lamini.local.emissary import serving, training
from airflow_provider_lamini.local.emissary.background import EmissaryBackground
from airflow_provider_lamini.local.emissary.delays import Delays
from airflow_provider_lamini.local.emissary.evaluation import CheckpointTester
from airflow_provider_lamini.local.emissary.service import Emissary
from airflow_provider_lamini.local.faults import Faults
from airflow_provider_lamini.local.inference import InferenceService
from airflow_provider_lamini.local.jobs.downloads import ModelDownloads
from airflow_provider_lamini.local.jobs.row_jobs import (
    CompletionJobs,
    EmbeddingJobs,
    StreamingCompletions,
)
from airflow_provider_lamini.local.jobs.runner import JobRunner
from airflow_provider_lamini.local.jobs.store import JobStore
from airflow_provider_lamini.local.jobs.worker_pool import WorkerPool
from airflow_provider_lamini.local.middleware import RequestCounter
from airflow_provider_lamini.local.rag.builds import MemoryRagBuilds
from airflow_provider_lamini.local.rag.repository import IndexRepository
from airflow_provider_lamini.local.served_models import ServedModels
from airflow_provider_lamini.local.tuning import trainer
from airflow_provider_lamini.local.tuning.repository import KIND as TUNING
from airflow_provider_lamini.local.tuning.repository import TuningRepository
from airflow_provider_lamini.local.tuning.runner import (
    TrainingSlot,
    TuningRunner,
    job_number,
    serve_adapters,
    stored_adapters,
)
from airflow_provider_lamini.local.tuning.trainer import TrainingUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_lamini.local.engines.base import EmbeddingEngine, TextEngine
    from airflow_provider_lamini.local.jobs.runner import RunnableKind
    from airflow_provider_lamini.local.models.store import ModelStore
    from airflow_provider_lamini.local.tuning.runner import Trainer

VECTOR_WORKERS: Final = 2
"""Parallel requests to the embedding engine. Each one holds many texts."""


class LocalPlatform:
    """Everything the endpoints work with.

    :param data: folder of all data that survives a restart; only one platform may use it at a time
    :param texts: the text engine
    :param vectors: the embedding engine
    :param models: cache for models downloaded at runtime; None with an upstream engine
    :param open_text: opens the engine of a model in that cache, by name
    :param upload_base: how clients upload the rows of datasets
    :param trainer: tunes models
    :param delays: how long things take on the platform beyond the real work
    :raises DataFolderError: the data folder cannot be used, or another platform uses it
    """

    def __init__(
        self,
        data: Path,
        texts: TextEngine,
        vectors: EmbeddingEngine,
        models: ModelStore | None = None,
        open_text: Callable[[str], TextEngine] | None = None,
        *,
        upload_base: UploadBase = "local",
        trainer: Trainer = trainer,
        delays: Delays | None = None,
    ) -> None:
        self._lock = _lock(data)
        self._temporary = data / "temporary"
        if self._temporary.exists():
            shutil.rmtree(self._temporary)
        self._temporary.mkdir()
        self.store = JobStore(data / "platform.sqlite", kept_kinds=(training.KIND, serving.KIND))
        self.faults = Faults()
        self.request_counter = RequestCounter()
        served = ServedModels(texts)
        self.inference = InferenceService(served, vectors, self.faults, self._is_downloading)
        # One worker per parallel request of the engine. Batches leave one worker free for interactive requests.
        self.text_pool = WorkerPool(texts.parallel, "text")
        self.vector_pool = WorkerPool(VECTOR_WORKERS, "vectors")
        self.streaming_completions = StreamingCompletions(self.inference, self.text_pool)
        self.datasets = DatasetRepository(data / "datasets", upload_base)
        self.indexes = IndexRepository(data / "memory_rag", self.store)
        self.classifiers = ClassifierRepository(data / "classifiers")
        self.served_models = served
        self.trainer = trainer
        self.tunings = TuningRepository(data / "tuning")
        slot = TrainingSlot()
        self.tuning_jobs = TuningRunner(
            self.tunings, self.datasets, served, trainer=trainer, served_names=self.model_names, slot=slot
        )
        vectors_of = CachedFeatures(self.classifiers, self.inference, self.vector_pool)
        background = EmissaryBackground(
            data / "emissary",
            datasets=self.datasets,
            served=served,
            trainer=trainer,
            slot=slot,
            vectors=vectors_of,
            tester=CheckpointTester(served, self.inference, self.text_pool, self.vector_pool),
        )
        kinds: list[RunnableKind] = [
            CompletionJobs(self.inference, self.text_pool),
            EmbeddingJobs(self.inference, self.vector_pool),
            self.streaming_completions,
            MemoryRagBuilds(self.indexes, self.inference, self.vector_pool),
            ClassifierTrainingRunner(self.classifiers, vectors_of),
            self.tuning_jobs,
            *background.kinds,
        ]
        self.download_lock = threading.Lock()
        serve = None if open_text is None else lambda name: served.add(open_text(name))
        kinds.append(ModelDownloads(models, serve))
        self.runner = JobRunner(self.store, kinds)
        self.emissary = Emissary(background, self.store, self.runner, self.inference, delays or Delays())
        serve_adapters(served, [*stored_adapters(self.tunings), *self.emissary.serving.adapters()])
        self.forget_old_tunings()

    def model_names(self) -> list[str]:
        """Names of all served models, without duplicates."""
        return list(dict.fromkeys([*self.inference.texts.models(), *self.inference.vectors.models()]))

    def tuning_problem(self) -> str | None:
        """Say why this installation tunes no text models, and what to do; ``None`` if it does."""
        if not self.served_models.can_tune:
            return (
                "Start the local platform without --upstream: models of an upstream engine cannot be tuned."
            )
        try:
            self.trainer.check_available()
        except TrainingUnavailable as error:
            return str(error)
        return None

    def temporary_folder(self) -> TemporaryDirectory[str]:
        """Create a folder that is removed at the end of a block; if this process is killed, when the next platform starts."""
        return TemporaryDirectory(dir=self._temporary)

    def resume(self) -> int:
        """Resume the jobs that an earlier process has left unfinished.

        :return: number of these jobs
        """
        resumed = self.runner.resume()
        self.emissary.serving.resume()
        return resumed

    def forget_old_tunings(self) -> None:
        """Delete the records of tuning jobs that the job store has deleted, unless their model still exists."""
        known = {job_number(attempt) for attempt in self.store.jobs(TUNING)}
        self.tunings.delete_jobs(known | {model.job for model in self.tunings.models()})

    def _is_downloading(self, model_name: str) -> bool:
        jobs = self.store.jobs(ModelDownloads.name, unfinished=True)
        return any(job.params["model_name"] == model_name for job in jobs)

    def close(self) -> None:
        """Stop working. The next platform with the same data folder resumes unfinished jobs."""
        self.runner.stop()
        self.text_pool.close()
        self.vector_pool.close()
        self.store.close()
        self.datasets.close()
        self.classifiers.close()
        self.tunings.close()
        self.emissary.close()
        self._lock.close()


class DataFolderError(Exception):
    """The data folder cannot be used. The message says why, and what to do."""


class FolderInUseError(DataFolderError):
    """Another platform uses the data folder. Two of them would both run the same jobs."""


def _lock(data: Path) -> IO[bytes]:
    """Create the data folder if it is missing, and lock it until the process ends, even by a crash."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)  # private, because prompts are stored in it
        opened = (data / "lock").open("ab")
    except OSError as error:
        raise DataFolderError(
            f"Choose another --data folder: {data} cannot be used ({error.strerror or error})."
        ) from error
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        opened.close()
        raise FolderInUseError(
            f"Another local platform is using {data}: stop it, or choose another --data folder."
        ) from None
    return opened
