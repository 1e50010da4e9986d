"""Lamini on the wire: its headers, its own statuses and the fields that must not be shown."""

from __future__ import annotations

from airflow_provider_lamini import __version__
from airflow_provider_lamini.api import errors
from airflow_provider_lamini.api.dialect import Dialect, ErrorStatus

LAMINI_DIALECT = Dialect(
    headers={"Lamini-Version": __version__},
    statuses={
        497: ErrorStatus(meaning="it already exists", error=errors.DuplicateError, not_started=True),
        498: ErrorStatus(
            meaning="no such job",
            error=errors.JobNotFoundError,
            advice="Check the job's id and whose key it is.",
            not_started=True,
        ),
        499: ErrorStatus(meaning="no such project", error=errors.ProjectNotFoundError, not_started=True),
        513: ErrorStatus(
            meaning="the model is still being loaded",
            error=errors.ModelLoadingError,
            advice="Allow a longer model_loading_budget or preload the model.",
            transient=True,
            not_started=True,
        ),
        524: ErrorStatus(
            meaning="the platform did not finish in time",
            error=errors.PlatformTimeoutError,
            transient=True,
        ),
        594: ErrorStatus(
            meaning="no such model",
            error=errors.ModelNotFoundError,
            advice="Check the model's name or id, or have the platform download the model first.",
            not_started=True,
        ),
    },
    data_fields=frozenset(
        {
            "classes",
            "data",
            "eval_data",
            "examples",
            "messages",
            "prompt",
            "source",
            "upload_file_path",  # may be a signed URL
        }
    ),
    secret_fields=frozenset({"private_hf_token"}),
)
