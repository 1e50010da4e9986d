"""All kinds of tasks that submit something, the steps at which they must be killed, and the imports before a fork."""

from __future__ import annotations

import mimetypes
import pkgutil
from importlib.util import find_spec

from airflow import __version__ as airflow_version

import airflow_provider_lamini
from tests.support.crash.emissary_cases import EMISSARY_CASES
from tests.support.crash.job_cases import JOB_CASES, TrainWithoutRecord
from tests.support.crash.row_cases import ROW_CASES

CASES = {case.name: case for case in (*ROW_CASES, *JOB_CASES, *EMISSARY_CASES)}
"""Kinds that must succeed after any crash."""

CONTROL = TrainWithoutRecord()
"""A kind that must not: it proves that the harness notices a repeated job."""

ALL = {**CASES, CONTROL.name: CONTROL}

STEPS: dict[str, tuple[str, ...]] = {
    "batch inference": (
        "execute: POST /v1/batch_completions is answered",
        "execute: POST /v1/batch_completions is about to be sent",
        "execute: late-N.N is written",
        "execute: the deferral is in flight",
        "wait: the event is in flight",
        "resume: part-N.jsonl is complete, not yet renamed",
        "resume: manifest.json is written",
        "resume: report.html is written",
        "again: the task starts",
        "execute: the task starts",
        "execute: _ledger.json (intend) is complete, not yet renamed",
        "execute: _ledger.json (commit) is written",
        "execute: late-N.N is complete, not yet renamed",
        "execute: POST /v1/batch_completions is read",
        "execute: the task is about to defer",
        "wait: the trigger runs",
        "resume: the task resumes",
        "resume: GET /v1/batch_completions/*/result is read",
        "resume: part-N.jsonl is about to be written",
        "resume: part-N.jsonl is written",
        "resume: manifest.json is complete, not yet renamed",
        "resume: the result is in flight",
    ),
    "tuning": (
        "execute: POST /v1/train is answered",
        "execute: POST /v1/train is about to be sent",
        "execute: the task state (id) is about to be written",
        "execute: the deferral is in flight",
        "resume: the result is in flight",
        "execute: the task state (intent) is about to be written",
        "execute: POST /v1/local-data is answered",
        "execute: the task state (id) is written",
        "resume: the task reads the result",
        "resume: loss_history.jsonl is complete, not yet renamed",
    ),
    "tuning that fails and is resumed": (
        "resume: POST /v1/train/jobs/*/resume is read",
        "execute: submission-*.json (intent) is written",
        "execute: submission-*.json (id) is complete, not yet renamed",
        "resume: the task decides on a bad end",
        "resume: POST /v1/train/jobs/*/resume is about to be sent",
        "resume: submission-*.json (id) is written",
    ),
    "Memory RAG build": (
        "execute: POST /alpha/memory-rag/train is read",
        "execute: POST /alpha/memory-rag/train is answered",
        "execute: the task state (intent) is written",
        "execute: POST /alpha/memory-rag/train is about to be sent",
        "execute: the deferral is in flight",
        "resume: the task reads the result",
        "again: the task starts",
    ),
    "Memory RAG refresh, rebuilt": ("execute: index.json (id) is written",),
    "Memory RAG refresh, added": ("execute: POST /alpha/memory-rag/add-index is read",),
    "classifier training": ("execute: POST /v2/classifier/initialize is answered",),
    "dataset upload": ("execute: POST /v1/local-data is answered",),
    "model download": ("execute: POST /v1alpha/downloaded_models is answered",),
    "embedding, Parquet": ("resume: part-N.parquet is complete, not yet renamed",),
    'batch inference, endpoint="completions"': ("execute: part-N.jsonl is written",),
    "classification at scale": ("execute: part-N.jsonl is written",),
    "evaluation of two models": ("resume: scores.jsonl is written", "resume: report.md is written"),
    "batch inference, a chunk in pieces": (
        "execute: _ledger.json (split) is complete, not yet renamed",
        "execute: _ledger.json (split) is written",
        "execute: _ledger.json (intend) is written",
        "execute: late-N.N is written",
        "resume: _ledger.json (settle) is complete, not yet renamed",
        "resume: _ledger.json (settle) is written",
    ),
    "embedding, a job that fails because of a row": (
        "resume: _ledger.json (split) is complete, not yet renamed",
        "resume: _ledger.json (split) is written",
        "resume: POST /v1/batch_embeddings is answered",
        "resume: late-N.N is written",
        "resume: _ledger.json (settle) is complete, not yet renamed",
        "resume: _ledger.json (settle) is written",
    ),
    "batch inference, an input that grows": (
        "resume: _ledger.json (extend, intend) is complete, not yet renamed",
        "resume: _ledger.json (extend, intend) is written",
        "resume: manifest.json is removed",
        "again: _ledger.json (extend, intend) is written",
    ),
    "batch inference, extended after its end": (
        "execute: manifest.json is removed",
        "execute: _ledger.json (extend, intend) is complete, not yet renamed",
        "execute: _ledger.json (extend, intend) is written",
        "execute: POST /v1/batch_completions is answered",
    ),
    "batch inference, waiting in its worker": ("execute: POST /v1/batch_completions is answered",),
    "Emissary dataset upload": (
        "execute: POST /v1/projects/*/datasets is answered",
        "execute: POST /v1/projects/*/datasets is about to be sent",
        "execute: POST /v1/projects/*/datasets is read",
        "execute: the task state (intent) is about to be written",
        "execute: the task state (intent) is written",
        "execute: the task submits",
        "execute: GET /v1/projects/*/datasets is read",
        "execute: the task state (id) is about to be written",
        "execute: the task state (id) is written",
        "execute: GET /v1/projects/*/datasets/* is read",
    ),
    "Emissary training": (
        "execute: POST /v1/projects/*/training-jobs is answered",
        "execute: POST /v1/projects/*/training-jobs is about to be sent",
        "execute: POST /v1/projects/*/training-jobs is read",
        "execute: the task state (intent) is about to be written",
        "execute: the task state (intent) is written",
        "execute: the task submits",
        "execute: GET /v1/projects/*/training-jobs is read",
        "execute: the task state (id) is about to be written",
        "execute: the task state (id) is written",
        "execute: GET /v1/projects/*/training-jobs/* is read",
        "execute: the deferral is in flight",
        "wait: the trigger runs",
        "wait: GET /v1/projects/*/training-jobs/* is answered",
        "wait: the event is in flight",
        "resume: the task resumes",
        "resume: the task reads the result",
        "resume: the result is in flight",
        "again: the task starts",
        "execute: _probe is complete, not yet renamed",
        "resume: loss_history.jsonl is about to be written",
        "resume: loss_history.jsonl is complete, not yet renamed",
        "resume: loss_history.jsonl is written",
        "again: the task state (attached) is written",
    ),
    "Emissary deployment": (
        "execute: POST /v1/projects/*/deployments is answered",
        "execute: POST /v1/projects/*/deployments is about to be sent",
        "execute: POST /v1/projects/*/deployments is read",
        "execute: the task state (intent) is about to be written",
        "execute: the task state (intent) is written",
        "execute: the task submits",
        "execute: GET /v1/projects/*/deployments is read",
        "execute: the task state (id) is about to be written",
        "execute: the task state (id) is written",
        "execute: GET /v1/projects/*/deployments/* is read",
        "execute: the deferral is in flight",
        "wait: the trigger runs",
        "wait: GET /v1/projects/*/deployments/* is answered",
        "wait: the event is in flight",
        "resume: the task resumes",
        "resume: the task reads the result",
        "resume: the result is in flight",
        "again: the task starts",
        "again: the task state (attached) is written",
    ),
    "Emissary batch inference": (
        "resume: part-N.jsonl is complete, not yet renamed",
        "resume: POST /v1/completions is answered",
        "resume: POST /v1/completions is about to be sent",
        "execute: POST /v1/projects/*/deployments/*/reactivate is answered",
        "execute: POST /v1/projects/*/deployments/*/reactivate is about to be sent",
        "execute: POST /v1/projects/*/deployments/*/reactivate is read",
        "execute: _ledger.json (open) is complete, not yet renamed",
        "execute: _ledger.json (open) is written",
        "execute: the deferral is in flight",
        "wait: the trigger runs",
        "wait: the event is in flight",
        "resume: the task resumes",
        "resume: part-N.jsonl is about to be written",
        "resume: part-N.jsonl is written",
        "resume: _ledger.json (finish) is complete, not yet renamed",
        "resume: _ledger.json (finish) is written",
        "resume: manifest.json is complete, not yet renamed",
        "resume: manifest.json is written",
        "resume: the result is in flight",
        "again: the task starts",
    ),
}
"""Steps that must occur in each kind of task, the most telling first. ``make faults`` kills at all of them."""

_PACKAGE = airflow_provider_lamini.__name__

_LATE = {
    "2": (
        "models.dag",
        "models.trigger",
        "models.xcom_arg",
        "secrets.local_filesystem",
        "serialization.serialized_objects",
    ),
    "3": ("sdk.definitions.connection", "sdk.execution_time.cache", "sdk.execution_time.supervisor"),
}
"""Modules that Airflow imports late, when a task gets a connection or defers."""

WARM = [
    *(f"airflow.{module}" for module in _LATE[airflow_version[0]]),
    "airflow.providers.common.compat.connection",
    "anyio",
    "asgiref.sync",
    "encodings.idna",
    "httpcore",
    *(["httpx_aiohttp"] if find_spec("httpx_aiohttp") else []),
    "tests.support.crash.phases",
    "httpx",
    "msgspec",
    "pyarrow.parquet",
    *(
        module.name
        for module in pkgutil.walk_packages(airflow_provider_lamini.__path__, f"{_PACKAGE}.")
        # No task loads the local platform, or the pages of the API server.
        if not module.name.startswith((f"{_PACKAGE}.local", f"{_PACKAGE}.plugins"))
        # Asset watchers came with Airflow 3.
        if airflow_version[0] != "2" or module.name != f"{_PACKAGE}.triggers.job_event"
    ),
]


def warm() -> None:
    """Do what each task would do in its process once: loading the authorities alone takes as long as all the rest."""
    from airflow_provider_lamini.api.client import tls_context
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.compat import collects_lineage

    tls_context(ClientSettings(base_url="http://127.0.0.1", key=""))
    collects_lineage()  # looks for the plugins of all packages
    mimetypes.init()
