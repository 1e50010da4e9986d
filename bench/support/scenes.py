"""Plays a scene of waiting in a process of its own, against a stub in another, beside an idle event loop."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.stubs.running import running_stub
from bench.support.loop import idle_loop

ROOT = Path(__file__).resolve().parents[2]

NAMES = {
    "tuning": "tuning jobs",
    "batch": "batches",
    "openai": "batches under OpenAIBatchTrigger",
    "common.ai": "batches under LLMBatchTrigger",
}


@dataclass(frozen=True)
class Scene:
    """Triggers that wait.

    :param sort: what for; see ``waiting_scene.py``
    :param jobs: how many
    :param interval: seconds between two looks at a job
    :param intervals: how long to measure
    :param old: jobs that ended long ago, in the platform's list
    :param begin: seconds over which the triggers start
    :param tls: whether the platform speaks TLS
    """

    sort: str
    jobs: int
    interval: float
    intervals: int
    old: int = 0
    begin: float = 5.0
    tls: bool = False

    def title(self) -> str:
        """The scene in words."""
        beside = f" beside {self.old:,} old ones" if self.old else ""
        return f"{self.jobs:,} {NAMES[self.sort]}{beside}, every {self.interval:g} s"


def play(scene: Scene, python: str) -> tuple[dict[str, Any], dict[str, float]]:
    """Play a scene.

    :param scene: what to play
    :param python: the interpreter of the environment that holds the provider
    :returns: what was seen, and how late an idle loop was meanwhile
    """
    with (
        tempfile.TemporaryDirectory() as home,
        running_stub(tls=scene.tls) as stub,
        idle_loop(str(ROOT)) as idle,
    ):
        stub.control("jobs", running=scene.jobs, old=scene.old)
        command = [
            *(python, str(ROOT / "bench" / "waiting_scene.py"), scene.sort, "--url", stub.url),
            *("--jobs", str(scene.jobs), "--interval", str(scene.interval)),
            *("--intervals", str(scene.intervals), "--begin", str(scene.begin)),
        ]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__FREEZE_GC": "True",
        }
        if stub.authority:
            environment["SSL_CERT_FILE"] = stub.authority  # httpx trusts it, under every provider
        # A scene's log goes to a file, as a triggerer's does.
        with (Path(home) / "log").open("w") as log:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                timeout=900,
                check=False,
            )
        if done.returncode:
            raise SystemExit((Path(home) / "log").read_text()[-4000:])
    return json.loads(done.stdout.splitlines()[-1]), idle
