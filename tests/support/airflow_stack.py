"""Run the real components of Airflow, one process each, in a temporary home. The client needs Airflow 3.

By default they use SQLite and the LocalExecutor. They listen on free loopback ports::

    with airflow_stack(home=tmp_path / "airflow", dags=[MY_DAG_FILE]) as airflow:
        run = airflow.trigger_dag("my_dag", {"rows": 60})
        assert airflow.wait_run(run) == "success"
        assert "deferred" in airflow.states_seen(run, "my_task")
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import httpx

from tests.support.forks import warm_python
from tests.support.processes import end_process, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tests.support.forks import Fork, WarmPython

# The log servers' ports are fixed, so two stacks would collide.
TRIGGERER = ("triggerer", "--skip-serve-logs")
BASE_COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
}
COMPONENTS = {**BASE_COMPONENTS, "triggerer": TRIGGERER}
"""The command line of each component, without ``airflow``, by its name."""
IMPORTS = """
from contextlib import suppress
from importlib import import_module
import airflow.__main__
for name in (
    "airflow.api_fastapi.app",
    "airflow.api_fastapi.core_api.app",
    "airflow.api_fastapi.core_api.routes.public",
    "airflow.api_fastapi.core_api.routes.ui",
    "airflow.api_fastapi.execution_api.app",
    "airflow.api_fastapi.execution_api.routes",
    "airflow.executors.local_executor",
    "airflow.jobs.dag_processor_job_runner",
    "airflow.jobs.scheduler_job_runner",
    "airflow.jobs.triggerer_job_runner",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "uvicorn",
):
    with suppress(ImportError):  # what another version of Airflow does not have
        import_module(name)
"""
"""What a component needs at its start: three seconds for each of them, so they are forks of a process that has it."""
RUN = """
import os, sys
from airflow.__main__ import main
os.setsid()
os.chdir(os.environ["AIRFLOW_HOME"])
sys.argv[0] = "airflow"
main()
"""
"""Runs the command ``airflow`` in such a fork."""
RUN_ENDED = frozenset({"success", "failed"})
TASK_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Run:
    """A Dag run."""

    dag_id: str
    run_id: str

    @property
    def path(self) -> str:
        """The run's path in the REST API."""
        return f"dags/{self.dag_id}/dagRuns/{self.run_id}"


class AirflowStack:
    """The running components, and a small client of their REST API. Created by `airflow_stack`."""

    def __init__(
        self, python: WarmPython, env: Mapping[str, str], components: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.home = Path(env["AIRFLOW_HOME"])
        self.components = components
        self.env = dict(env)
        self.url = env["AIRFLOW__API__BASE_URL"]
        self.logs = self.home / "components"
        self.logs.mkdir(parents=True)
        self.processes: dict[str, Fork] = {}
        self._python = python
        self._states: dict[Run, list[tuple[str, int, int, str]]] = {}
        self._http = httpx.Client(base_url=self.url, timeout=20, trust_env=False)

    # -- components -----------------------------------------------------------------------------------

    def start(self, component: str) -> None:
        """Start a component. Its output is appended to ``<home>/components/<component>.log``."""
        if component in self.processes:
            raise RuntimeError(f"{component} is already running")
        log = self.logs / f"{component}.log"
        log.touch()
        self.processes[component] = self._python.start(
            RUN, *self.components[component], stdout=str(log), stderr=str(log)
        )

    def stop(self, component: str, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """Stop a component and all its children: ``SIGKILL`` is a crash, ``SIGTERM`` an orderly shutdown."""
        end_process(self.processes.pop(component), with_signal, grace=20)

    def close(self) -> None:
        """Kill all components: the home is temporary, and an orderly shutdown of a triggerer takes 11 s."""
        for component in list(self.processes):
            self.stop(component, signal.SIGKILL)
        self._http.close()

    def wait_ready(self, timeout: float = 180) -> None:
        """Wait until every component is healthy, then get an API token."""
        self.until("healthy components", timeout, self._healthy)
        token = self._http.get("/auth/token").raise_for_status().json()["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def _healthy(self) -> bool:
        try:
            response = self._http.get("/api/v2/monitor/health")
        except httpx.TransportError:
            return False
        if response.status_code != httpx.codes.OK:
            return False
        health: dict[str, dict[str, str]] = response.json()
        names = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all(health[name]["status"] == "healthy" for name in names)

    # -- command line ---------------------------------------------------------------------------------

    def command(self, *arguments: str, **env: str) -> str:
        """Run an ``airflow`` command and return its standard output.

        :param arguments: command line without ``airflow``
        :param env: environment variables beside the stack's own
        """
        return run_command(*arguments, env=self.env | env)

    # -- the REST API ---------------------------------------------------------------------------------

    def add_connection(self, conn_id: str, **fields: str | int) -> None:
        """Store a connection. The fields are those of the REST API: ``conn_type``, ``host``, ``password``..."""
        self._call("POST", "connections", {"connection_id": conn_id, **fields})

    def remove_connection(self, conn_id: str) -> None:
        """Delete a connection."""
        self._request("DELETE", f"connections/{conn_id}").raise_for_status()

    def trigger_dag(self, dag_id: str, conf: Mapping[str, Any] | None = None, timeout: float = 90) -> Run:
        """Start a Dag run. Waits first until the Dag processor has parsed the Dag."""
        self.until(f"Dag {dag_id}", timeout, lambda: self._known(dag_id))
        run = Run(dag_id, f"test__{secrets.token_hex(8)}")
        body = {"dag_run_id": run.run_id, "logical_date": None, "conf": dict(conf or {})}
        self._call("POST", f"dags/{dag_id}/dagRuns", body)
        self._states[run] = []
        return run

    def _known(self, dag_id: str) -> bool:
        errors = self._call("GET", "importErrors")["import_errors"]
        if errors:
            raise AssertionError("\n".join(error["stack_trace"] for error in errors))
        return self._request("GET", f"dags/{dag_id}").status_code == httpx.codes.OK

    def run_state(self, run: Run) -> str:
        """Return the state of a run, and record the states of its task instances for `states_seen`."""
        self._look(run)
        return str(self._call("GET", run.path)["state"])

    def _look(self, run: Run) -> list[dict[str, Any]]:
        """Return the run's task instances, and record their states."""
        found = self.task_instances(run)
        for task in found:
            seen = (task["task_id"], task["map_index"], task["try_number"], task["state"] or "none")
            latest = {entry[:2]: entry for entry in self._states[run]}
            if latest.get(seen[:2]) != seen:
                self._states[run].append(seen)
        return found

    def wait_run(self, run: Run, timeout: float = 120) -> str:
        """Wait until a run ends; return its state, ``success`` or ``failed``."""
        self.until(f"the end of {run.dag_id}", timeout, lambda: self.run_state(run) in RUN_ENDED)
        state = self.run_state(run)
        if state == "failed":
            self.show_logs()
        return state

    def wait_runs(self, dag_id: str, number: int, timeout: float = 120) -> list[Run]:
        """Wait until a Dag has had a number of runs, whoever has started them; fail if it has had more.

        :return: the runs, the oldest first
        """

        def found() -> list[dict[str, Any]]:
            if not self._known(dag_id):
                return []
            listed: list[dict[str, Any]] = self._call("GET", f"dags/{dag_id}/dagRuns?order_by=run_after")[
                "dag_runs"
            ]
            return listed

        self.until(f"{number} runs of {dag_id}", timeout, lambda: len(found()) >= number)
        runs = [Run(dag_id, each["dag_run_id"]) for each in found()]
        if len(runs) != number:
            self._fail(f"{dag_id} has had {len(runs)} runs, not {number}")
        for run in runs:
            self._states.setdefault(run, [])
        return runs

    def wait_task(self, run: Run, task_id: str, state: str, timeout: float = 120) -> None:
        """Wait until an instance of a task is in a state; fail at once if the task ends in another state."""

        def reached() -> bool:
            states = {task["state"] for task in self._look(run) if task["task_id"] == task_id}
            if state not in states and states <= TASK_ENDED and (states or self.run_state(run) in RUN_ENDED):
                self._fail(f"{run.dag_id}.{task_id} ended as {states} and was never seen {state}")
            return state in states

        self.until(f"{run.dag_id}.{task_id} {state}", timeout, reached)

    def task_instances(self, run: Run) -> list[dict[str, Any]]:
        """Return the run's task instances as in the REST API: ``task_id``, ``state``, ``try_number``..."""
        found: list[dict[str, Any]] = self._call("GET", f"{run.path}/taskInstances")["task_instances"]
        return found

    def states_seen(self, run: Run, task_id: str) -> list[str]:
        """Return the states of a task in the order in which polling saw them. Short ones may be missing."""
        return [state for task, _, _, state in self._states[run] if task == task_id]

    def xcom(self, run: Run, task_id: str, key: str = "return_value") -> Any:
        """Return an XCom value of a task."""
        return self._call("GET", f"{run.path}/taskInstances/{task_id}/xcomEntries/{key}?deserialize=true")[
            "value"
        ]

    def failed_tries(self, run: Run) -> int:
        """Return how many tries of the run's tasks came before the current ones."""
        return sum(max(task["try_number"] - 1, 0) for task in self.task_instances(run))

    def abandoned_tries(self, run: Run) -> int:
        """Return how many tries, at most, the scheduler abandoned because the task's process ended in an unexpected state.

        That happens when a worker dies. It also happens, without any failure, when a slow scheduler learns of a deferral only
        after the task was resumed. The scheduler may report one try twice: when it learns of a deferral and of the end
        of the process, or when its transaction failed and is repeated.
        """
        log = (self.logs / "scheduler.log").read_text(errors="replace")
        return sum(
            "reported that the task instance" in line and run.run_id in line for line in log.splitlines()
        )

    def clear(self, run: Run, task_id: str, map_index: int | None = None) -> None:
        """Clear a task, or one of its map indexes with what follows it, as a user does in the UI."""
        tasks = [task_id] if map_index is None else [[task_id, map_index]]
        body = {
            "dry_run": False,
            "only_failed": False,
            "dag_run_id": run.run_id,
            "task_ids": tasks,
            "include_downstream": map_index is not None,
        }
        self._call("POST", f"dags/{run.dag_id}/clearTaskInstances", body)

    def mark_failed(self, run: Run, task_id: str, map_index: int) -> None:
        """Mark a task as failed as a user does in the UI."""
        body = {"new_state": "failed"}
        self._call("PATCH", f"{run.path}/taskInstances/{task_id}/{map_index}", body)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        response = self._request(method, path, body)
        if response.is_error:
            self._fail(f"{method} {path} returned {response.status_code}: {response.text[:2000]}")
        decoded: dict[str, Any] = response.json()
        return decoded

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """Send a request, and retry it after a 500, which a locked SQLite database causes; nothing was written then.

        The API server can lock itself out: it writes the audit log in its event loop, where it waits 5 s for another of its
        own requests, which cannot continue in the meantime. On a busy machine it may then be silent for longer than the
        timeout; only what reads is sent again after that.
        """
        for pause in (0.2, 0.5, 1.0, 2.0):
            try:
                response = self._http.request(method, f"/api/v2/{path}", json=body)
            except httpx.ReadTimeout:
                if method != "GET" or pause == 2.0:
                    raise
                continue
            if not response.is_server_error:
                return response
            time.sleep(pause)
        return response

    def until(self, what: str, timeout: float, condition: Callable[[], bool]) -> None:
        """Wait for a condition; fail, with the logs, if a component exits or it takes too long.

        :param what: what is waited for, for the message
        :param timeout: seconds
        :param condition: returns whether it holds; called twice a second
        """
        end = time.monotonic() + timeout
        while not condition():
            statuses = {name: process.poll() for name, process in self.processes.items()}
            dead = {name: status for name, status in statuses.items() if status is not None}
            if dead:
                self._fail(f"while waiting for {what}: components exited: {dead}")
            if time.monotonic() > end:
                self._fail(f"{what}: not within {timeout:.0f} s")
            time.sleep(0.5)

    def _fail(self, message: str) -> NoReturn:
        self.show_logs()
        raise AssertionError(message)

    def show_logs(self, lines: int = 60) -> None:
        """Print the end of each component's and each task's log, to explain a failed test."""
        for log in [*sorted(self.logs.glob("*.log")), *sorted((self.home / "logs").rglob("*.log"))]:
            if "dag_processor" not in log.parts:
                tail = log.read_text(errors="replace").splitlines()[-lines:]
                print(f"\n----- {log.relative_to(self.home)}", *tail, sep="\n")


@contextmanager
def airflow_stack(
    home: Path,
    dags: Iterable[Path],
    env: Mapping[str, str] | None = None,
    *,
    parallelism: int = 4,
    components: Mapping[str, tuple[str, ...]] = COMPONENTS,
) -> Iterator[AirflowStack]:
    """Run an API server, a scheduler, a Dag processor and a triggerer until the block ends.

    :param home: folder for ``AIRFLOW_HOME``; it must not exist yet, and it is not deleted
    :param dags: Dag files to copy into the Dags folder
    :param env: additional environment variables, such as ``AIRFLOW_CONN_...``
    :param parallelism: number of worker slots
    :param components: the command line of each component
    :return: the running components, all healthy if an API server that can say so is one of them
    """
    port = free_port()
    settings = _environment(home, port, parallelism) | dict(env or {})
    for folder in ("dags", "tmp"):
        (home / folder).mkdir(parents=True)
    for dag in dags:
        shutil.copy(dag, home / "dags" / dag.name)
    traced = settings.get("AIRFLOW__TRACES__OTEL_ON") == "True"
    # OpenTelemetry starts its thread again in each fork.
    with warm_python(IMPORTS, settings, threads=1 + traced) as python:
        python.run(RUN, "db", "migrate")
        stack = AirflowStack(python, settings, components)
        try:
            for component in components:
                stack.start(component)
            if "api-server" in components:
                stack.wait_ready()
            yield stack
        except BaseException:
            stack.show_logs()
            raise
        finally:
            stack.close()


def run_command(*arguments: str, env: Mapping[str, str]) -> str:
    """Run an ``airflow`` command and return its standard output."""
    command = [sys.executable, "-m", "airflow", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode:
        raise AssertionError(f"airflow {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _environment(home: Path, port: int, parallelism: int) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    address = f"http://127.0.0.1:{port}"
    return clean | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__DEFER_AFTER": "0",  # the tests wait for deferrals
        # Half the default: the tests' tasks are few, and have retries.
        "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__MIN_TRIGGER_SECONDS": "5",
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        # For tries that a slow scheduler abandons (see `abandoned_tries`); the default is 5 minutes.
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "5",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        # The process that forks reads no airflow.cfg: the first command writes it, with a key of its own.
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes()).decode(),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": str(parallelism),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        # The Dag files do not change: one parse of each is enough.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        # Only tests start runs, although the example Dags have schedules.
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        # Another triggerer takes over the triggers of a dead one after seconds instead of half a minute.
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, [clean.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(home / "tmp"),  # killed components leave their temporary files
    }
