"""The Emissary platform: its connection, its key's header, its kinds of jobs."""

from __future__ import annotations

from airflow_provider_lamini.api.dialect import Dialect
from airflow_provider_lamini.platforms.base import Platform, Probe
from airflow_provider_lamini.platforms.emissary.api import models
from airflow_provider_lamini.platforms.emissary.connection import EMISSARY_FORM
from airflow_provider_lamini.platforms.emissary.job_lists import JOB_LISTS
from airflow_provider_lamini.platforms.emissary.kinds import JOB_KINDS

EMISSARY_DIALECT = Dialect(
    key_header="X-API-Key",
    key_prefix="",
    data_fields=frozenset({"input", "messages", "prompt", "target"}),
)

PLATFORM = Platform(
    form=EMISSARY_FORM,
    dialect=EMISSARY_DIALECT,
    job_kinds={kind.short_name: kind for kind in JOB_KINDS},
    probe=Probe(call=models.list_all(), describe=lambda found: f"base models: {len(found)}"),
    job_lists=JOB_LISTS,
)
