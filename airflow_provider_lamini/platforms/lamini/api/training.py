"""Tuning jobs: a model learns from a dataset."""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import Field, JsonValue, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import LIST, RESULTS, Call, Json, Retry
from airflow_provider_lamini.platforms.lamini.api import job_responses

LONGEST_INPUT = 8192
"""Maximum tokens of one example."""

LIKELY_MISSPELLING = 0.88
"""How similar two names are, from 0 to 1, of which one is likely to be meant as the other."""


class FinetuneArgs(schema.Request):
    """How to tune. Unknown arguments are sent unchanged."""

    max_steps: PositiveInt = 100
    learning_rate: PositiveFloat = 9e-4
    save_steps: PositiveInt | PositiveFloat = 60
    max_finetuning_examples: PositiveInt | None = None
    gradient_accumulation_steps: PositiveInt = 2
    max_length: Annotated[int, Field(ge=1, le=LONGEST_INPUT)] = 2048
    """Tokens of one example; a power of two."""
    optim: Literal[
        "adamw_hf",
        "adamw_torch",
        "adamw_torch_fused",
        "adamw_apex_fused",
        "adamw_anyprecision",
        "adafactor",
    ] = "adafactor"
    r_value: PositiveInt = 64
    """Rank of the adapters."""
    index_method: Literal["IndexIVFPQ", "IndexHNSWPQ", "IndexHNSWFlat", "IndexFlatL2", "IndexPQ"] = (
        "IndexIVFPQ"
    )
    index_k: PositiveInt = 2
    index_max_size: PositiveInt = 65536
    index_pq_m: PositiveInt = 8
    index_pq_nbits: Annotated[int, Field(ge=1, le=16)] = 8
    index_ivf_nlist: PositiveInt = 2048
    index_ivf_nprobe: PositiveInt = 48
    index_hnsw_m: Annotated[int, Field(ge=4, le=64)] = 32
    index_hnsw_efConstruction: Annotated[int, Field(ge=8, le=512)] = 16  # noqa: N815 - the platform's name
    index_hnsw_efSearch: PositiveInt = 8  # noqa: N815 - the platform's name

    @field_validator("max_length")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("Input should be a power of two")
        return value


class GpuConfig(schema.Request):
    """The GPUs of a job. It is queued until they are free."""

    gpus: NonNegativeInt = 0
    nodes: NonNegativeInt = 0


class TrainRequest(schema.Request):
    """The body of ``POST /v1/train``."""

    model_name: str = Field(min_length=1)
    dataset_id: str | None = None
    data: list[dict[str, JsonValue]] | None = None
    """Rows in the request, instead of a dataset."""
    upload_file_path: str | None = None
    finetune_args: FinetuneArgs | None = None
    gpu_config: GpuConfig | None = None
    custom_model_name: str | None = None
    train_type: Literal["memory_tuning", "memory_rag", "mome_mini"] | None = None
    is_public: bool | None = None
    id: str | None = None
    source: dict[str, JsonValue] | None = None


class TrainingStep(schema.Response):
    """A step of a tuning job."""

    step: int | None = None
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    remaining_time: float | None = None
    """Seconds left, as the platform estimates."""


class TrainJob(schema.Response):
    """A tuning job."""

    job_id: schema.Id
    status: str
    """The platform's status word, such as ``TRAINING MODEL``."""
    dataset_id: str | None = None
    model_name: str | None = None
    """The tuned model's name, once it is saved."""
    custom_model_name: str | None = None
    start_time: str | None = None
    is_public: bool | None = None
    history: str | None = None
    """The steps as JSON text; :meth:`steps` parses it."""
    resume_count: int | None = None
    resume_limit: int | None = None
    detail: JsonValue = None
    """Why it ended as it did, if the platform says so; a text."""

    @field_validator("history", mode="before")
    @classmethod
    def _history_as_text(cls, value: object) -> object:
        return value if value is None or isinstance(value, str) else json.dumps(value)

    def steps(self) -> list[TrainingStep]:
        """Return the steps so far; invalid ones are left out."""
        try:
            found = json.loads(self.history or "[]")
        except (ValueError, RecursionError):
            return []
        readable: list[TrainingStep] = []
        for each in found if isinstance(found, list) else []:
            try:
                readable.append(TrainingStep.model_validate(each))
            except ValueError:
                continue
        return readable

    def last_step(self) -> TrainingStep | None:
        """Return the last step without parsing all steps before it; ``None`` if there is none."""
        history = (self.history or "").rstrip().removesuffix("]")
        if "}" not in history:
            return None
        try:
            # The last object, if it contains no other object; otherwise all have to be parsed.
            return TrainingStep.model_validate_json(history[history.rindex("{") :])
        except ValueError:
            return next(reversed(self.steps()), None)


class EvaluatedOutput(schema.Response):
    """The output of one model."""

    model_name: str | None = None
    output: str | None = None


class EvaluatedInput(schema.Response):
    """The outputs of the models for one input."""

    input: str
    outputs: list[EvaluatedOutput]


class TrainEvaluation(schema.Response):
    """A tuned model beside its base model."""

    job_id: schema.Id | None = None
    eval_results: list[EvaluatedInput] = Field(default_factory=list)


def unknown_arguments(finetune_args: Mapping[str, Json] | None) -> dict[str, str | None]:
    """Return undocumented names among tuning arguments. Servers differ, so they may be valid.

    :param finetune_args: the arguments
    :returns: for each of them, the documented name that it may be a misspelling of
    """
    known = FinetuneArgs.model_fields
    return {
        name: next(iter(get_close_matches(name, known, n=1, cutoff=LIKELY_MISSPELLING)), None)
        for name in finetune_args or ()
        if name not in known
    }


def train(
    *,
    model_name: str,
    dataset_id: str | None = None,
    data: Sequence[Mapping[str, Json]] | None = None,
    upload_file_path: str | None = None,
    finetune_args: FinetuneArgs | Mapping[str, Json] | None = None,
    gpu_config: GpuConfig | Mapping[str, Json] | None = None,
    custom_model_name: str | None = None,
    train_type: str | None = None,
    is_public: bool | None = None,
    extra: Mapping[str, Json] | None = None,
) -> Call[job_responses.StartedJob]:
    """Start a tuning job: ``POST /v1/train``.

    :param model_name: base model; a tuned model cannot be tuned again
    :param dataset_id: dataset to learn from
    :param data: rows to send instead of a dataset, each with ``input`` and ``output``
    :param upload_file_path: the dataset's location, from ``datasets.existing``
    :param finetune_args: how to tune; only these are sent
    :param gpu_config: ``gpus`` and ``nodes``; the job is queued until they are free
    :param custom_model_name: name for the tuned model
    :param train_type: ``memory_tuning`` (the platform's default), ``memory_rag`` or ``mome_mini``
    :param is_public: whether others may use the dataset
    :param extra: additional fields of the body
    :returns: the job's id and first status
    :raises ValueError: if an argument is invalid
    """
    arguments: dict[str, object] = {
        "model_name": model_name,
        "dataset_id": dataset_id,
        "upload_file_path": upload_file_path,
        "finetune_args": schema.set_fields(finetune_args),
        "gpu_config": schema.set_fields(gpu_config),
        "custom_model_name": custom_model_name,
        "train_type": train_type,
        "is_public": is_public,
    }
    body = schema.body(
        TrainRequest, {**(extra or {}), **{k: v for k, v in arguments.items() if v is not None}}
    )
    if data is not None:
        body["data"] = schema.check_rows("data", data)
    return Call(
        operation="train_v1_train_post",
        method="POST",
        path="/v1/train",
        json=body,
        parse=schema.parser(job_responses.StartedJob),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def list_jobs() -> Call[list[TrainJob]]:
    """List all tuning jobs of the key: ``GET /v1/train/jobs``."""
    return Call(
        operation="train_jobs_get",
        method="GET",
        path="/v1/train/jobs",
        parse=schema.list_parser(TrainJob, "jobs", "data"),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )


def job(job_id: str | int) -> Call[TrainJob]:
    """Get a tuning job: ``GET /v1/train/jobs/{job_id}``.

    :param job_id: the job
    """
    return Call(
        operation="train_status_v1_train_jobs__job_id__get",
        method="GET",
        path=f"/v1/train/jobs/{schema.path_segment(job_id, 'job_id')}",
        parse=schema.parser(TrainJob),
        retry=Retry.SAFE,
        max_bytes=4_000_000,
    )


def cancel(job_id: str | int) -> Call[str | None]:
    """Cancel a tuning job: ``POST /v1/train/jobs/{job_id}/cancel``. It keeps its checkpoints.

    :param job_id: the job
    :returns: the platform's status word after that
    """
    return Call(
        operation="cancel_training_job_v1_train_jobs__job_id__cancel_post",
        method="POST",
        path=f"/v1/train/jobs/{schema.path_segment(job_id, 'job_id')}/cancel",
        parse=job_responses.parse_optional_status,
        retry=Retry.SAFE,
    )


def cancel_all() -> Call[Json]:
    """Cancel all tuning jobs of the key: ``POST /v1/train/jobs/cancel``.

    :returns: the platform's response; its structure is not documented
    """
    return Call(
        operation="train_jobs_cancel_all_post",
        method="POST",
        path="/v1/train/jobs/cancel",
        parse=lambda content: schema.decode(content) if content.strip() else None,
        retry=Retry.SAFE,
    )


def resume(job_id: str | int) -> Call[str | None]:
    """Resume an ended tuning job from its checkpoint: ``POST /v1/train/jobs/{job_id}/resume``.

    :param job_id: a job that failed, was cancelled or timed out before its ``max_steps``
    :returns: the platform's status word after that
    """
    return Call(
        operation="resume_training_job_v1_train_jobs__job_id__resume_post",
        method="POST",
        path=f"/v1/train/jobs/{schema.path_segment(job_id, 'job_id')}/resume",
        parse=job_responses.parse_optional_status,
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def evaluation(job_id: str | int) -> Call[TrainEvaluation]:
    """Get outputs of the tuned model and its base model: ``GET /v1/train/jobs/{job_id}/eval``.

    :param job_id: a job that succeeded
    """
    return Call(
        operation="train_eval_get",
        method="GET",
        path=f"/v1/train/jobs/{schema.path_segment(job_id, 'job_id')}/eval",
        parse=schema.parser(TrainEvaluation),
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )
