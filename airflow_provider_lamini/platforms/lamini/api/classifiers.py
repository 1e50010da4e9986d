"""Classifiers: their training, in jobs, and their use."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AliasChoices, Field, JsonValue, PositiveInt

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import RESULTS, Call, Json, Retry
from airflow_provider_lamini.platforms.lamini.api import job_responses
from airflow_provider_lamini.wording import counted

PromptList = Annotated[list[str], Field(min_length=1)]


class ClassifierInitializeRequest(schema.Request):
    """The body of ``POST /v2/classifier/initialize``."""

    name: str = Field(min_length=1)
    model_name: str = Field(min_length=1)
    classes: dict[str, str] = Field(min_length=1)
    examples: dict[str, PromptList] | None = None


class ClassifierAddRequest(schema.Request):
    """The body of ``POST /v2/classifier/add``."""

    data: dict[str, PromptList] = Field(min_length=1)
    dataset_name: str = Field(min_length=1)
    project_name: str = Field(min_length=1)


class ClassifierTrainRequest(schema.Request):
    """The body of ``POST /v2/classifier/train``."""

    name: str = Field(min_length=1)
    classifier_train_job_id: schema.Id | None = None


class ClassifierUpdateJobRequest(schema.Request):
    """The body of ``POST /v2/classifier/update_job``."""

    job_id: schema.Id
    status: str = Field(min_length=1)


class ClassifierRegisterRequest(schema.Request):
    """The body of ``POST /v2/classifier/register``."""

    project_id: schema.Id
    model_id: schema.Id
    job_id: schema.Id


class ClassifyRequest(schema.Request):
    """The body of ``POST /v2/classifier/{model_id}/classify`` and of the v1 paths."""

    prompt: schema.Prompts
    top_n: PositiveInt | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    metadata: bool | None = None


class ClassifierJob(schema.Response):
    """A classifier's job."""

    job_id: schema.Id = Field(validation_alias=AliasChoices("job_id", "id"))
    status: str | None = None
    """The platform's status word."""
    model_id: schema.Id | None = None
    """The model, a UUID, once it exists."""
    detail: job_responses.Reason = None
    """Why the job ended as it did, if the platform says so."""


class ClassifierModel(schema.Response):
    """A trained classifier."""

    model_id: schema.Id = Field(validation_alias=AliasChoices("model_id", "id"))
    job_id: schema.Id | None = None


class ClassScore(schema.Response):
    """How likely a class is."""

    class_name: str
    prob: float
    class_id: int | None = None


class _Classification(schema.Response):
    classification: list[list[ClassScore]]


class _Prediction(schema.Response):
    prediction: str | list[str]


def initialize(
    *,
    name: str,
    model_name: str,
    classes: Mapping[str, str],
    examples: Mapping[str, Sequence[str]] | None = None,
) -> Call[ClassifierJob]:
    """Create a classifier from descriptions of its classes: ``POST /v2/classifier/initialize``.

    It takes the platform about a minute per class.

    :param name: name of the project
    :param model_name: the model that reads the descriptions
    :param classes: descriptions by class
    :param examples: texts that belong to each class
    :raises ValueError: if an argument is invalid
    """
    arguments = {"name": name, "model_name": model_name, "classes": classes, "examples": examples}
    return Call(
        operation="initialize_v2_classifier_initialize_post",
        method="POST",
        path="/v2/classifier/initialize",
        json=schema.body(ClassifierInitializeRequest, arguments),
        parse=schema.parser(ClassifierJob),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def add(*, project_name: str, dataset_name: str, data: Mapping[str, Sequence[str]]) -> Call[Json]:
    """Add examples to a project: ``POST /v2/classifier/add``.

    :param project_name: the project
    :param dataset_name: the dataset to add them to
    :param data: texts that belong to each class
    :returns: the platform's response; its structure is not documented
    :raises ValueError: if an argument is invalid
    """
    arguments = {"project_name": project_name, "dataset_name": dataset_name, "data": data}
    return Call(
        operation="add_v2_classifier_add_post",
        method="POST",
        path="/v2/classifier/add",
        json=schema.body(ClassifierAddRequest, arguments),
        parse=_read_any,
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def train(*, name: str, classifier_train_job_id: str | None = None) -> Call[ClassifierJob]:
    """Train a project's classifier on all its examples: ``POST /v2/classifier/train``.

    :param name: the project
    :param classifier_train_job_id: an earlier job to continue from
    :raises ValueError: if an argument is invalid
    """
    arguments = {"name": name, "classifier_train_job_id": classifier_train_job_id}
    return Call(
        operation="train_v2_classifier_train_post",
        method="POST",
        path="/v2/classifier/train",
        json=schema.body(ClassifierTrainRequest, arguments),
        parse=schema.parser(ClassifierJob),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def status(job_id: str) -> Call[ClassifierJob]:
    """Get the status of a classifier job: ``GET /v2/classifier/{job_id}/status``.

    :param job_id: the job
    :returns: the platform's status word, the model once it exists, and the platform's reason if it gives one
    """
    return Call(
        operation="status_v2_classifier__job_id__status_get",
        method="GET",
        path=f"/v2/classifier/{schema.path_segment(job_id, 'job_id')}/status",
        parse=lambda content: _read_status(content, job_id),
        retry=Retry.SAFE,
    )


def update_job(*, job_id: str, status: str) -> Call[Json]:
    """Set the status of a classifier job, for example to cancel it: ``POST /v2/classifier/update_job``.

    :param job_id: the job
    :param status: the platform's status word, such as ``CANCELLED``
    :returns: the platform's response; its structure is not documented
    :raises ValueError: if an argument is invalid
    """
    return Call(
        operation="update_job_v2_classifier_update_job_post",
        method="POST",
        path="/v2/classifier/update_job",
        json=schema.body(ClassifierUpdateJobRequest, {"job_id": job_id, "status": status}),
        parse=_read_any,
        retry=Retry.SAFE,
    )


def register(*, project_id: str, model_id: str, job_id: str) -> Call[Json]:
    """Register a model with a project: ``POST /v2/classifier/register``.

    :param project_id: the project
    :param model_id: the model
    :param job_id: the job that made it
    :returns: the platform's response; its structure is not documented
    :raises ValueError: if an argument is invalid
    """
    arguments = {"project_id": project_id, "model_id": model_id, "job_id": job_id}
    return Call(
        operation="register_v2_classifier_register_post",
        method="POST",
        path="/v2/classifier/register",
        json=schema.body(ClassifierRegisterRequest, arguments),
        parse=_read_any,
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def classify(
    *,
    model_id: str,
    prompt: str | Sequence[str],
    top_n: int | None = None,
    threshold: float | None = None,
    metadata: bool | None = None,
) -> Call[list[list[ClassScore]]]:
    """Classify texts: ``POST /v2/classifier/{model_id}/classify``.

    :param model_id: the classifier
    :param prompt: one text or a list
    :param top_n: maximum classes per text
    :param threshold: minimum probability of a class, 0 to 1
    :param metadata: return the metadata of each class
    :returns: the classes of each text, the most likely first
    :raises ValueError: if an argument is invalid
    """
    return _classified(
        "classify_v2_classifier__model_id__classify_post",
        f"/v2/classifier/{schema.path_segment(model_id, 'model_id')}/classify",
        _classify_body(prompt, top_n, threshold, metadata=metadata),
    )


def classify_v1(
    *,
    model_id: str,
    prompt: str | Sequence[str],
    top_n: int | None = None,
    threshold: float | None = None,
    metadata: bool | None = None,
) -> Call[list[list[ClassScore]]]:
    """Classify texts with an uploaded model: ``POST /v1/classifier/{model_id}/classification``.

    Takes and returns what :func:`classify` does.
    """
    return _classified(
        "classification_v1_post",
        f"/v1/classifier/{schema.path_segment(model_id, 'model_id')}/classification",
        _classify_body(prompt, top_n, threshold, metadata=metadata),
    )


def predict_v1(*, model_id: str, prompt: str | Sequence[str]) -> Call[list[str]]:
    """Predict the most likely class with an uploaded model: ``POST /v1/classifier/{model_id}/prediction``.

    :param model_id: the classifier
    :param prompt: one text or a list
    :returns: one class per text
    :raises ValueError: if an argument is invalid
    """
    body, expected = _classify_body(prompt, None, None, metadata=None)
    return Call(
        operation="prediction_v1_post",
        method="POST",
        path=f"/v1/classifier/{schema.path_segment(model_id, 'model_id')}/prediction",
        json=body,
        parse=lambda content: _read_predictions(content, expected),
        prompt_fields=("prompt",),
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )


def _classified(
    operation: str, path: str, asked: tuple[dict[str, Json], int]
) -> Call[list[list[ClassScore]]]:
    body, expected = asked
    return Call(
        operation=operation,
        method="POST",
        path=path,
        json=body,
        parse=lambda content: _read_classes(content, expected),
        prompt_fields=("prompt",),
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )


def _classify_body(
    prompt: str | Sequence[str], top_n: int | None, threshold: float | None, *, metadata: bool | None
) -> tuple[dict[str, Json], int]:
    arguments = {"top_n": top_n, "threshold": threshold, "metadata": metadata}
    body = schema.prompts_body(ClassifyRequest, prompt, arguments)
    return body, 1 if isinstance(prompt, str) else len(prompt)


def _read_classes(content: bytes, expected: int) -> list[list[ClassScore]]:
    classes = schema.parser(_Classification)(content).classification
    if len(classes) != expected:
        raise ValueError(f"it has {counted(len(classes), 'classification')} for {counted(expected, 'text')}")
    return classes


def _read_predictions(content: bytes, expected: int) -> list[str]:
    prediction = schema.parser(_Prediction)(content).prediction
    listed = [prediction] if isinstance(prediction, str) else prediction
    if len(listed) != expected:
        raise ValueError(f"it has {counted(len(listed), 'prediction')} for {counted(expected, 'text')}")
    return listed


def _read_status(content: bytes, job_id: str) -> ClassifierJob:
    """Parse ``{status, model_id}``; some responses lack the job's id or the status."""
    parsed = schema.parser(job_responses.OptionalStatus)(content)
    more = parsed.model_extra or {}
    if parsed.status is None and not {"job_id", "model_id"} & set(more):
        raise ValueError("the response has neither status nor model_id")
    return schema.validate(
        ClassifierJob, {"job_id": job_id, **more, "status": parsed.status, "detail": parsed.detail}
    )


def _read_any(content: bytes) -> JsonValue:
    return schema.decode(content) if content.strip() else None
