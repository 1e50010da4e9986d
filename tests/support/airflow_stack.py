"""The real components of Airflow 3, one process each, in a home of their own.

SQLite and the LocalExecutor. Everything listens on loopback, on ports that were free at the start::

    with airflow_stack(home=tmp_path / "airflow", dags=[MY_DAG_FILE]) as airflow:
        run = airflow.trigger_dag("my_dag", {"rows": 60})
        assert airflow.wait_run(run) == "success"
        assert "deferred" in airflow.states_seen(run, "my_task")
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import httpx

from tests.support.processes import end_process, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import FrameType

Component = Literal["api-server", "dag-processor", "scheduler", "triggerer"]

COMPONENTS: tuple[Component, ...] = ("api-server", "scheduler", "dag-processor", "triggerer")
ENDED_RUN = frozenset({"success", "failed"})
ENDED_TASK = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one Dag."""

    dag_id: str
    run_id: str

    @property
    def path(self) -> str:
        """Where the REST API keeps this run."""
        return f"dags/{self.dag_id}/dagRuns/{self.run_id}"


@dataclass(frozen=True, slots=True)
class Sighting:
    """A state in which a task instance was first seen.

    :param at: seconds on the monotonic clock
    """

    at: float
    task_id: str
    map_index: int
    try_number: int
    state: str


class AirflowStack:
    """Handles of running components and a small client of their REST API. Made by :func:`airflow_stack`."""

    def __init__(self, home: Path, env: Mapping[str, str], port: int) -> None:
        self.home = home
        self.env = dict(env)
        self.logs = home / "components"
        self.logs.mkdir(parents=True)
        self.processes: dict[Component, subprocess.Popen[bytes]] = {}
        self.sightings: dict[Run, list[Sighting]] = {}
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False)

    # -- components -----------------------------------------------------------------------------------

    def start(self, component: Component) -> None:
        """Start one component; its output is appended to ``<home>/components/<component>.log``."""
        if component in self.processes:
            raise RuntimeError(f"{component} is already running")
        arguments: list[str] = [component]
        if component in {"scheduler", "triggerer"}:
            arguments.append("--skip-serve-logs")  # logs are read from disk; the log servers' ports are fixed
        with (self.logs / f"{component}.log").open("ab") as log:
            self.processes[component] = subprocess.Popen(
                [sys.executable, "-m", "airflow", *arguments],
                env=self.env,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, component: Component, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """End one component with all that it started. ``SIGKILL``: a crash; ``SIGTERM``: an orderly end."""
        end_process(self.processes.pop(component), with_signal, grace=20)

    def restart(self, component: Component, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """End one component and start it again; does not wait until it is healthy."""
        self.stop(component, with_signal)
        self.start(component)

    def close(self) -> None:
        """Kill every component: the home is a throwaway, and an orderly end of a triggerer takes 11 s."""
        for component in list(self.processes):
            self.stop(component, signal.SIGKILL)
        self._http.close()

    def wait_ready(self, timeout: float = 180) -> None:
        """Wait until every component reports itself healthy and a token is at hand."""
        self._until("healthy components", timeout, self._healthy)
        token = self._http.get("/auth/token").raise_for_status().json()["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def _healthy(self) -> bool:
        try:
            answer = self._http.get("/api/v2/monitor/health")
        except httpx.TransportError:
            return False
        if answer.status_code != httpx.codes.OK:
            return False
        health: dict[str, dict[str, str]] = answer.json()
        names = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all(health[name]["status"] == "healthy" for name in names)

    # -- the REST API ---------------------------------------------------------------------------------

    def add_connection(self, conn_id: str, **fields: str | int) -> None:
        """Store a connection. The fields are the REST API's: ``conn_type``, ``host``, ``password``..."""
        self._call("POST", "connections", {"connection_id": conn_id, **fields})

    def trigger_dag(self, dag_id: str, conf: Mapping[str, Any] | None = None, timeout: float = 90) -> Run:
        """Start a run of a Dag, waiting first until the Dag processor has read it."""
        self._until(f"Dag {dag_id}", timeout, lambda: self._known(dag_id))
        run = Run(dag_id, f"test__{secrets.token_hex(8)}")
        body = {"dag_run_id": run.run_id, "logical_date": None, "conf": dict(conf or {})}
        self._call("POST", f"dags/{dag_id}/dagRuns", body)
        self.sightings[run] = []
        return run

    def _known(self, dag_id: str) -> bool:
        errors = self._call("GET", "importErrors")["import_errors"]
        if errors:
            raise AssertionError("\n".join(error["stack_trace"] for error in errors))
        return self._request("GET", f"dags/{dag_id}").status_code == httpx.codes.OK

    def run_state(self, run: Run) -> str:
        """The state of a run; what its task instances are doing goes on record on the way."""
        for task in self.task_instances(run):
            state = task["state"] or "none"
            seen = Sighting(time.monotonic(), task["task_id"], task["map_index"], task["try_number"], state)
            if not any(replace(seen, at=old.at) == old for old in self._latest(run)):
                self.sightings[run].append(seen)
        return str(self._call("GET", run.path)["state"])

    def _latest(self, run: Run) -> Iterable[Sighting]:
        return {(seen.task_id, seen.map_index): seen for seen in self.sightings[run]}.values()

    def wait_run(self, run: Run, timeout: float = 120) -> str:
        """Wait for the end of a run and return its state, ``success`` or ``failed``."""
        self._until(f"the end of {run.dag_id}", timeout, lambda: self.run_state(run) in ENDED_RUN)
        state = self.run_state(run)
        if state == "failed":
            self.show_logs()
        return state

    def wait_task(self, run: Run, task_id: str, state: str, timeout: float = 120) -> None:
        """Wait until an instance of a task is in a state; an end in another state is a failure at once."""

        def reached() -> bool:
            ended = self.run_state(run) in ENDED_RUN
            states = {task["state"] for task in self.task_instances(run) if task["task_id"] == task_id}
            if state not in states and (ended or (states and states <= ENDED_TASK)):
                self._fail(f"{run.dag_id}.{task_id} ended as {states} and never was seen {state}")
            return state in states

        self._until(f"{run.dag_id}.{task_id} {state}", timeout, reached)

    def task_instances(self, run: Run) -> list[dict[str, Any]]:
        """The run's task instances as the REST API tells them: ``task_id``, ``state``, ``try_number``..."""
        found: list[dict[str, Any]] = self._call("GET", f"{run.path}/taskInstances")["task_instances"]
        return found

    def states_seen(self, run: Run, task_id: str) -> list[str]:
        """The states of a task in the order in which polling saw them; short ones may be missing."""
        return [seen.state for seen in self.sightings[run] if seen.task_id == task_id]

    def xcom(self, run: Run, task_id: str, key: str = "return_value") -> Any:
        """A value that a task left."""
        return self._call("GET", f"{run.path}/taskInstances/{task_id}/xcomEntries/{key}?deserialize=true")[
            "value"
        ]

    def tries_given_up(self, run: Run) -> int:
        """How many tries of a run's tasks the scheduler has given up because their process ended and their state did not fit.

        So it does where a worker has died. A scheduler that is late does it too where a task was deferred and woken up
        again before it heard of the deferral's end: then Airflow begins another try although nothing has failed.
        """
        log = (self.logs / "scheduler.log").read_text(errors="replace")
        return sum(
            "reported that the task instance" in line and run.run_id in line for line in log.splitlines()
        )

    def clear(self, run: Run, task_id: str) -> None:
        """Clear a task, as a person does in the UI."""
        body = {"dry_run": False, "only_failed": False, "dag_run_id": run.run_id, "task_ids": [task_id]}
        self._call("POST", f"dags/{run.dag_id}/clearTaskInstances", body)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        answer = self._request(method, path, body)
        if answer.is_error:
            self._fail(f"{method} {path} answered {answer.status_code}: {answer.text[:2000]}")
        decoded: dict[str, Any] = answer.json()
        return decoded

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """Send one request. It is repeated for a while: a locked SQLite answers as 500, and then nothing is written.

        The one process of the API server can lock itself out: it writes what a person does into the audit log in its
        event loop, and there waits 5 s for another of its requests that cannot go on meanwhile.
        """
        for pause in (0.2, 0.5, 1.0, 2.0):
            answer = self._http.request(method, f"/api/v2/{path}", json=body)
            if not answer.is_server_error:
                return answer
            time.sleep(pause)
        return answer

    def _until(self, what: str, timeout: float, true: Callable[[], bool]) -> None:
        end = time.monotonic() + timeout
        while not true():
            dead = {name: p.returncode for name, p in self.processes.items() if p.poll() is not None}
            if dead:
                self._fail(f"while waiting for {what}: components ended by themselves: {dead}")
            if time.monotonic() > end:
                self._fail(f"waited {timeout:.0f} s in vain for {what}")
            time.sleep(0.25)

    def _fail(self, message: str) -> NoReturn:
        self.show_logs()
        raise AssertionError(message)

    def show_logs(self, lines: int = 60) -> None:
        """Print the end of each component's log and of each task's, for whoever reads a failed test."""
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
    database: Path | None = None,
    parallelism: int = 4,
) -> Iterator[AirflowStack]:
    """Run an API server, a scheduler, a Dag processor and a triggerer until the block ends.

    :param home: a folder that does not exist yet, for ``AIRFLOW_HOME``; all is written there, and stays
    :param dags: Dag files; they are copied into the Dags folder
    :param env: more environment, such as ``AIRFLOW_CONN_...``
    :param database: a migrated SQLite file to start from, otherwise unused; without it, one is made (6 s)
    :param parallelism: how many tasks may run at a time; the executor forks that many workers
    :returns: the running components, all healthy
    """
    port = free_port()
    settings = _environment(home, port, parallelism) | dict(env or {})
    (home / "dags").mkdir(parents=True)
    for dag in dags:
        shutil.copy(dag, home / "dags" / dag.name)
    if database is None:
        migrate(settings)
    else:
        shutil.copy(database, home / "airflow.db")
    stack = AirflowStack(home, settings, port)
    with _sigterm_unwinds():
        try:
            for component in COMPONENTS:
                stack.start(component)
            stack.wait_ready()
            yield stack
        except BaseException:
            stack.show_logs()
            raise
        finally:
            stack.close()


def migrate(env: Mapping[str, str]) -> None:
    """Bring the database of an environment into being."""
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode:
        raise AssertionError(f"airflow db migrate failed:\n{done.stdout}{done.stderr}")


def _environment(home: Path, port: int, parallelism: int) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    address = f"http://127.0.0.1:{port}"
    return clean | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        # For a try that a late scheduler has given up, see `tries_given_up`: the default is 5 minutes.
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "5",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": str(parallelism),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        # The examples have schedules; here a Dag runs when a test says so.
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        # A dead triggerer's triggers go to another one after seconds, not after half a minute.
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, [clean.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Let a SIGTERM to the test run unwind the stack, so that no component outlives it."""

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
