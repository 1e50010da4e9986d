"""Write docs/licences.txt from the environments that are installed: ``licences.py PYTHON...``.

Each argument is the interpreter of an environment, such as ``.venv/bin/python``. Packages of other environments keep the
line that they have.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LIST = ROOT / "docs/licences.txt"
HEAD = """# Licences of all packages that the environments of this project install, as the packages state them.
# Written by .ci/licences.py; the versions are in .ci/requirements-*.txt.
"""
LINUX = [
    {
        "sys_platform": "linux",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "python_version": f"3.{minor}",
        "python_full_version": f"3.{minor}.0",
    }
    for minor in (11, 12, 13, 14)
]
NOT_IN_METADATA = {
    "async-timeout": "Apache-2.0",
    "httpx-aiohttp": "BSD-3-Clause",
    "lamini-configuration": "MIT",
    "openlineage-sql": "Apache-2.0",
    "torch": "BSD-3-Clause",
}
"""Licences of packages whose metadata does not name them, from their licence files, or that only an older Python needs."""

READ = """
import importlib.metadata as m, json
def licence(meta):
    classified = [c.rpartition(" :: ")[2] for c in meta.get_all("Classifier", []) if c.startswith("License ::")]
    first = (meta.get("License") or "").strip().partition("\\n")[0]
    named = "; ".join(c for c in classified if c != "OSI Approved")
    return meta.get("License-Expression") or named or first[:80] or "not stated"
print(json.dumps({d.metadata["Name"]: licence(d.metadata) for d in m.distributions()}))
"""


def normalized(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required() -> set[str]:
    """Return the names of all packages that the environments install on Linux."""
    lines = [
        line for path in ROOT.glob(".ci/requirements-*.txt") for line in path.read_text("utf-8").splitlines()
    ]
    pins = [Requirement(line.rstrip("\\ ")) for line in lines if re.match(r"[\w.-]+==", line)]
    needed = {
        normalized(pin.name) for pin in pins if pin.marker is None or any(map(pin.marker.evaluate, LINUX))
    }
    return needed | {"torch"}


def listed() -> dict[str, str]:
    """Return the licences in the list."""
    lines = LIST.read_text("utf-8").splitlines() if LIST.exists() else []
    return dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith("#"))


def installed(python: str) -> dict[str, str]:
    """Return the licences of an environment's packages."""
    printed = subprocess.run([python, "-c", READ], capture_output=True, text=True, check=True).stdout  # noqa: S603
    return {normalized(name): licence for name, licence in json.loads(printed).items()}


def main(pythons: list[str]) -> int:
    """Write the list; return 1 if it lacks a package."""
    licences = listed()
    for python in pythons:
        licences |= installed(python)
    licences |= NOT_IN_METADATA
    names = required()
    lines = [f"{name}: {licences[name]}\n" for name in sorted(names & licences.keys())]
    LIST.write_text(HEAD + "".join(lines), encoding="utf-8")
    missing = sorted(names - licences.keys())
    if missing:
        print(f"Install the environments of these packages and run this again: {', '.join(missing)}")
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
