"""Run the official client against the local platform with its real models: ``python tests/client/run.py``.

With arguments, only the checks whose names hold one of them: ``python tests/client/run.py tune``.
The client gets an environment of its own, ``.venv-client``, made anew whenever what it is made of changes.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
VENV = ROOT / ".venv-client"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = (HERE / "requirements.txt", HERE / "requirements-client.txt")
TIME_LIMIT = 900
"""Seconds that all checks may take together."""

sys.path.insert(0, str(ROOT))  # run as a script, the tests' helpers are not on the path


def set_up() -> None:
    """Make the client's environment, unless it is there as it has to be."""
    wanted = hashlib.sha256(
        sys.version.encode() + b"".join(file.read_bytes() for file in REQUIREMENTS)
    ).hexdigest()
    mark = VENV / ".ready"
    if mark.exists() and mark.read_text() == wanted:
        return
    print(f"==> making {VENV} for the official client: one to three minutes the first time", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    dependencies, client = map(str, REQUIREMENTS)
    subprocess.run([*pip, "-r", dependencies], check=True)
    subprocess.run([*pip, "--no-deps", "-r", client], check=True)
    mark.write_text(wanted)


def can_tune() -> bool:
    """Whether the platform, which this interpreter runs, has what tuning needs."""
    from airflow_provider_lamini.local.tuning import trainer  # noqa: TID251 - it is the platform that is asked about

    try:
        trainer.check_available()
    except trainer.TrainingUnavailable:
        return False
    return True


def main() -> int:
    """Set up, start the platform, run the checks, stop the platform.

    :returns: the exit status
    """
    from tests.support.local_platform import local_platform

    set_up()
    subprocess.run([sys.executable, "-m", "airflow_provider_lamini.local", "pull"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        home, data = Path(folder, "home"), Path(folder, "platform")
        home.mkdir()
        with local_platform(data) as platform:
            kept = {
                name: value for name, value in os.environ.items() if not name.startswith(("LAMINI", "LLAMA"))
            }
            own = {"LAMINI_API_URL": platform.url, "LAMINI_API_KEY": platform.key, "HOME": str(home)}
            own["PLATFORM_CAN_TUNE"] = "yes" if can_tune() else "no"
            done = subprocess.run(
                [str(PYTHON), str(HERE / "calls.py"), *sys.argv[1:]],
                env=kept | own,
                cwd=home,
                timeout=TIME_LIMIT,
                check=False,
            )
            if done.returncode:
                print(f"==> the platform said last:\n{platform.log}", flush=True)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
