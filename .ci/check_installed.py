"""Import every module of the installed package that must work without extras."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.metadata import version

import airflow_provider_lamini

NEEDS_EXTRAS = ("airflow_provider_lamini.local",)


def main() -> int:
    """Import the modules, compare the versions, and return the exit status."""
    names = [
        m.name for m in pkgutil.walk_packages(airflow_provider_lamini.__path__, "airflow_provider_lamini.")
    ]
    core = [name for name in names if not name.startswith(NEEDS_EXTRAS)]
    for name in core:
        importlib.import_module(name)
    installed = version("airflow-provider-lamini")
    if installed != airflow_provider_lamini.__version__:
        print(
            f"the package has version {airflow_provider_lamini.__version__}, but its metadata says {installed}"
        )
        return 1
    print(f"airflow-provider-lamini {installed}: {len(core)} modules import without extras")
    return 0


if __name__ == "__main__":
    sys.exit(main())
