"""Run the official client against the local platform with its real models: ``python tests/client/run.py``.

Arguments select the checks whose names contain one of them: ``python tests/client/run.py tune``. The client runs in
``.venv-client``, which ``make test-client`` creates.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PYTHON = ROOT / ".venv-client" / "bin" / "python"
TIME_LIMIT = 900
"""Timeout in seconds for all checks together."""

sys.path.insert(0, str(ROOT))  # run as a script, the tests' helpers would not be importable


def can_tune() -> bool:
    """Return whether this interpreter, which runs the platform, can tune models."""
    from airflow_provider_lamini.local.tuning import trainer  # noqa: TID251 - asks the platform itself

    try:
        trainer.check_available()
    except trainer.TrainingUnavailable:
        return False
    return True


def main() -> int:
    """Start the platform, run the checks and stop the platform; return the exit status."""
    from tests.support.local_platform import local_platform

    subprocess.run([sys.executable, "-m", "airflow_provider_lamini.local", "pull"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        home, data = Path(folder, "home"), Path(folder, "platform")
        home.mkdir()
        with local_platform(data) as platform:
            env = {
                name: value for name, value in os.environ.items() if not name.startswith(("LAMINI", "LLAMA"))
            }
            own = {"LAMINI_API_URL": platform.url, "LAMINI_API_KEY": platform.key, "HOME": str(home)}
            own["PLATFORM_CAN_TUNE"] = "yes" if can_tune() else "no"
            done = subprocess.run(
                [str(PYTHON), str(HERE / "calls.py"), *sys.argv[1:]],
                env=env | own,
                cwd=home,
                timeout=TIME_LIMIT,
                check=False,
            )
            if done.returncode:
                print(f"==> the end of the platform's output:\n{platform.log}", flush=True)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
