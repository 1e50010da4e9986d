"""Import every module of the installed package that must work without extras."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import re
import sys
from importlib.metadata import version

import httpx

import airflow_provider_lamini

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


def main() -> int:
    """Import the modules, compare the versions, and return the exit status."""
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
    installed = version("airflow-provider-lamini")
    if installed != airflow_provider_lamini.__version__:
        print(
            f"the package has version {airflow_provider_lamini.__version__}, but its metadata says {installed}"
        )
        return 1
    problem = asyncio.run(find_problem_with_pages()) if AIRFLOW >= PAGES else None
    if problem:
        print(problem)
        return 1
    print(f"airflow-provider-lamini {installed}: {len(core)} modules import without extras")
    return 0


if __name__ == "__main__":
    sys.exit(main())
