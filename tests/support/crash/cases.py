"""All kinds of tasks that submit something, by name, and what is imported before they are forked."""

from __future__ import annotations

import pkgutil

import airflow_provider_lamini
from tests.support.crash.job_cases import JOB_CASES, TrainWithoutRecord
from tests.support.crash.row_cases import ROW_CASES

CASES = {case.name: case for case in (*ROW_CASES, *JOB_CASES)}
"""Those that must end well."""

CONTROL = TrainWithoutRecord()
"""One that must not: it shows that the harness sees what goes wrong."""

ALL = {**CASES, CONTROL.name: CONTROL}

_PACKAGE = airflow_provider_lamini.__name__

WARM = [
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
