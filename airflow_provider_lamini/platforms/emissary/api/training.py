"""Training jobs of a project: supervised fine-tuning (SFT), and reinforcement learning with rewards (GRPO)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, JsonValue, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import LIST, Call, Json, Retry
from airflow_provider_lamini.platforms.emissary.api.datasets import DatasetSummary
from airflow_provider_lamini.platforms.emissary.api.fields import (
    ListOf,
    MappingOf,
    TaskType,
    UnixTime,
    parse_no_content,
)

Name = Annotated[str, Field(min_length=1)]


class TrainingParameters(schema.Request):
    """How to train; unknown parameters are sent unchanged."""

    learning_rate: PositiveFloat | None = None
    num_train_epochs: PositiveInt | PositiveFloat | None = None
    per_device_train_batch_size: PositiveInt | None = None


class SFTParameters(TrainingParameters):
    """Parameters of SFT."""

    downsample_size: PositiveInt | PositiveFloat | None = None
    per_device_eval_batch_size: PositiveInt | None = None
    dynamic_loss: bool | None = None


class GRPOParameters(TrainingParameters):
    """Parameters of GRPO."""

    num_generations: PositiveInt | None = None


class TrainingRequest(schema.Request):
    """What the bodies of SFT and GRPO have in common."""

    base_model: Name
    """A base model, or with ``fine-tuned`` the name of a training job."""
    train_dataset_id: Name
    base_model_option: Literal["pre-trained", "fine-tuned"] | None = None
    checkpoint: NonNegativeInt | None = None
    """Checkpoint of the training job that ``base_model`` names."""
    test_dataset_id: Name | None = None
    train_test_split_ratio: Annotated[int | float, Field(gt=0, lt=100)] | None = None
    """Percent of the training dataset that are used for tests."""
    test_functions: list[Name] | None = None
    name: Name | None = None
    description: str | None = None
    task_type: TaskType | None = None
    hf_model_link: Name | None = None

    @model_validator(mode="after")
    def _checkpoint_of_a_fine_tuned_model(self) -> "TrainingRequest":
        if self.base_model_option == "fine-tuned" and self.checkpoint is None:
            raise ValueError("checkpoint is required with base_model_option='fine-tuned'")
        return self


class SFTRequest(TrainingRequest):
    """The body of ``POST /v1/projects/{project_id}/training-jobs``."""

    parameters: SFTParameters | None = None
    rebalance_data: dict[str, Annotated[int | float, Field(ge=0, allow_inf_nan=False)]] | None = None
    """Label to share or number of its examples."""

    @model_validator(mode="after")
    def _only_classes_are_rebalanced(self) -> "SFTRequest":
        if self.rebalance_data is not None and self.task_type != "classification":
            raise ValueError("rebalance_data is only for task_type='classification'")
        return self


class GRPORequest(TrainingRequest):
    """The body of ``POST /v1/projects/{project_id}/training-jobs/grpo``."""

    test_functions: list[Name] = Field(min_length=1)
    reward: dict[str, Annotated[int | float, Field(allow_inf_nan=False)]] = Field(min_length=1)
    """Test function to weight of its score."""
    parameters: GRPOParameters | None = None

    @model_validator(mode="after")
    def _weights_of_test_functions(self) -> "GRPORequest":
        if missing := sorted(set(self.reward) - set(self.test_functions)):
            raise ValueError(
                f"reward has weights of {', '.join(missing)}, which test_functions does not list"
            )
        return self


class TrainingJobSummary(schema.Response):
    """A training job in a list."""

    id: schema.Id
    status: str
    """The platform's status word, such as ``Running``."""
    name: str | None = None
    training_technique: str | None = None
    """``SFT`` or ``GRPO``."""
    task_type: str | None = None
    base_model_option: str | None = None
    base_model: str | None = None
    base_fine_tuned_model: str | None = None
    base_fine_tuned_model_checkpoint: int | None = None
    train_dataset_name: str | None = None
    test_functions: ListOf[str]
    reward: MappingOf[float]
    progress: int | float | None = None
    """Percent."""
    created_by: str | None = None
    created_at: UnixTime | None = None
    updated_at: UnixTime | None = None


class LossPoint(schema.Response):
    """One point of the loss curve."""

    timestamp: float | None = None
    loss: float | None = None


class TrainingJobDetail(TrainingJobSummary):
    """A training job."""

    train_dataset: DatasetSummary | None = None
    test_dataset: DatasetSummary | None = None
    training_loss: ListOf[LossPoint]
    hyper_parameters: MappingOf[JsonValue]


def train(
    project_id: str,
    *,
    base_model: str,
    train_dataset_id: str,
    base_model_option: str | None = None,
    checkpoint: int | None = None,
    test_dataset_id: str | None = None,
    train_test_split_ratio: float | None = None,
    test_functions: Sequence[str] | None = None,
    name: str | None = None,
    description: str | None = None,
    task_type: str | None = None,
    parameters: SFTParameters | Mapping[str, Json] | None = None,
    rebalance_data: Mapping[str, float] | None = None,
    hf_model_link: str | None = None,
    extra: Mapping[str, Json] | None = None,
) -> Call[TrainingJobSummary]:
    """Start supervised fine-tuning: ``POST /v1/projects/{project_id}/training-jobs``.

    :param project_id: the project
    :param base_model: a base model; with ``fine-tuned`` the name of a training job
    :param train_dataset_id: dataset to learn from
    :param base_model_option: ``pre-trained`` (the platform's default) or ``fine-tuned``
    :param checkpoint: with ``fine-tuned``: the checkpoint to continue from
    :param test_dataset_id: dataset to test checkpoints on
    :param train_test_split_ratio: percent of the training dataset to test on instead: 20 means 20%
    :param test_functions: names of test functions that score each checkpoint
    :param name: name for the job
    :param description: text about the job
    :param task_type: ``text-generation`` (the platform's default), ``classification``, ``embedding`` or ``regression``
    :param parameters: how to train; only these are sent
    :param rebalance_data: for ``classification``: label to share or number of its examples
    :param hf_model_link: link to a model of a hub
    :param extra: additional fields of the body
    :returns: the job
    :raises ValueError: if an argument is invalid
    """
    arguments: dict[str, object] = {
        "base_model": base_model,
        "train_dataset_id": train_dataset_id,
        "base_model_option": base_model_option,
        "checkpoint": checkpoint,
        "test_dataset_id": test_dataset_id,
        "train_test_split_ratio": train_test_split_ratio,
        "test_functions": test_functions,
        "name": name,
        "description": description,
        "task_type": task_type,
        "parameters": schema.set_fields(parameters),
        "rebalance_data": rebalance_data,
        "hf_model_link": hf_model_link,
    }
    return Call(
        operation="createTrainingJob",
        method="POST",
        path=_path(project_id),
        json=_body(SFTRequest, arguments, extra),
        parse=schema.parser(TrainingJobSummary),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def train_grpo(
    project_id: str,
    *,
    base_model: str,
    train_dataset_id: str,
    test_functions: Sequence[str],
    reward: Mapping[str, float],
    base_model_option: str | None = None,
    checkpoint: int | None = None,
    test_dataset_id: str | None = None,
    train_test_split_ratio: float | None = None,
    name: str | None = None,
    description: str | None = None,
    task_type: str | None = None,
    parameters: GRPOParameters | Mapping[str, Json] | None = None,
    hf_model_link: str | None = None,
    extra: Mapping[str, Json] | None = None,
) -> Call[TrainingJobSummary]:
    """Start reinforcement learning: ``POST /v1/projects/{project_id}/training-jobs/grpo``.

    :param project_id: the project
    :param base_model: a base model; with ``fine-tuned`` the name of a training job
    :param train_dataset_id: dataset with prompts
    :param test_functions: names of test functions that score the outputs
    :param reward: test function to weight of its score; only those in ``test_functions``
    :param base_model_option: ``pre-trained`` (the platform's default) or ``fine-tuned``
    :param checkpoint: with ``fine-tuned``: the checkpoint to continue from
    :param test_dataset_id: dataset to test checkpoints on
    :param train_test_split_ratio: percent of the training dataset to test on instead: 20 means 20%
    :param name: name for the job
    :param description: text about the job
    :param task_type: ``text-generation`` (the platform's default), ``classification``, ``embedding`` or ``regression``
    :param parameters: how to train; only these are sent
    :param hf_model_link: link to a model of a hub
    :param extra: additional fields of the body
    :returns: the job
    :raises ValueError: if an argument is invalid
    """
    arguments: dict[str, object] = {
        "base_model": base_model,
        "train_dataset_id": train_dataset_id,
        "test_functions": test_functions,
        "reward": reward,
        "base_model_option": base_model_option,
        "checkpoint": checkpoint,
        "test_dataset_id": test_dataset_id,
        "train_test_split_ratio": train_test_split_ratio,
        "name": name,
        "description": description,
        "task_type": task_type,
        "parameters": schema.set_fields(parameters),
        "hf_model_link": hf_model_link,
    }
    return Call(
        operation="createGRPOTrainingJob",
        method="POST",
        path=f"{_path(project_id)}/grpo",
        json=_body(GRPORequest, arguments, extra),
        parse=schema.parser(TrainingJobSummary),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def list_jobs(project_id: str) -> Call[list[TrainingJobSummary]]:
    """List the training jobs of a project: ``GET /v1/projects/{project_id}/training-jobs``.

    :param project_id: the project
    """
    return Call(
        operation="listTrainingJobs",
        method="GET",
        path=_path(project_id),
        parse=schema.list_parser(TrainingJobSummary),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )


def job(project_id: str, training_job_id: str) -> Call[TrainingJobDetail]:
    """Get a training job: ``GET /v1/projects/{project_id}/training-jobs/{training_job_id}``.

    :param project_id: the project
    :param training_job_id: the job
    """
    return Call(
        operation="retrieveTrainingJobById",
        method="GET",
        path=job_path(project_id, training_job_id),
        parse=schema.parser(TrainingJobDetail),
        retry=Retry.SAFE,
    )


def delete(project_id: str, training_job_id: str) -> Call[None]:
    """Delete a training job: ``DELETE /v1/projects/{project_id}/training-jobs/{training_job_id}``.

    :param project_id: the project
    :param training_job_id: the job
    """
    return Call(
        operation="deleteTrainingJobById",
        method="DELETE",
        path=job_path(project_id, training_job_id),
        parse=parse_no_content,
        retry=Retry.SAFE,
    )


def cancel(project_id: str, training_job_id: str) -> Call[None]:
    """Cancel a training job: ``POST /v1/projects/{project_id}/training-jobs/{training_job_id}/cancel``.

    :param project_id: the project
    :param training_job_id: the job
    """
    return Call(
        operation="cancelTrainingJobById",
        method="POST",
        path=f"{job_path(project_id, training_job_id)}/cancel",
        parse=parse_no_content,
        retry=Retry.SAFE,
    )


def job_path(project_id: str, training_job_id: str) -> str:
    """Return the path of a training job."""
    return f"{_path(project_id)}/{schema.path_segment(training_job_id, 'training_job_id')}"


def _path(project_id: str) -> str:
    return f"/v1/projects/{schema.path_segment(project_id, 'project_id')}/training-jobs"


def _body(
    model: type[TrainingRequest], arguments: Mapping[str, object], extra: Mapping[str, Json] | None
) -> dict[str, Json]:
    stated = {name: value for name, value in arguments.items() if value is not None}
    return schema.body(model, {**(extra or {}), **stated})
