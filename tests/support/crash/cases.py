"""All kinds of tasks that submit something, by name, and what is imported before they are forked."""

from __future__ import annotations

import pkgutil

from airflow import __version__ as airflow_version

import airflow_provider_lamini
from tests.support.crash.job_cases import JOB_CASES, TrainWithoutRecord
from tests.support.crash.row_cases import ROW_CASES

CASES = {case.name: case for case in (*ROW_CASES, *JOB_CASES)}
"""Those that must end well."""

CONTROL = TrainWithoutRecord()
"""One that must not: it shows that the harness sees what goes wrong."""

ALL = {**CASES, CONTROL.name: CONTROL}

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
"""What Airflow itself imports only when a task asks for a connection, or is deferred."""

WARM = [
    *(f"airflow.{module}" for module in _LATE[airflow_version[0]]),
    "anyio",
    "httpcore",
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
