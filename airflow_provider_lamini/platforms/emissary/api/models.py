"""Base models: what can be trained and deployed."""

from pydantic import JsonValue

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import LIST, Call, Retry
from airflow_provider_lamini.platforms.emissary.api.fields import MappingOf


class BaseModelSummary(schema.Response):
    """A base model."""

    name: str
    type: str | None = None
    """``completion``, ``classification``, ``embeddings`` or ``chat``."""
    parameter_template: MappingOf[JsonValue]
    """Parameters for training, with their defaults."""
    support_serverless: bool | None = None
    """Whether inference takes the model's name without a deployment."""


def list_all() -> Call[list[BaseModelSummary]]:
    """List the base models: ``GET /v1/models``."""
    return Call(
        operation="listBaseModels",
        method="GET",
        path="/v1/models",
        parse=schema.list_parser(BaseModelSummary),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )


def model(base_model_name: str) -> Call[BaseModelSummary]:
    """Get a base model: ``GET /v1/models/{base_model_name}``.

    :param base_model_name: its name
    """
    return Call(
        operation="retrieveBaseModelByName",
        method="GET",
        path=f"/v1/models/{schema.path_segment(base_model_name, 'base_model_name')}",
        parse=schema.parser(BaseModelSummary),
        retry=Retry.SAFE,
    )
