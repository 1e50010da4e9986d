from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import airflow_provider_lamini.rows


def test_no_module_of_rows_loads_airflow_or_pyarrow():
    """A notebook reads results without Airflow, and a task without Parquet needs no pyarrow."""
    names = [
        module.name
        for module in pkgutil.walk_packages(
            airflow_provider_lamini.rows.__path__, "airflow_provider_lamini.rows."
        )
    ]
    assert len(names) > 15
    code = f"import json, sys, {', '.join(names)}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"airflow", "pyarrow", "numpy", "pydantic", "httpx", "fsspec", "upath"}
