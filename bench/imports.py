"""What this package's modules add to parsing a Dag: modules and CPU beyond ``BaseOperator``, and a Dag of 100 operators.

Run ``python bench/imports.py`` with the interpreter of each Airflow version. ``--check`` exits with 1 if a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import airflow_provider_lamini.operators
from bench.support.figures import Figures, exit_status
from tests.support.processes import unwind_on_sigterm

BASE = "airflow.providers.common.compat.sdk"
BASE_OPERATOR = f"from {BASE} import BaseOperator, BaseSensorOperator, BaseHook, conf"
OUR_MODULES = sorted(
    module.name
    for module in pkgutil.iter_modules(
        airflow_provider_lamini.operators.__path__, "airflow_provider_lamini.operators."
    )
)
PEER_MODULES = {
    "openai": "airflow.providers.openai.operators.openai",
    "common.ai": "airflow.providers.common.ai.operators.llm_batch",
    "databricks": "airflow.providers.databricks.operators.databricks",
    "http": "airflow.providers.http.operators.http",
}
MAX_MODULES = 30
MAX_CPU = 0.1
"""Seconds."""
MAX_RATIO = 1.1

IMPORT = f"""
import json, sys, time
{BASE_OPERATOR}
before, cpu = set(sys.modules), time.process_time()
import {{module}}
cpu = time.process_time() - cpu
print(json.dumps([len(set(sys.modules) - before), cpu]))
"""
"""Prints the number of modules that an import adds, and its CPU seconds."""

DAG_FILE = """
from airflow.providers.common.compat.sdk import DAG
from {module} import {operator}

with DAG("many", schedule=None):
    for number in range(100):
        {operator}(task_id=f"task_{{number}}"{arguments})
"""
IS_AIRFLOW_2 = version("apache-airflow").startswith("2.")
EMPTY_DAG = DAG_FILE.format(
    module="airflow.operators.empty" if IS_AIRFLOW_2 else "airflow.providers.standard.operators.empty",
    operator="EmptyOperator",
    arguments="",
)
OUR_DAG = DAG_FILE.format(
    module="airflow_provider_lamini.operators.batch_inference",
    operator="LaminiBatchInferenceOperator",
    arguments=', input="s3://b/*.jsonl", prompt="Say: {body}", model_name="m", output="s3://b/{{ run_id }}"',
)
PARSE = """
import inspect, json, sys, time
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # before Airflow 3.1
    from airflow.models.dagbag import DagBag
imported = time.process_time()
known = inspect.signature(DagBag.__init__).parameters
bag = DagBag({path!r}, **({{"include_examples": False}} if "include_examples" in known else {{}}))
assert len(bag.dags["many"].tasks) == 100, bag.import_errors
ended = time.process_time()
print(json.dumps([ended, ended - imported]))
"""
"""Prints the CPU seconds of a process that parses a Dag file, in total and after importing Airflow."""


def run_python(code: str) -> list[float]:
    """Run code in a new Python process, and return the JSON on its last line of output."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        process = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            cwd=ROOT,
            timeout=300,
            check=True,
        )
    result: list[float] = json.loads(process.stdout.splitlines()[-1])
    return result


def measure_imports(figures: Figures, repeats: int) -> None:
    """Measure the modules and the CPU that each operator module adds."""
    for module in OUR_MODULES:
        results = [run_python(IMPORT.format(module=module)) for _ in range(repeats)]
        name = module.rpartition(".")[2]
        figures.check(f"{name}: modules beyond BaseOperator", float(results[0][0]), "<=", MAX_MODULES)
        figures.check(f"{name}: CPU", median(cpu for _, cpu in results) * 1000, "<=", MAX_CPU * 1000, "ms")


def measure_peer_imports(figures: Figures) -> None:
    """Measure the same for other providers, if installed."""
    for name, module in PEER_MODULES.items():
        if not is_installed(module):
            continue
        modules, cpu = run_python(IMPORT.format(module=module))
        figures.note(f"{name} provider: modules beyond BaseOperator", float(modules))
        figures.note(f"{name} provider: CPU", float(cpu) * 1000, "ms")


def is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def measure_parsing(figures: Figures, pairs: int) -> None:
    """Parse a Dag file with 100 of our operators and one with 100 empty operators, alternating, in new processes."""
    with tempfile.TemporaryDirectory() as folder:
        empty_file, our_file = Path(folder, "empty.py"), Path(folder, "ours.py")
        empty_file.write_text(EMPTY_DAG)
        our_file.write_text(OUR_DAG)
        results = [
            [run_python(PARSE.format(path=str(file))) for file in (empty_file, our_file)]
            for _ in range(pairs)
        ]
    for number, operator in enumerate(("EmptyOperator", "LaminiBatchInferenceOperator")):
        total = median(pair[number][0] for pair in results)
        parsing = median(pair[number][1] for pair in results)
        figures.note(f"process that parses 100 {operator}s", total, "s CPU")
        figures.note("   after Airflow's own imports", parsing * 1000, "ms CPU")
    ratio = median(ours[0] / empty[0] for empty, ours in results)
    figures.check("ratio, median of pairs", ratio, "<=", MAX_RATIO)


def main() -> int:
    """Measure imports and parsing.

    :return: the exit status
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    parser.add_argument("--repeats", type=int, default=1, help="new processes per module")
    parser.add_argument("--pairs", type=int, default=3, help="how often to parse each Dag file")
    options = parser.parse_args()
    from airflow import __version__

    imports, parsing = Figures(f"Imports on Airflow {__version__}"), Figures("Parsing a Dag file")
    measure_imports(imports, options.repeats)
    measure_peer_imports(imports)
    imports.print()
    measure_parsing(parsing, options.pairs)
    parsing.print()
    return exit_status([imports, parsing], check=options.check)


if __name__ == "__main__":
    unwind_on_sigterm()
    sys.exit(main())
