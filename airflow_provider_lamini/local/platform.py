"""Everything that the local platform is made of, put together once."""

from __future__ import annotations

import fcntl
import threading
from typing import IO, TYPE_CHECKING, Final

from airflow_provider_lamini.local.classifiers.projects import Projects
from airflow_provider_lamini.local.classifiers.training import ClassifierTrainingRunner
from airflow_provider_lamini.local.datasets.shelf import Base, Datasets
from airflow_provider_lamini.local.faults import Faults
from airflow_provider_lamini.local.guard import Requests
from airflow_provider_lamini.local.inference import Inference
from airflow_provider_lamini.local.jobs.downloads import ModelDownloads
from airflow_provider_lamini.local.jobs.pool import WorkPool
from airflow_provider_lamini.local.jobs.rows import BatchCompletions, BatchEmbeddings, StreamingCompletions
from airflow_provider_lamini.local.jobs.runner import JobRunner
from airflow_provider_lamini.local.rag.build import MemoryRagBuilds
from airflow_provider_lamini.local.rag.indexes import Indexes
from airflow_provider_lamini.local.served import ServedTexts
from airflow_provider_lamini.local.store import Store
from airflow_provider_lamini.local.tuning import trainer
from airflow_provider_lamini.local.tuning.repository import KIND as TUNING
from airflow_provider_lamini.local.tuning.repository import TuningRepository
from airflow_provider_lamini.local.tuning.runner import TuningRunner, job_number, serve_tuned_models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_lamini.local.engines.base import EmbeddingEngine, TextEngine
    from airflow_provider_lamini.local.jobs.runner import JobKind
    from airflow_provider_lamini.local.models.store import ModelStore
    from airflow_provider_lamini.local.tuning.runner import Trainer

VECTOR_WORKERS: Final = 2
"""Requests to the embedding engine at a time; each holds many texts."""


class Platform:
    """The state behind the endpoints.

    :param data: folder of what outlives the process; one platform at a time uses it
    :param texts: generates text
    :param vectors: makes vectors
    :param models: the cache that further models are fetched into; None where an upstream engine has its own
    :param open_text: makes the engine of a model in that cache
    :param upload_base: how the rows of datasets are to come in
    :param trainer: trains
    :raises FolderInUseError: another platform uses the folder
    """

    def __init__(
        self,
        data: Path,
        texts: TextEngine,
        vectors: EmbeddingEngine,
        models: ModelStore | None = None,
        open_text: Callable[[str], TextEngine] | None = None,
        *,
        upload_base: Base = "local",
        trainer: Trainer = trainer,
    ) -> None:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)  # prompts lie there
        self._lock = _lock(data / "lock")
        self.store = Store(data / "platform.sqlite")
        self.faults = Faults()
        self.requests = Requests()
        served = ServedTexts(texts)
        self.inference = Inference(served, vectors, self.faults, self._is_arriving)
        # As many workers as the engine has places: batches leave one of them free for interactive requests.
        self.text_pool = WorkPool(texts.parallel, "text")
        self.vector_pool = WorkPool(VECTOR_WORKERS, "vectors")
        self.streams = StreamingCompletions(self.inference, self.text_pool)
        batches = (
            BatchCompletions(self.inference, self.text_pool),
            BatchEmbeddings(self.inference, self.vector_pool),
        )
        self.datasets = Datasets(data / "datasets", upload_base)
        self.indexes = Indexes(data / "memory_rag", self.store)
        self.classifiers = Projects(data / "classifiers")
        self.texts = served
        self.trainer = trainer
        self.tunings = TuningRepository(data / "tuning")
        self.tuning = TuningRunner(self.tunings, self.datasets, served, trainer, self.model_names)
        kinds: list[JobKind] = [
            *batches,
            self.streams,
            MemoryRagBuilds(self.indexes, self.inference, self.vector_pool),
            ClassifierTrainingRunner(self.classifiers, self.inference, self.vector_pool),
            self.tuning,
        ]
        self.can_download = models is not None and open_text is not None
        self.download_lock = threading.Lock()
        if models is not None and open_text is not None:
            kinds.append(ModelDownloads(models, lambda name: served.add(open_text(name))))
        self.runner = JobRunner(self.store, kinds)
        serve_tuned_models(self.tunings, served)
        self.forget_old_tunings()

    def model_names(self) -> list[str]:
        """The models that are served, each once."""
        return list(dict.fromkeys([*self.inference.texts.models(), *self.inference.vectors.models()]))

    def forget_old_tunings(self) -> None:
        """Forget tuning jobs that the store knows no more, but for those whose model is still there."""
        kept = {job_number(run) for run in self.store.jobs(TUNING)}
        self.tunings.delete_jobs(kept | {model.job for model in self.tunings.models()})

    def _is_arriving(self, model_name: str) -> bool:
        names = (job.params["model_name"] for job in self.store.jobs(ModelDownloads.name, alive=True))
        return model_name in names

    def close(self) -> None:
        """Stop working; jobs that live are taken up by the next process with the same data."""
        self.runner.stop()
        self.text_pool.close()
        self.vector_pool.close()
        self.store.close()
        self.datasets.close()
        self.classifiers.close()
        self.tunings.close()
        self._lock.close()


class FolderInUseError(Exception):
    """Another platform works with the same folder; both would do the same jobs."""


def _lock(file: Path) -> IO[bytes]:
    """Lock a file until it is closed or this process ends, however it ends."""
    opened = file.open("ab")
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        opened.close()
        raise FolderInUseError(
            f"A local platform already works with {file.parent}: stop it, or choose another --data folder."
        ) from None
    return opened
