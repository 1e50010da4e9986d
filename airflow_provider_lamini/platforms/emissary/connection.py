"""Emissary's connection type. Imports nothing of Airflow: Airflow reads it while Airflow is being imported."""

from __future__ import annotations

from airflow_provider_lamini.platforms.base import ConnectionForm, common_fields

EMISSARY_FORM = ConnectionForm(
    conn_type="emissary",
    title="Emissary",
    hook_class_name="airflow_provider_lamini.hooks.emissary.EmissaryHook",
    docs_url="https://www.withemissary.com/",
    default_url="https://api.withemissary.com",
    fields=common_fields("emissary"),
    placeholders={
        "host": "https://api.withemissary.com",
        "schema": "https (not needed with a full URL)",
        "port": "443",
        "password": "API key of the platform's account page",
    },
)
