"""The Lamini platform."""

from __future__ import annotations

from airflow_provider_lamini.platforms.base import Platform, Probe
from airflow_provider_lamini.platforms.lamini.api import models
from airflow_provider_lamini.platforms.lamini.connection import LAMINI_FORM
from airflow_provider_lamini.platforms.lamini.dialect import LAMINI_DIALECT
from airflow_provider_lamini.platforms.lamini.job_lists import JOB_LISTS
from airflow_provider_lamini.platforms.lamini.kinds import JOB_KINDS

PLATFORM = Platform(
    form=LAMINI_FORM,
    dialect=LAMINI_DIALECT,
    job_kinds={kind.short_name: kind for kind in JOB_KINDS},
    probe=Probe(call=models.list_downloaded(), describe=lambda found: f"models downloaded: {len(found)}"),
    job_pages={"tuning": "/train/{job_id}"},  # Lamini's web pages show no other jobs
    job_lists=JOB_LISTS,
)
