"""Look up advisories for the packages of requirement files: ``audit.py FILE...``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SERVICES = ("pypi", "osv")
"""Where pip-audit looks up advisories; the second is asked if the first cannot be reached."""


def pins(files: list[str]) -> list[str]:
    """Return all pinned versions of requirement files."""
    lines = (line for file in files for line in Path(file).read_text(encoding="utf-8").splitlines())
    return sorted({found[0] for line in lines if (found := re.match(r"[\w.-]+==[\w.!+]+", line))})


def look_up(pinned: list[str], service: str) -> tuple[list[dict[str, Any]], str]:
    """Return the packages that a service knows, with their advisories, and why it knows none."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pinned))
        file.flush()
        command = ["-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner=off", "--timeout=10"]
        ran = subprocess.run(  # noqa: S603 - this project's own command
            [
                sys.executable,
                *command,
                "--format=json",
                f"--vulnerability-service={service}",
                "-r",
                file.name,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        found = json.loads(ran.stdout)["dependencies"]
    except ValueError:
        return [], (ran.stderr.strip().splitlines() or ["no answer"])[-1][:200]
    return [package for package in found if "skip_reason" not in package], "it knows none of these packages"


def main(files: list[str]) -> int:
    """Print what was found; return the exit status."""
    # Several versions of one package cannot be in one file.
    rounds: list[dict[str, str]] = []
    for pin in pins(files):
        name = pin.partition("==")[0]
        free = next((chosen for chosen in rounds if name not in chosen), None)
        if free is None:
            rounds.append(free := {})
        free[name] = pin
    total = sum(map(len, rounds))
    for service in SERVICES:
        known, reason = look_up(list(rounds[0].values())[:3], service)  # quick, if nothing can be reached
        if known:
            known = [package for chosen in rounds for package in look_up(list(chosen.values()), service)[0]]
            break
        print(f"The advisories of {service} cannot be read: {reason}")
    if not known:
        print(f"AUDIT SKIPPED: no advisory data can be reached from here. {total} packages were not audited.")
        return 0
    concerned = [package for package in known if package["vulns"]]
    for package in concerned:
        ids = ", ".join(
            f"{v['id']} (fixed in {', '.join(v['fix_versions']) or 'no version'})" for v in package["vulns"]
        )
        print(f"{package['name']} {package['version']}: {ids}")
    print(f"{len(known)} of {total} packages audited, {len(concerned)} with advisories")
    return bool(concerned)


sys.exit(main(sys.argv[1:]))
