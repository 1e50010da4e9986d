"""Turn a lock file into requirements with hashes: ``hashed_requirements.py NAME PYLOCK``."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

NOT_HASHED = re.compile(r"torch|triton|(nvidia|cuda)-.*|pywin32.*")
"""torch's CPU build has another origin than its release, and does not need the others; pywin32 is for Windows alone."""

PYTHONS = re.compile(r"-(cp31[1234]|py3|py2\.py3|cp3\d+-abi3)\b.*")
SYSTEMS = re.compile(r"-any\.whl$|manylinux.*_(x86_64|aarch64)|macosx")


def usable(url: str) -> bool:
    """Return whether a supported Python on Linux or macOS may install this file."""
    name = url.rpartition("/")[2]
    return not name.endswith(".whl") or bool(PYTHONS.search(name) and SYSTEMS.search(name))


def requirement(package: dict[str, Any]) -> str:
    """Return one requirement with its hashes, on several lines."""
    files = [
        file for file in (*package.get("wheels", []), package.get("sdist")) if file and usable(file["url"])
    ]
    if not files:
        raise SystemExit(f"{package['name']} {package['version']} has no file that could be installed")
    marker = f" ; {package['marker']}" if "marker" in package else ""
    hashes = sorted({f"    --hash=sha256:{file['hashes']['sha256']}" for file in files})
    return " \\\n".join([f"{package['name']}=={package['version']}{marker}", *hashes])


def main(name: str, lock: str) -> None:
    """Print the requirements."""
    packages = tomllib.loads(Path(lock).read_text(encoding="utf-8"))["packages"]
    print(f"# What the environment {name!r} installs, with hashes. Written by .ci/hash; do not edit.")
    for package in sorted(packages, key=lambda package: package["name"]):
        if "version" in package and not NOT_HASHED.fullmatch(package["name"]):
            print(requirement(package))


main(*sys.argv[1:])
