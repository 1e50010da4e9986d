"""The models that the platform has downloaded from a hub."""

from typing import Annotated

from pydantic import AfterValidator, Field

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import LIST, Call, Retry
from airflow_provider_lamini.api.redaction import remove_tokens


class DownloadModelRequest(schema.Request):
    """The body of ``POST /v1alpha/downloaded_models/``."""

    hf_model_name: str = Field(min_length=1)
    model_type: str = Field(default="transformer", pattern="^(transformer|embedding)$")
    private_hf_token: str | None = Field(default=None, repr=False)


class DownloadedModel(schema.Response):
    """One model on the platform."""

    model_name: str
    model_id: schema.Id | None = None
    model_type: str | None = None
    user_id: schema.Id | None = None
    is_public: bool | None = None
    creation_ts: str | None = None
    prev_download_ts: str | None = None
    prev_download_error: Annotated[str, AfterValidator(remove_tokens)] | None = None
    """Why the last download failed, if it did; without tokens, which messages of hubs may contain."""
    download_attempts: int | None = None
    status: str | None = None
    """``available`` once it can be used."""


class ModelDownload(schema.Response):
    """The status of a download."""

    model_name: str
    model_type: str | None = None
    status: str
    """``available`` once the model can be used."""


def list_downloaded(*, trailing_slash: bool = True) -> Call[list[DownloadedModel]]:
    """List the models on the platform: ``GET /v1alpha/downloaded_models/``.

    :param trailing_slash: ``False`` omits the trailing slash of the path, for servers that need that
    :returns: the models with their status
    """
    return Call(
        operation="all_models_v1alpha_downloaded_models__get"
        if trailing_slash
        else "all_models_v1alpha_downloaded_models_get",
        method="GET",
        path=_path(trailing_slash=trailing_slash),
        parse=schema.list_parser(DownloadedModel, "models", "downloaded_models", "data"),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )


def download(
    hf_model_name: str,
    model_type: str = "transformer",
    private_hf_token: str | None = None,
    *,
    trailing_slash: bool = True,
) -> Call[ModelDownload]:
    """Have the platform download a model: ``POST /v1alpha/downloaded_models/``.

    The same call again tells how the download stands.

    :param hf_model_name: the model's name on the hub
    :param model_type: ``transformer`` or ``embedding``
    :param private_hf_token: the hub's token for a private model
    :param trailing_slash: ``False`` omits the trailing slash of the path, for servers that need that
    :raises ValueError: if an argument is invalid
    """
    arguments = {
        "hf_model_name": hf_model_name,
        "model_type": model_type,
        "private_hf_token": private_hf_token,
    }
    return Call(
        operation="start_download_models_v1alpha_downloaded_models__post"
        if trailing_slash
        else "start_download_models_v1alpha_downloaded_models_post",
        method="POST",
        path=_path(trailing_slash=trailing_slash),
        json=schema.body(DownloadModelRequest, arguments),
        parse=schema.parser(ModelDownload),
        retry=Retry.SAFE,
    )


def _path(*, trailing_slash: bool) -> str:
    return "/v1alpha/downloaded_models/" if trailing_slash else "/v1alpha/downloaded_models"
