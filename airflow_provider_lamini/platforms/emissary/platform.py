"""The Emissary platform."""

from __future__ import annotations

from airflow_provider_lamini.platforms.base import Platform, Probe
from airflow_provider_lamini.platforms.emissary.api import models
from airflow_provider_lamini.platforms.emissary.connection import EMISSARY_FORM
from airflow_provider_lamini.platforms.emissary.dialect import EMISSARY_DIALECT
from airflow_provider_lamini.platforms.emissary.job_lists import JOB_LISTS
from airflow_provider_lamini.platforms.emissary.kinds import JOB_KINDS

PLATFORM = Platform(
    form=EMISSARY_FORM,
    dialect=EMISSARY_DIALECT,
    job_kinds={kind.short_name: kind for kind in JOB_KINDS},
    probe=Probe(call=models.list_all(), describe=lambda found: f"base models: {len(found)}"),
    job_lists=JOB_LISTS,
)
