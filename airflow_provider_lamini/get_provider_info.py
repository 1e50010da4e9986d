"""What Airflow reads about this provider.

Airflow calls this while Airflow itself is being imported, before its configuration exists: nothing here may import
Airflow.
"""

from __future__ import annotations

from airflow_provider_lamini import __version__
from airflow_provider_lamini.platforms.base import ConnectionField, ConnectionForm, FieldKind
from airflow_provider_lamini.platforms.emissary.connection import EMISSARY_FORM
from airflow_provider_lamini.platforms.lamini.connection import LAMINI_FORM

FORMS = (LAMINI_FORM, EMISSARY_FORM)
"""The connection types of this provider."""

_DECORATORS = {
    "lamini_batch_inference": "lamini.batch_inference_task",
    "lamini_classify": "lamini.classify_task",
    "lamini_completion": "lamini.completion_task",
    "lamini_embed": "lamini.embed_task",
    "emissary_batch_inference": "emissary.batch_inference_task",
}
"""The TaskFlow decorators: names after ``@task.``, with the functions behind them."""

_LINKS = ("JobLink", "ResultsLink", "ManifestLink", "ReportLink")

_COMMON_OPTIONS = {
    "description": "Options for all platforms of this provider.",
    "options": {
        "defer_after": {
            "description": (
                "Seconds that a deferrable task first waits in its worker, once per try. Jobs that end in this time "
                "do not need the triggerer. 0 defers at once."
            ),
            "version_added": "0.1.0",
            "type": "float",
            "example": "0",
            "default": "10",
        },
        "min_trigger_seconds": {
            "description": (
                "Minimum seconds from the start of a trigger to its event. If a deferred task resumes before Airflow's "
                "scheduler has read that the task's first process has ended, the scheduler may fail it without a reason in "
                "its log. A busy scheduler takes several seconds for that."
            ),
            "version_added": "0.1.0",
            "type": "float",
            "example": "20",
            "default": "10",
        },
        "freeze_gc": {
            "description": (
                "Exclude the objects of waiting triggers and loaded modules from Python's garbage collection "
                "(gc.freeze) in the triggerer. With thousands of waiting tasks, collections no longer block its "
                "event loop for 0.3 s. It affects the whole process: reference cycles among all objects that exist "
                "at a freeze, also those of other providers, are never freed."
            ),
            "version_added": "0.1.0",
            "type": "boolean",
            "example": "True",
            "default": "False",
        },
        "pages": {
            "description": (
                "Add pages to the UI of Airflow 3.1 and newer: the jobs of a connection, and a tab with the results of a "
                "task. Set it for the API server, and for the workers, which record what the tab needs."
            ),
            "version_added": "0.1.0",
            "type": "boolean",
            "example": "False",
            "default": "True",
        },
        "page_rows": {
            "description": (
                "Maximum number of results, and of failed rows, that the page of a task shows, with the columns that the run "
                "passed through; at most 100. 0 shows only numbers."
            ),
            "version_added": "0.1.0",
            "type": "integer",
            "example": "0",
            "default": "20",
        },
    },
}


def get_provider_info() -> dict[str, object]:
    """Return the provider's metadata, in the form of Airflow's ``provider_info.schema.json``.

    :return: name, versions, connection types with their form fields, and configuration options
    """
    return {
        "package-name": "airflow-provider-lamini",
        "name": "Lamini",
        "description": (
            "`Lamini <https://www.lamini.ai/>`__, `Emissary <https://www.withemissary.com/>`__ and LLM platforms with a job "
            "API: fine-tuning, deployments, batch inference, Memory RAG, classifiers and embeddings."
        ),
        "versions": [__version__],
        "integrations": [
            {"integration-name": form.title, "external-doc-url": form.docs_url, "tags": ["service", "ai"]}
            for form in FORMS
        ],
        "hooks": [
            {
                "integration-name": form.title,
                "python-modules": [form.hook_class_name.rpartition(".")[0]],
            }
            for form in FORMS
        ],
        "connection-types": [_connection_type(form) for form in FORMS],
        "task-decorators": [
            {"name": name, "class-name": f"airflow_provider_lamini.decorators.{path}"}
            for name, path in _DECORATORS.items()
        ],
        # The entry point of the distribution names the plugin. Named here too, it would be found twice.
        "extra-links": [f"airflow_provider_lamini.links.{name}" for name in _LINKS],
        "config": {
            "airflow_provider_lamini": _COMMON_OPTIONS,
            **{form.conn_type: _config_section(form) for form in FORMS},
        },
    }


def _connection_type(form: ConnectionForm) -> dict[str, object]:
    return {
        "connection-type": form.conn_type,
        "hook-class-name": form.hook_class_name,
        "hook-name": form.title,
        "conn-fields": {field.name: _conn_field(field) for field in form.fields},
        "ui-field-behaviour": {
            "hidden-fields": list(form.hidden_fields),
            "relabeling": dict(form.labels),
            "placeholders": dict(form.placeholders),
        },
    }


def _config_section(form: ConnectionForm) -> dict[str, object]:
    return {
        "description": f"Options for {form.title} connections.",
        "options": {
            "state_path": {
                "description": (
                    "Folder or object storage URL where operators keep a small record of each job "
                    "they submit, so that a retry finds the job instead of paying for a second one. "
                    "Used where Airflow keeps no state for tasks (before 3.3); a connection's own "
                    "state_path takes precedence."
                ),
                "version_added": "0.1.0",
                "type": "string",
                "example": f"s3://aws_default@bucket/{form.conn_type}-state",
                "default": "",
            },
        },
    }


def _conn_field(field: ConnectionField) -> dict[str, object]:
    """Return one field in the declarative form that Airflow reads since 3.2."""
    secret = field.kind is FieldKind.SECRET
    schema: dict[str, object] = {"type": ["string" if secret else field.kind.value, "null"]}
    if secret:
        schema["format"] = "password"
    if field.default is not None:
        schema["default"] = field.default
    if field.minimum is not None:
        schema["minimum"] = field.minimum
    return {"label": field.title, "description": field.help, "schema": schema}
