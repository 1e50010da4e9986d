"""What our modules cost a Dag's parse: modules and seconds beyond ``BaseOperator``, and a Dag of a hundred operators.

``python bench/imports.py`` with the interpreter of each Airflow; ``--check`` ends with 1 where a bound is missed.
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
from bench.support.bounds import Figures, exit_code

BASE = "airflow.providers.common.compat.sdk"
BASE_OPERATOR = f"from {BASE} import BaseOperator, BaseSensorOperator, BaseHook, conf"
OURS = sorted(
    module.name
    for module in pkgutil.iter_modules(
        airflow_provider_lamini.operators.__path__, "airflow_provider_lamini.operators."
    )
)
PEERS = {
    "openai": "airflow.providers.openai.operators.openai",
    "common.ai": "airflow.providers.common.ai.operators.llm_batch",
    "databricks": "airflow.providers.databricks.operators.databricks",
    "http": "airflow.providers.http.operators.http",
}
MOST_MODULES = 30
MOST_SECONDS = 0.1
MOST_RATIO = 1.1
IMPORT = f"""
import json, sys, time
{BASE_OPERATOR}
before, began = set(sys.modules), time.process_time()
import {{module}}
took = time.process_time() - began
print(json.dumps([len(set(sys.modules) - before), took]))
"""


def _before_3() -> bool:
    return version("apache-airflow").startswith("2.")


DAG_FILE = """
from airflow.providers.common.compat.sdk import DAG
from {module} import {operator}

with DAG("many", schedule=None):
    for number in range(100):
        {operator}(task_id=f"task_{{number}}"{arguments})
"""
EMPTY = DAG_FILE.format(
    module="airflow.operators.empty" if _before_3() else "airflow.providers.standard.operators.empty",
    operator="EmptyOperator",
    arguments="",
)
OURS_100 = DAG_FILE.format(
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


def fresh(code: str) -> list[float]:
    """Run some code in a fresh Python, and read the JSON that it prints last."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            cwd=ROOT,
            timeout=300,
            check=True,
        )
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def imports(figures: Figures, times: int) -> None:
    """Modules and CPU seconds that each operators module adds."""
    for module in OURS:
        added = [fresh(IMPORT.format(module=module)) for _ in range(times)]
        name = module.rpartition(".")[2]
        figures.bound(f"{name}: modules beyond BaseOperator", float(added[0][0]), "<=", MOST_MODULES)
        figures.bound(f"{name}: CPU", median(each[1] for each in added), "<=", MOST_SECONDS, "s")


def peers(figures: Figures) -> None:
    """The same for other providers, where they are installed."""
    for name, module in PEERS.items():
        if not _installed(module):
            continue
        modules, seconds = fresh(IMPORT.format(module=module))
        figures.note(f"{name}: modules beyond BaseOperator", float(modules))
        figures.note(f"{name}: CPU", float(seconds), "s")


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def parsing(figures: Figures, pairs: int) -> None:
    """A Dag file of a hundred of our operators beside one of a hundred empty ones, by turns, each in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, text in (("empty", EMPTY), ("ours", OURS_100)):
            files.append(Path(folder, f"{name}.py"))
            files[-1].write_text(text)
        found = [[fresh(PARSE.format(path=str(file))) for file in files] for _ in range(pairs)]
    for number, name in enumerate(("EmptyOperators", "LaminiBatchInferenceOperators")):
        figures.note(f"100 {name}: process", median(pair[number][0] for pair in found), "s CPU")
        parsed = median(pair[number][1] for pair in found) * 1000
        figures.note(f"100 {name}: after Airflow's own imports", parsed, "ms CPU")
    ratio = median(ours[0] / empty[0] for empty, ours in found)
    figures.bound("parsing ours against empty ones, median of the pairs", ratio, "<=", MOST_RATIO)


def main() -> int:
    """Measure both.

    :returns: the exit status
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="end with 1 where a bound is missed")
    parser.add_argument("--times", type=int, default=1, help="fresh processes per module")
    parser.add_argument("--pairs", type=int, default=3, help="parses of each Dag file")
    options = parser.parse_args()
    from airflow import __version__

    importing, dag = Figures(f"Imports on Airflow {__version__}"), Figures("Parsing a Dag file's operators")
    imports(importing, options.times)
    peers(importing)
    importing.show()
    parsing(dag, options.pairs)
    dag.show()
    return exit_code([importing, dag], check=options.check)


if __name__ == "__main__":
    sys.exit(main())
