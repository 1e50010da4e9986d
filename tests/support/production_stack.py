"""Airflow as teams run it: CeleryExecutor on PostgreSQL and Redis, two workers, two triggerers. All on loopback.

Needs an environment with ``.ci/production.txt``, and Debian's packages ``postgresql`` and ``redis-server``.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.airflow_stack import BASE_COMPONENTS, TRIGGERER, AirflowStack, airflow_stack
from tests.support.databases import PostgresServer, postgres_server
from tests.support.processes import end_process, free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SETTINGS = Path(__file__).parents[1] / "production" / "airflow_local_settings.py"


@dataclass(frozen=True)
class ProductionStack:
    """The running components.

    :param airflow: Airflow's own
    :param database: PostgreSQL
    """

    airflow: AirflowStack
    database: PostgresServer

    def restart_exited(self) -> list[str]:
        """Start the components again that have exited by themselves, as systemd or Kubernetes does; return their names."""
        exited = [name for name, process in self.airflow.processes.items() if process.poll() is not None]
        for name in exited:
            self.airflow.stop(name, signal.SIGKILL)  # what it started may still run
            self.airflow.start(name)
        return exited


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a Redis server on loopback during the block; yields its URL."""
    program = shutil.which("redis-server")
    if program is None:
        raise FileNotFoundError("Redis is not installed: install Debian's package redis-server")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        process = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _wait_until_it_answers(process, port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            end_process(process, signal.SIGTERM, grace=5)


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    import redis

    end = time.monotonic() + 30
    with redis.Redis(port=port) as client:
        while process.poll() is None and time.monotonic() < end:
            try:
                client.ping()
            except redis.ConnectionError:
                time.sleep(0.05)
            else:
                return
    raise RuntimeError("Redis did not start")


def components(*, workers: int, triggerers: int, concurrency: int) -> dict[str, tuple[str, ...]]:
    """Return the command line of each component.

    :param workers: number of Celery workers
    :param triggerers: number of triggerers
    :param concurrency: tasks that a worker runs at the same time
    """
    worker = ("celery", "worker", "--skip-serve-logs", "--without-gossip", "--without-mingle")
    celery = {
        f"worker-{number}": (*worker, "-c", str(concurrency), "-H", f"worker-{number}@localhost")
        for number in range(1, workers + 1)
    }
    waiting = {f"triggerer-{number}": TRIGGERER for number in range(1, triggerers + 1)}
    return {**BASE_COMPONENTS, **celery, **waiting}


@contextmanager
def production_stack(
    home: Path,
    dags: Iterable[Path],
    env: Mapping[str, str],
    *,
    workers: int = 2,
    triggerers: int = 2,
    concurrency: int = 2,
) -> Iterator[ProductionStack]:
    """Run everything until the block ends.

    :param home: folder for ``AIRFLOW_HOME``; it must not exist yet
    :param dags: Dag files to copy into the Dags folder
    :param env: additional environment variables
    :param workers: number of Celery workers
    :param triggerers: number of triggerers
    :param concurrency: tasks that a worker runs at the same time
    """
    with postgres_server() as database, redis_server() as broker:
        (home / "config").mkdir(parents=True)
        shutil.copy(SETTINGS, home / "config")
        settings = _settings(database.database.connection["port"], broker) | dict(env)
        parts = components(workers=workers, triggerers=triggerers, concurrency=concurrency)
        with airflow_stack(home, dags, settings, parallelism=32, components=parts) as airflow:
            yield ProductionStack(airflow, database)


def _settings(database_port: int, broker: str) -> dict[str, str]:
    database = f"airflow@127.0.0.1:{database_port}/postgres"
    return {
        "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__DEFER_AFTER": "10",  # the default
        "AIRFLOW__CELERY__BROKER_URL": broker,
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://{database}",
        "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}",
        # Dead schedulers, workers and tasks are noticed within seconds instead of minutes.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
        "AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "100",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "30",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
    }
