"""What Airflow reads about this provider.

Airflow calls this while it is being imported itself, before its configuration exists: nothing here may import
Airflow.
"""

from __future__ import annotations

from airflow_provider_lamini import __version__
from airflow_provider_lamini.platforms.base import ConnectionField, FieldKind
from airflow_provider_lamini.platforms.lamini.connection import (
    HIDDEN_FIELDS,
    LABELS,
    LAMINI_FIELDS,
    PLACEHOLDERS,
)


def get_provider_info() -> dict[str, object]:
    """The provider's metadata, in the form of Airflow's ``provider_info.schema.json``.

    :return: name, versions, connection types with their form fields, and configuration options
    """
    return {
        "package-name": "airflow-provider-lamini",
        "name": "Lamini",
        "description": (
            "`Lamini <https://www.lamini.ai/>`__ and LLM platforms with a job API: fine-tuning, "
            "batch inference, Memory RAG, classifiers and embeddings."
        ),
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": "Lamini",
                "external-doc-url": "https://docs.lamini.ai/",
                "tags": ["service", "ai"],
            },
        ],
        "hooks": [
            {
                "integration-name": "Lamini",
                "python-modules": ["airflow_provider_lamini.hooks.lamini"],
            },
        ],
        "connection-types": [
            {
                "connection-type": "lamini",
                "hook-class-name": "airflow_provider_lamini.hooks.lamini.LaminiHook",
                "hook-name": "Lamini",
                "conn-fields": {field.name: _conn_field(field) for field in LAMINI_FIELDS},
                "ui-field-behaviour": {
                    "hidden-fields": list(HIDDEN_FIELDS),
                    "relabeling": dict(LABELS),
                    "placeholders": dict(PLACEHOLDERS),
                },
            },
        ],
        "extra-links": ["airflow_provider_lamini.links.LaminiJobLink"],
        "config": {
            "lamini": {
                "description": "Options of the Lamini provider.",
                "options": {
                    "state_path": {
                        "description": (
                            "Folder or object storage URL where operators keep a small record of each job "
                            "they submit, so that a retry finds the job instead of paying for a second one. "
                            "Used where Airflow keeps no state for tasks (before 3.3); a connection's own "
                            "state_path wins."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://aws_default@bucket/lamini-state",
                        "default": "",
                    },
                },
            },
        },
    }


def _conn_field(field: ConnectionField) -> dict[str, object]:
    """One field in the declarative form that Airflow reads since 3.2."""
    secret = field.kind is FieldKind.SECRET
    schema: dict[str, object] = {"type": ["string" if secret else field.kind.value, "null"]}
    if secret:
        schema["format"] = "password"
    if field.default is not None:
        schema["default"] = field.default
    if field.minimum is not None:
        schema["minimum"] = field.minimum
    return {"label": field.title, "description": field.help, "schema": schema}
