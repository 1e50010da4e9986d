"""Airflow's command line."""

from __future__ import annotations

import subprocess
import sys


def airflow(*arguments: str) -> str:
    """Run a command of Airflow's, and return what it printed.

    :param arguments: as on the command line, without ``airflow``
    """
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
