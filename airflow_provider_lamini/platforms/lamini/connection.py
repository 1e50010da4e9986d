"""Lamini's connection type. Imports nothing of Airflow: Airflow reads it while Airflow is being imported."""

from __future__ import annotations

from airflow_provider_lamini.platforms.base import ConnectionField, ConnectionForm, FieldKind, common_fields

LAMINI_FORM = ConnectionForm(
    conn_type="lamini",
    title="Lamini",
    hook_class_name="airflow_provider_lamini.hooks.lamini.LaminiHook",
    docs_url="https://docs.lamini.ai/",
    default_url="https://api.lamini.ai",
    web_url="https://app.lamini.ai",
    fields=(
        *common_fields("lamini"),
        ConnectionField(
            name="fallback_conn_ids",
            kind=FieldKind.TEXT,
            title="Fallback connections",
            help="Connections that answer completions and chats if this one is not available, in order: first, second.",
        ),
    ),
    placeholders={
        "host": "https://api.lamini.ai",
        "schema": "https (not needed with a full URL)",
        "port": "443",
        "password": "key of the platform's account page",
    },
)
