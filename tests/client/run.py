"""Runs the official client against the local platform with its real models: ``python tests/client/run.py``.

Arguments select the checks whose names contain one of them: ``python tests/client/run.py tune``.
The client has its own environment, ``.venv-client``, which is rebuilt when its requirements or Python change.
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
"""Maximum seconds for all checks together."""

sys.path.insert(0, str(ROOT))  # the path of a script lacks the helpers in tests/


def set_up() -> None:
    """Build the client's environment unless it is up to date."""
    fingerprint = hashlib.sha256(
        sys.version.encode() + b"".join(file.read_bytes() for file in REQUIREMENTS)
    ).hexdigest()
    marker = VENV / ".ready"
    if marker.exists() and marker.read_text() == fingerprint:
        return
    print(f"==> Creating {VENV} for the official client; this takes one to three minutes", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    dependencies, client = map(str, REQUIREMENTS)
    subprocess.run([*pip, "-r", dependencies], check=True)
    subprocess.run([*pip, "--no-deps", "-r", client], check=True)
    marker.write_text(fingerprint)


def can_tune() -> bool:
    """Whether this interpreter, which runs the platform, has the packages that tuning needs."""
    from airflow_provider_lamini.local.tuning import trainer  # noqa: TID251 - checks the platform itself

    try:
        trainer.check_available()
    except trainer.TrainingUnavailable:
        return False
    return True


def main() -> int:
    """Build the environment, start the platform, run the checks, and stop the platform.

    :return: the exit status
    """
    from tests.support.local_platform import local_platform

    set_up()
    subprocess.run([sys.executable, "-m", "airflow_provider_lamini.local", "pull"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        home, data = Path(folder, "home"), Path(folder, "platform")
        home.mkdir()
        with local_platform(data) as platform:
            inherited = {
                name: value for name, value in os.environ.items() if not name.startswith(("LAMINI", "LLAMA"))
            }
            client = {"LAMINI_API_URL": platform.url, "LAMINI_API_KEY": platform.key, "HOME": str(home)}
            client["PLATFORM_CAN_TUNE"] = "yes" if can_tune() else "no"
            done = subprocess.run(
                [str(PYTHON), str(HERE / "calls.py"), *sys.argv[1:]],
                env=inherited | client,
                cwd=home,
                timeout=TIME_LIMIT,
                check=False,
            )
            if done.returncode:
                print(f"==> Last output of the platform:\n{platform.log}", flush=True)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
