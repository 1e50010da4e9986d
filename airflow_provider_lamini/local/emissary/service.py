"""The Emissary API's operations on projects, datasets, training jobs and models, behind its endpoints."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.emissary import training
from airflow_provider_lamini.local.emissary.dataset_files import read_rows
from airflow_provider_lamini.local.emissary.resources import (
    Checkpoint,
    Deployment,
    Project,
    StoredDataset,
    new_id,
)
from airflow_provider_lamini.local.emissary.serving import Serving
from airflow_provider_lamini.local.emissary.training_spec import (
    ClassifierParameters,
    RewardParameters,
    TextParameters,
    TrainingSpec,
)
from airflow_provider_lamini.local.errors import InvalidInputError, ObjectNotFoundError
from airflow_provider_lamini.local.models.catalogue import find
from airflow_provider_lamini.platforms.lamini.api.embeddings import DEFAULT_MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_lamini.local.emissary.background import EmissaryBackground
    from airflow_provider_lamini.local.emissary.delays import Delays
    from airflow_provider_lamini.local.inference import InferenceService
    from airflow_provider_lamini.local.jobs.runner import JobRunner
    from airflow_provider_lamini.local.jobs.store import Job, JobStore

JOB_PREFIX: Final = "tr-"

Parameters = TextParameters | RewardParameters | ClassifierParameters


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model.

    :param name: served name
    :param type: what requests it answers
    :param parameters: the hyperparameters that it is trained with by default
    """

    name: str
    type: Literal["completion", "embeddings"]
    parameters: Parameters

    @property
    def task_type(self) -> Literal["text-generation", "embedding"]:
        """What it does without training."""
        return "text-generation" if self.type == "completion" else "embedding"


class Emissary:
    """Everything the endpoints of the Emissary API work with.

    :param background: records, files and job kinds
    :param store: the jobs
    :param runner: runs them
    :param inference: answers requests
    :param delays: how long things take
    """

    def __init__(
        self,
        background: EmissaryBackground,
        store: JobStore,
        runner: JobRunner,
        inference: InferenceService,
        delays: Delays,
    ) -> None:
        background.uploads.mkdir(exist_ok=True)
        self.resources = background.resources
        self.training = background.training
        self.serving = Serving(
            background.resources,
            store,
            runner,
            served=background.served,
            folder=background.deployments,
            delays=delays,
        )
        self.delays = delays
        self._default_delays = delays.model_copy()
        self._datasets = background.datasets
        self._uploads = background.uploads
        self._store = store
        self._runner = runner
        self._served = background.served
        self._inference = inference

    # -- base models

    def base_models(self) -> list[BaseModel]:
        """Return the base models, each under its main name and its aliases."""
        vectors = self._inference.vectors.models()
        # An upstream engine lists its models without saying which ones embed.
        texts = [name for name in self._served.base_models() if name != DEFAULT_MODEL]
        models = [BaseModel(name, "completion", TextParameters()) for name in texts]
        return models + [
            BaseModel(name, "embeddings", ClassifierParameters()) for name in vectors if name not in texts
        ]

    def base_model(self, name: str) -> BaseModel | None:
        """Return the base model with this name or alias; None if there is none."""
        return next((model for model in self.base_models() if model.name == name), None)

    # -- projects

    def create_project(self, name: str | None) -> Project:
        """Create a project."""
        project_id = new_id(Project.prefix)
        return self.resources.add(Project(id=project_id, name=name or project_id))

    def project(self, project_id: str) -> Project:
        """Return a project.

        :raises ObjectNotFoundError: it does not exist
        """
        return self.resources.get(Project, project_id)

    def delete_project(self, project_id: str) -> None:
        """Delete a project and everything that it holds."""
        project = self.project(project_id)
        self.resources.remove(project)  # first, so that nothing is added to it meanwhile
        for deployment in self.resources.all(Deployment, project.id):
            self.serving.delete_deployment(deployment)
        for job in self.training_jobs(project.id):
            self.delete_training_job(job)
        for dataset in self.resources.all(StoredDataset, project.id):
            self.delete_dataset(dataset)

    # -- datasets

    def upload_dataset(self, project: Project, name: str | None, file: Path, file_name: str) -> StoredDataset:
        """Store an uploaded file.

        :param project: the project
        :param name: name for the dataset; the file's name by default
        :param file: the file, which is copied
        :param file_name: its name as sent by the client
        :raises InvalidInputError: the file's rows cannot be used for training
        """
        content = file.read_bytes()
        with self._datasets.write_rows() as (rows_id, writer):
            for row in read_rows(content, file_name):
                writer.add(row)
        self._datasets.register(rows_id, writer.rows, is_public=False)
        dataset_id = new_id(StoredDataset.prefix)
        (self._uploads / dataset_id).write_bytes(content)
        ready = time.time() + self.delays.upload
        return self.resources.add(
            StoredDataset(id=dataset_id, parent=project.id, name=name or file_name, file=rows_id, ready=ready)
        )

    def uploaded_file(self, dataset: StoredDataset) -> Path:
        """Return the path of a dataset's file, as it was uploaded."""
        return self._uploads / dataset.id

    def delete_dataset(self, dataset: StoredDataset) -> None:
        """Delete a dataset. Models that were trained on it remain."""
        self.resources.remove(dataset)
        self._datasets.delete(dataset.file)
        self.uploaded_file(dataset).unlink(missing_ok=True)

    def ready_dataset(self, project: Project, dataset_id: str, field: str) -> StoredDataset:
        """Return a dataset that can be used.

        :param project: the project that must hold it
        :param dataset_id: its id
        :param field: the field of the request that names it
        :raises InvalidInputError: there is no such dataset, or it is not uploaded yet
        """
        try:
            dataset = self.resources.get(StoredDataset, dataset_id, project.id)
        except ObjectNotFoundError as error:
            raise InvalidInputError(f"{field}: {error.detail}") from None
        if dataset.ready > time.time():
            raise InvalidInputError(f"{field}: dataset {dataset_id!r} is not uploaded yet.")
        return dataset

    # -- training jobs

    def start_training(self, spec: TrainingSpec) -> Job:
        """Start a training job. Its name is its id if it has none."""
        job_id = new_id(JOB_PREFIX)
        named = msgspec.structs.replace(spec, name=spec.name or job_id)
        return self._runner.submit(training.KIND, named.to_params(), job_id=job_id)

    def training_jobs(self, project_id: str) -> list[Job]:
        """Return the training jobs of a project, oldest first."""
        return [job for job in self._store.jobs(training.KIND) if job.params["project"] == project_id]

    def training_job(self, project_id: str, job_id: str) -> Job:
        """Return a training job of a project.

        :raises ObjectNotFoundError: there is no such job
        """
        job = self._store.job(job_id, training.KIND)
        if job is None or job.params["project"] != project_id:
            raise ObjectNotFoundError("training job", job_id)
        return job

    def cancel_training_job(self, job: Job) -> None:
        """Cancel a training job. One that has already ended does not change."""
        self._runner.end(job.id, JobState.CANCELLED)

    def delete_training_job(self, job: Job) -> None:
        """Cancel a training job, and delete it with its checkpoints. Deployments of them remain."""
        self.cancel_training_job(job)
        self.training.delete(job.id)
        self._store.delete(job.id)

    def checkpoint(self, job_id: str, number: int) -> Checkpoint:
        """Return a checkpoint of a training job.

        :raises InvalidInputError: there is no such checkpoint
        """
        for checkpoint in self.resources.all(Checkpoint, job_id):
            if checkpoint.number == number:
                return checkpoint
        raise InvalidInputError(f"checkpoint: training job {job_id!r} has no checkpoint {number}.")

    def job_named(self, project_id: str, name: str) -> Job:
        """Return the newest training job of a project with a name.

        :raises InvalidInputError: there is no such job
        """
        for job in reversed(self.training_jobs(project_id)):
            if job.params["name"] == name:
                return job
        raise InvalidInputError(f"base_model: the project has no training job named {name!r}.")

    # -- tests

    def reset(self) -> None:
        """Delete everything, and restore the delays."""
        for project in self.resources.all(Project):
            self.delete_project(project.id)
        for dataset in self.resources.all(StoredDataset):
            self.delete_dataset(dataset)
        self.serving.delete_all()
        self.resources.clear()
        for name, seconds in self._default_delays.model_dump().items():
            setattr(self.delays, name, seconds)

    def close(self) -> None:
        """Close the database."""
        self.resources.close()


def main_name(name: str) -> str:
    """Return the main name of a model, which may be given by an alias."""
    known = find(name)
    return known.name if known else name


def effective(parameters: Parameters) -> dict[str, bool | int | float | str]:
    """Return hyperparameters by name."""
    values: dict[str, bool | int | float | str] = msgspec.to_builtins(parameters)
    return values
