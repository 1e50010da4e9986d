"""Import every module of the installed package that must work without extras, and get what operators and pages give to Airflow.

``check_installed.py --lineage`` checks only what an operator gives to OpenLineage, once that is installed, too.
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import re
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import httpx

import airflow_provider_lamini
from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

AIRFLOW = tuple(map(int, version("apache-airflow").split(".")[:2]))
PAGES = (3, 1)
"""The first Airflow that shows the pages."""
if AIRFLOW >= PAGES:
    from airflow.plugins_manager import get_fastapi_plugins

NEEDS_EXTRAS = ("airflow_provider_lamini.local",)
NEEDS_AIRFLOW = {
    "airflow_provider_lamini.triggers.job_event": (3, 0),
    "airflow_provider_lamini.plugins.app": PAGES,
    "airflow_provider_lamini.plugins.jobs": PAGES,
    "airflow_provider_lamini.plugins.task": PAGES,
}
"""Modules that older versions never load, with the first that does."""
FILES_OF_A_PAGE = 4
"""The page, its style, its own module and the common one."""


def find_lineage() -> OperatorLineage | None:
    """Get what an operator tells OpenLineage when its task starts."""
    infer: Any = LaminiBatchInferenceOperator(
        task_id="infer", input="/data/rows.jsonl", prompt="text", model_name="model", output="/data/answers"
    )
    return infer.get_openlineage_facets_on_start()


def find_problem_with_lineage() -> str | None:
    """Compare an operator's lineage with its arguments; return what is wrong."""
    found = find_lineage()
    if found is None:
        return "an operator tells OpenLineage nothing"
    names = [data.name for data in (*found.inputs, *found.outputs)]
    if names != ["/data/rows.jsonl", "/data/answers"]:
        return f"an operator tells OpenLineage that its data are {names}"
    model = found.job_facets["airflow_provider_lamini"].model
    return None if model == "model" else f"an operator tells OpenLineage that its model is {model}"


async def find_problem_with_pages() -> str | None:
    """Load the plugin as Airflow's API server does, and get each page with all that it loads; return what is wrong."""
    applications = [each["app"] for each in get_fastapi_plugins()[0] if each["name"] == "LLM pages"]
    if len(applications) != 1:
        return "Airflow does not find the plugin with the pages"
    transport = httpx.ASGITransport(app=applications[0])
    async with httpx.AsyncClient(transport=transport, base_url="http://pages") as client:
        for page in ("jobs", "task"):
            html = (await client.get(f"/{page}")).text
            paths = [page, *re.findall(r'(?:src|href)="(static/[^"]+)"', html), "static/common.js"]
            missing = [path for path in paths if (await client.get(f"/{path}")).status_code != httpx.codes.OK]
            if missing or len(paths) < FILES_OF_A_PAGE:
                return f"the page {page} lacks {missing or 'its files'}"
    return None


def import_modules() -> int:
    """Import all modules that need no extra and no newer Airflow; return how many they are."""
    names = [
        m.name for m in pkgutil.walk_packages(airflow_provider_lamini.__path__, "airflow_provider_lamini.")
    ]
    core = [
        name
        for name in names
        if not name.startswith(NEEDS_EXTRAS) and NEEDS_AIRFLOW.get(name, AIRFLOW) <= AIRFLOW
    ]
    for name in core:
        importlib.import_module(name)
    return len(core)


def find_problem() -> str | None:
    """Check the package in an environment with nothing but Airflow; return what is wrong."""
    installed = version("airflow-provider-lamini")
    if installed != airflow_provider_lamini.__version__:
        return f"the package has version {airflow_provider_lamini.__version__}, but its metadata says {installed}"
    if find_lineage() is not None:
        return "an operator has lineage without OpenLineage"
    return asyncio.run(find_problem_with_pages()) if AIRFLOW >= PAGES else None


def main(arguments: list[str]) -> int:
    """Do one of the two checks, and return the exit status."""
    if arguments == ["--lineage"]:
        problem = find_problem_with_lineage()
        print(problem or "an operator tells OpenLineage what it reads and writes")
    else:
        count = import_modules()
        problem = find_problem()
        print(
            problem
            or f"airflow-provider-lamini {version('airflow-provider-lamini')}: {count} modules import without extras"
        )
    return problem is not None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
