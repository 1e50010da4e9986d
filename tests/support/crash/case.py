"""What the crash harness knows about a kind of task: how to create it, and what must be true at the end."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from tests.support.emissary_platform import EmissaryPlatform
from tests.support.local_platform import LocalPlatform, local_platform, wait_until
from tests.support.scripted_platform import environment, serving
from tests.support.tuning_platform import TuningPlatform
from tests.support.upstream import PARROT_MODEL, Upstream, upstream

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.crash.steps import Watch
    from tests.support.crash.zygote import Outcome
    from tests.support.scripted_platform import ScriptedPlatform

ENDED = {"succeeded", "partly succeeded", "failed", "cancelled", "timed out"}


@dataclass
class World:
    """The platforms that tasks talk to.

    :param engine: the engine behind the local platform
    :param local: the local platform
    :param tuning: a platform with scripted tuning jobs and downloads, created for each life
    :param emissary: a scripted Emissary, created for each life
    """

    engine: Upstream
    local: LocalPlatform
    tuning: TuningPlatform = field(default_factory=TuningPlatform)
    emissary: EmissaryPlatform = field(default_factory=EmissaryPlatform)

    def settle(self) -> None:
        """Wait until nothing runs on the local platform."""
        wait_until(lambda: all(job["state"] in ENDED for job in self.local.control.jobs()))


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Start the platforms.

    :param folder: for the local platform's data
    """
    with ExitStack() as stack:
        engine = stack.enter_context(upstream(more_models=(PARROT_MODEL,)))
        yield World(engine, stack.enter_context(local_platform(folder, engine.url)))


@dataclass(slots=True)
class Found:
    """What is missing or wrong at the end of a life.

    :param lost: input rows, or jobs, that are not in the results
    :param doubled: rows that exist more than once
    :param wrong: descriptions of other defects
    """

    lost: int = 0
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)


class Case(ABC):
    """A kind of task.

    :ivar name: its name in tables and messages
    :ivar starts: path of the requests that start paid work; a regular expression for the local platform
    :ivar task_state: whether the task has Airflow's task state store
    :ivar waits: whether it waits for jobs of the local platform in the triggerer
    :ivar client_retries: whether the client itself retries a request whose response was lost, which may pay for it again
    """

    name: ClassVar[str]
    starts: ClassVar[str] = ""
    task_state: ClassVar[bool] = False
    client_retries: ClassVar[bool] = False
    waits: ClassVar[bool] = True

    def learn(self, watch: Watch) -> None:
        """Teach a watch the named steps."""
        watch.learn()

    @contextmanager
    def platform(self, world: World) -> Iterator[None]:
        """Remove everything from earlier lives from the platform."""
        world.local.control.reset()
        world.engine.prompts.clear()
        world.engine.bodies.clear()
        yield

    def env(self, world: World) -> dict[str, str]:
        """Return the environment in which tasks find the platform."""
        return connection(world.local.url, world.local.key)

    def break_connection(self, world: World, when: str) -> None:
        """Break the connection of the next request that starts work.

        :param when: ``before`` or ``after`` the request is processed
        """
        world.local.control.fault(self.starts, method="POST", when=when, drop=True)

    def has_broken(self, world: World) -> bool:
        """Return whether such a connection was broken."""
        return any(fault["hits"] for fault in world.local.control.faults())

    def crash_platform(self, world: World) -> None:
        """Kill the platform."""
        world.local.kill()

    def restart_platform(self, world: World) -> None:
        """Start the platform again with its data."""
        world.local.restart()

    @abstractmethod
    def prepare(self, place: Path, world: World) -> None:
        """Create the task's input.

        :param place: the folder of this life
        """

    @abstractmethod
    def operator(self, place: Path) -> Any:
        """Create the operator, the same each time. Runs in the task's process."""

    @abstractmethod
    def paid(self, place: Path, world: World) -> Counter[str]:
        """Return how often the platform did each piece of paid work."""

    def started(self, paid: Counter[str], world: World) -> Counter[str]:
        """Return the same by number of jobs.

        :param paid: result of `paid`
        """
        del world
        return paid

    @abstractmethod
    def unknown(self, place: Path) -> set[tuple[str, float]]:
        """Return the submissions with an unknown outcome: pairs of the piece of work and the time of the intent.

        The documentation allows one more payment for each of them.
        """

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        """Compare the files on storage and the task's result with the expected ones."""
        raise NotImplementedError

    def decided(self, place: Path) -> None:
        """Record that a user allows the task to submit again."""
        (place / "submit").touch()

    def on_unknown(self, place: Path) -> str:
        """Return the operator's ``on_unknown_submission``."""
        return "submit" if (place / "submit").exists() else "fail"


def connection(url: str, key: str) -> dict[str, str]:
    """Return the environment in which ``lamini_default`` connects to a platform."""
    fields = {"conn_type": "lamini", "host": url, "password": key, "extra": {"retry_budget": 2}}
    return {"AIRFLOW_CONN_LAMINI_DEFAULT": json.dumps(fields)}


class ScriptCase(Case):
    """A task for the scripted platform."""

    waits = False

    def scripted(self, world: World) -> ScriptedPlatform:
        """Return the platform that the task talks to."""
        return world.tuning

    def new_platform(self, world: World) -> None:
        """Create that platform anew."""
        world.tuning = TuningPlatform()

    @contextmanager
    def platform(self, world: World) -> Iterator[None]:
        self.new_platform(world)
        with serving(self.scripted(world)):
            yield

    def env(self, world: World) -> dict[str, str]:
        return environment(self.scripted(world))

    def break_connection(self, world: World, when: str) -> None:
        platform = self.scripted(world)
        if when == "before":
            platform.drop.append(self.starts)
        else:
            platform.lose.append(f"POST {self.starts}")

    def has_broken(self, world: World) -> bool:
        platform = self.scripted(world)
        return not (platform.drop or platform.lose)

    def crash_platform(self, world: World) -> None:
        self.scripted(world).unavailable = True

    def restart_platform(self, world: World) -> None:
        self.scripted(world).unavailable = False


def recorded(value: Any) -> set[tuple[str, float]]:
    """Return the unknown submission of a record, if it has one."""
    if value is None or value["job_id"] is not None:
        return set()
    return {("job", value["intended_at"])}
