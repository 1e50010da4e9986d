"""The Lamini platform: its connection, its headers and statuses, its kinds of jobs."""

from __future__ import annotations

from airflow_provider_lamini import __version__
from airflow_provider_lamini.api import errors
from airflow_provider_lamini.api.dialect import Dialect, ErrorStatus
from airflow_provider_lamini.platforms.base import Platform, Probe
from airflow_provider_lamini.platforms.lamini.api import models
from airflow_provider_lamini.platforms.lamini.connection import LAMINI_FORM
from airflow_provider_lamini.platforms.lamini.job_lists import JOB_LISTS
from airflow_provider_lamini.platforms.lamini.kinds import JOB_KINDS

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

PLATFORM = Platform(
    form=LAMINI_FORM,
    dialect=LAMINI_DIALECT,
    job_kinds={kind.short_name: kind for kind in JOB_KINDS},
    probe=Probe(call=models.list_downloaded(), describe=lambda found: f"models downloaded: {len(found)}"),
    job_pages={"tuning": "/train/{job_id}"},  # Lamini's web pages show no other jobs
    job_lists=JOB_LISTS,
)
