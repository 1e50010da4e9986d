"""The records of the Emissary API and the kinds of its jobs, which exist before there is a runner for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.local.emissary.resources import ResourceRepository
from airflow_provider_lamini.local.emissary.serving import Activations
from airflow_provider_lamini.local.emissary.training import TrainingJobs

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_lamini.local.classifiers.training import CachedFeatures
    from airflow_provider_lamini.local.datasets.repository import DatasetRepository
    from airflow_provider_lamini.local.emissary.evaluation import CheckpointTester
    from airflow_provider_lamini.local.jobs.runner import RunnableKind
    from airflow_provider_lamini.local.served_models import ServedModels
    from airflow_provider_lamini.local.tuning.runner import Trainer, TrainingSlot


class EmissaryBackground:
    """Records, files and job kinds of the Emissary API.

    :param folder: folder of everything that survives a restart; created if missing
    :param datasets: the rows of datasets
    :param served: serves base models and adapters
    :param trainer: trains adapters
    :param slot: held while an adapter is trained
    :param vectors: computes feature vectors for classifiers
    :param tester: tests checkpoints
    """

    def __init__(
        self,
        folder: Path,
        *,
        datasets: DatasetRepository,
        served: ServedModels,
        trainer: Trainer,
        slot: TrainingSlot,
        vectors: CachedFeatures,
        tester: CheckpointTester,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.uploads = folder / "uploads"
        self.deployments = folder / "deployments"
        self.resources = ResourceRepository(folder / "emissary.sqlite")
        self.datasets = datasets
        self.served = served
        self.training = TrainingJobs(
            folder,
            self.resources,
            datasets=datasets,
            served=served,
            trainer=trainer,
            slot=slot,
            vectors=vectors,
            tester=tester,
        )
        self._activations = Activations(self.resources, served, self.deployments)

    @property
    def kinds(self) -> list[RunnableKind]:
        """The job kinds."""
        return [self.training, self._activations]
