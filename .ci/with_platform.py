"""Run a command beside a local platform with a tiny engine: ``with_platform.py COMMAND...``.

The command's environment has the connection ``lamini_default``, the model's name as ``MODEL`` and a folder as ``OUTPUT``. Airflow
sends the package's metrics to a StatsD server, and a last line names those that have arrived.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.local_platform import local_platform
from tests.support.statsd import statsd_configuration, statsd_metrics, statsd_server
from tests.support.upstream import TEXT_MODEL, upstream


def main(command: list[str]) -> int:
    """Run the command and return its exit status."""
    with (
        tempfile.TemporaryDirectory() as folder,
        statsd_server() as statsd,
        upstream() as engine,
        local_platform(Path(folder, "platform"), engine.url) as platform,
    ):
        connection = {"conn_type": "lamini", "host": platform.url, "password": platform.key}
        environment = {
            **os.environ,
            "AIRFLOW_CONN_LAMINI_DEFAULT": json.dumps(connection),
            "MODEL": TEXT_MODEL,
            "OUTPUT": str(Path(folder, "output")),
            **statsd_configuration(statsd),
            "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "airflow_provider_lamini",  # the socket holds only hundreds of metrics
        }
        status = subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 - the caller's own
        print("metrics:", *sorted({name for name, _ in statsd_metrics(statsd)}))
        return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
