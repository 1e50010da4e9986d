"""All kinds of tasks that submit something, the steps at which they must be killed, and the imports before a fork."""

from __future__ import annotations

import pkgutil
from importlib.util import find_spec

from airflow import __version__ as airflow_version

import airflow_provider_lamini
from tests.support.crash.job_cases import JOB_CASES, TrainWithoutRecord
from tests.support.crash.row_cases import ROW_CASES

CASES = {case.name: case for case in (*ROW_CASES, *JOB_CASES)}
"""Kinds that must succeed after any crash."""

CONTROL = TrainWithoutRecord()
"""A kind that must not: it proves that the harness notices a repeated job."""

ALL = {**CASES, CONTROL.name: CONTROL}

STEPS: dict[str, tuple[str, ...]] = {
    "batch inference": (
        "execute: POST /v1/batch_completions is answered",
        "execute: POST /v1/batch_completions is about to be sent",
        "execute: _ledger.json (record_job_id) is written",
        "execute: the deferral is on its way",
        "wait: the event is on its way",
        "wake: part-N.jsonl is whole, not yet named",
        "wake: manifest.json is written",
        "again: the task begins",
        "execute: the task begins",
        "execute: _ledger.json (plan, intend) is whole, not yet named",
        "execute: POST /v1/batch_completions is read",
        "execute: the task is about to defer",
        "wait: the trigger runs",
        "wake: the task wakes up",
        "wake: GET /v1/batch_completions/*/result is read",
        "wake: part-N.jsonl is about to be written",
        "wake: part-N.jsonl is written",
        "wake: manifest.json is whole, not yet named",
        "wake: the result is on its way",
    ),
    "tuning": (
        "execute: POST /v1/train is answered",
        "execute: POST /v1/train is about to be sent",
        "execute: the task state (id) is about to be written",
        "execute: the deferral is on its way",
        "wake: the result is on its way",
        "execute: the task state (intent) is about to be written",
        "execute: POST /v1/local-data is answered",
        "execute: the task state (id) is written",
        "wake: the task reads the result",
        "wake: loss_history.jsonl is whole, not yet named",
    ),
    "tuning that fails and is resumed": (
        "wake: POST /v1/train/jobs/*/resume is read",
        "execute: submission-*.json (intent) is written",
        "execute: submission-*.json (id) is whole, not yet named",
        "wake: the task decides on a bad end",
        "wake: POST /v1/train/jobs/*/resume is about to be sent",
        "wake: submission-*.json (id) is written",
    ),
    "Memory RAG build": (
        "execute: POST /alpha/memory-rag/train is read",
        "execute: POST /alpha/memory-rag/train is answered",
        "execute: the task state (intent) is written",
        "execute: POST /alpha/memory-rag/train is about to be sent",
        "execute: the deferral is on its way",
        "wake: the task reads the result",
        "again: the task begins",
    ),
    "Memory RAG refresh, rebuilt": ("execute: index.json (id) is written",),
    "Memory RAG refresh, added": ("execute: POST /alpha/memory-rag/add-index is read",),
    "classifier training": ("execute: POST /v2/classifier/initialize is answered",),
    "dataset upload": ("execute: POST /v1/local-data is answered",),
    "model download": ("execute: POST /v1alpha/downloaded_models is answered",),
    "embedding, Parquet": ("wake: part-N.parquet is whole, not yet named",),
    'batch inference, endpoint="completions"': ("execute: part-N.jsonl is written",),
    "classification at scale": ("execute: part-N.jsonl is written",),
    "evaluation of two models": ("wake: scores.jsonl is written", "wake: report.md is written"),
    "batch inference, waiting in its worker": ("execute: POST /v1/batch_completions is answered",),
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
        if not module.name.startswith(f"{_PACKAGE}.local")
    ),
]
