"""Check a built wheel and sdist for missing and unexpected files.

Usage: ``check_archives.py DIST``, a folder with one wheel and one sdist.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "airflow_provider_lamini"
STATIC = Path(__file__).parents[1] / PACKAGE / "plugins" / "static"
WHEEL_NEEDS = (
    *(f"{PACKAGE}/plugins/static/{path.name}" for path in sorted(STATIC.iterdir())),
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
UNWANTED = ("__pycache__", ".pyc", ".gguf", ".safetensors", "airflow.db")


def find_problems(wheel: list[str], sdist: list[str]) -> list[str]:
    """Check the file names of both archives; return one sentence per problem."""
    problems = [f"the wheel lacks {name}" for name in WHEEL_NEEDS if not any(n.endswith(name) for n in wheel)]
    problems += [
        f"the sdist lacks {name}" for name in SDIST_NEEDS if not any(n.endswith(name) for n in sdist)
    ]
    outside = [n for n in wheel if not n.startswith((f"{PACKAGE}/", f"{PACKAGE}-"))]
    problems += [f"the wheel would install {name} outside the package" for name in outside]
    problems += [
        f"{name} does not belong in an archive"
        for name in wheel + sdist
        if any(part in name for part in UNWANTED)
    ]
    return problems


def main(dist: Path) -> int:
    """Check the two archives in a folder and return the exit status."""
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = archive.namelist()
    with tarfile.open(sdist) as archive:
        in_sdist = [member.name for member in archive.getmembers() if member.isfile()]
    problems = find_problems(in_wheel, in_sdist)
    for path, names in ((wheel, in_wheel), (sdist, in_sdist)):
        print(f"{path}: {len(names)} files, {path.stat().st_size // 1024} KB")
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
