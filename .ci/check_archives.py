"""Says what a built wheel and sdist lack, or hold that they should not.

Usage: ``check_archives.py DIST``, a folder with one wheel and one sdist.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "airflow_provider_lamini"
WHEEL_NEEDS = (
    f"{PACKAGE}/py.typed",
    f"{PACKAGE}/get_provider_info.py",
    ".dist-info/licenses/LICENSE",
    ".dist-info/entry_points.txt",
)
SDIST_NEEDS = (
    f"/{PACKAGE}/py.typed",
    "/LICENSE",
    "/README.md",
    "/CHANGELOG.md",
    "/Makefile",
    "/pyproject.toml",
    "/tests/conftest.py",
    "/.ci/run",
)
NOWHERE = ("__pycache__", ".pyc", ".gguf", ".safetensors", "airflow.db")


def complaints(wheel: list[str], sdist: list[str]) -> list[str]:
    """What is wrong with the two lists of names, one sentence each."""
    found = [f"the wheel lacks {name}" for name in WHEEL_NEEDS if not any(n.endswith(name) for n in wheel)]
    found += [f"the sdist lacks {name}" for name in SDIST_NEEDS if not any(n.endswith(name) for n in sdist)]
    strangers = [n for n in wheel if not n.startswith((f"{PACKAGE}/", f"{PACKAGE}-"))]
    found += [f"the wheel would install {name} beside the package" for name in strangers]
    found += [f"{name} is no source" for name in wheel + sdist if any(part in name for part in NOWHERE)]
    return found


def main(dist: Path) -> int:
    """Check the two archives of a folder; the exit status."""
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = archive.namelist()
    with tarfile.open(sdist) as archive:
        in_sdist = [member.name for member in archive.getmembers() if member.isfile()]
    found = complaints(in_wheel, in_sdist)
    for path, names in ((wheel, in_wheel), (sdist, in_sdist)):
        print(f"{path}: {len(names)} files, {path.stat().st_size // 1024} KB")
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
