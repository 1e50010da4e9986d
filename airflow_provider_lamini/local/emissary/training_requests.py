"""Checks requests to train, and completes them with defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from airflow_provider_lamini.local.emissary.service import effective, main_name
from airflow_provider_lamini.local.emissary.training_spec import (
    DEFAULT_TEST_PERCENT,
    ClassifierParameters,
    RewardParameters,
    TextParameters,
    TrainingSpec,
)
from airflow_provider_lamini.local.engines.base import EngineError
from airflow_provider_lamini.local.errors import UNSUPPORTED, ApiError, InvalidInputError
from airflow_provider_lamini.local.test_functions import TEST_FUNCTIONS, unknown_functions
from airflow_provider_lamini.platforms.emissary.api.training import GRPORequest, SFTRequest

if TYPE_CHECKING:
    from airflow_provider_lamini.local.emissary.resources import Project
    from airflow_provider_lamini.local.emissary.service import Parameters
    from airflow_provider_lamini.local.platform import LocalPlatform

P = TypeVar("P", TextParameters, RewardParameters, ClassifierParameters)

MAX_LEARNING_RATE: Final = 1.0
MAX_BATCH_SIZE: Final = 160
MIN_GENERATIONS: Final = 2
MAX_GENERATIONS: Final = 16

_Start = tuple[str, str | None, str | None]
"""Base model, name of the training job to continue from, and file of its checkpoint."""


def to_spec(platform: LocalPlatform, project: Project, body: SFTRequest | GRPORequest) -> TrainingSpec:
    """Return what a training job has to do.

    :param platform: the platform
    :param project: the project of the job
    :param body: the request
    :raises InvalidInputError: the request cannot be fulfilled; the message names the field
    """
    reward = {**body.reward} if isinstance(body, GRPORequest) else {}
    if body.hf_model_link is not None:
        raise InvalidInputError("hf_model_link: the local platform trains only the models that it serves.")
    task_type = body.task_type or "text-generation"
    if task_type not in ("text-generation", "classification"):
        raise InvalidInputError(
            f"task_type: the local platform trains text-generation and classification, not {task_type}."
        )
    if reward and task_type != "text-generation":
        raise InvalidInputError("task_type: GRPO trains text-generation only.")
    base, fine_tuned, start = _start(platform, project, body, task_type)
    _check_base(platform, base, task_type)
    functions = [*(body.test_functions or ())]
    _check_functions("test_functions", functions)
    _check_functions("reward", [*reward])
    train = platform.emissary.ready_dataset(project, body.train_dataset_id, "train_dataset_id")
    if body.test_dataset_id is not None:
        platform.emissary.ready_dataset(project, body.test_dataset_id, "test_dataset_id")
    percent = 0.0
    if body.test_dataset_id is None and (functions or body.train_test_split_ratio is not None):
        percent = float(body.train_test_split_ratio or DEFAULT_TEST_PERCENT)
    return TrainingSpec(
        project=project.id,
        name=body.name or "",
        description=body.description or "",
        technique="GRPO" if reward else "SFT",
        task_type=task_type,
        base=base,
        fine_tuned=fine_tuned,
        fine_tuned_checkpoint=None if fine_tuned is None else body.checkpoint,
        start=start,
        dataset=train.id,
        dataset_name=train.name,
        test_dataset=body.test_dataset_id,
        test_percent=percent,
        test_functions=functions,
        reward=reward,
        rebalance=dict(body.rebalance_data or {}) if isinstance(body, SFTRequest) else {},
        parameters=effective(_parameters(body, task_type)),
    )


def _start(
    platform: LocalPlatform, project: Project, body: SFTRequest | GRPORequest, task_type: str
) -> _Start:
    if body.base_model_option != "fine-tuned":
        return main_name(body.base_model), None, None
    if task_type != "text-generation":
        raise InvalidInputError("base_model_option: only text-generation can continue from a checkpoint.")
    job = platform.emissary.job_named(project.id, body.base_model)
    earlier = TrainingSpec.from_params(job.params)
    if earlier.task_type != task_type:
        raise InvalidInputError(f"base_model: training job {body.base_model!r} has trained a classifier.")
    checkpoint = platform.emissary.checkpoint(job.id, body.checkpoint or 0)
    return earlier.base, earlier.name, checkpoint.file


def _check_base(platform: LocalPlatform, name: str, task_type: str) -> None:
    model = platform.emissary.base_model(name)
    if model is None:
        known = ", ".join(item.name for item in platform.emissary.base_models())
        raise InvalidInputError(f"base_model: {name!r} is not served; base models are {known}.")
    if task_type == "classification":
        if model.type != "embeddings":
            raise InvalidInputError(
                f"base_model: the local platform trains classifiers on embedding models, which {name!r} is not."
            )
        return
    if model.type != "completion":
        raise InvalidInputError(f"base_model: {name!r} generates no text.")
    if problem := platform.tuning_problem():
        raise ApiError(UNSUPPORTED, problem)
    try:
        platform.served_models.model_file(name)
    except EngineError as error:
        raise InvalidInputError(f"base_model: {error}") from None


def _check_functions(field: str, names: list[str]) -> None:
    if unknown := unknown_functions(names):
        known = ", ".join(TEST_FUNCTIONS)
        raise InvalidInputError(f"{field}: no test function is named {unknown[0]!r}; there are {known}.")


def _parameters(body: SFTRequest | GRPORequest, task_type: str) -> Parameters:
    parameters: RewardParameters | TextParameters
    requested = {} if body.parameters is None else body.parameters.model_dump(exclude_none=True)
    if isinstance(body, GRPORequest):
        parameters = rewarded = _with_defaults(RewardParameters, requested)
        if not MIN_GENERATIONS <= rewarded.num_generations <= MAX_GENERATIONS:
            raise InvalidInputError(
                f"parameters.num_generations: it must be {MIN_GENERATIONS} to {MAX_GENERATIONS}."
            )
    elif task_type == "classification":
        return _with_defaults(ClassifierParameters, requested)
    else:
        parameters = _with_defaults(TextParameters, requested)
    if parameters.learning_rate > MAX_LEARNING_RATE:
        raise InvalidInputError(f"parameters.learning_rate: it must be at most {MAX_LEARNING_RATE:g}.")
    if parameters.per_device_train_batch_size > MAX_BATCH_SIZE:
        raise InvalidInputError(
            f"parameters.per_device_train_batch_size: it must be at most {MAX_BATCH_SIZE}."
        )
    return parameters


def _with_defaults(kind: type[P], requested: dict[str, object]) -> P:
    """Return hyperparameters; those that this platform does not know change nothing."""
    return msgspec.convert(requested, kind, strict=False)
