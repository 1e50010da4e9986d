"""What the crash harness needs to know of a kind of task: how it is made, and what must be true when it is over."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from tests.support.local_platform import LocalPlatform, local_platform, wait_until
from tests.support.tuning_platform import TuningPlatform, serving
from tests.support.upstream import PARROT_MODEL, Upstream, upstream

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.crash.steps import Watch
    from tests.support.crash.zygote import Outcome

ENDED = {"succeeded", "partly succeeded", "failed", "cancelled", "timed out"}


@dataclass
class World:
    """The platforms that tasks talk to.

    :param engine: the engine behind the local platform
    :param local: the local platform
    :param tuning: a platform that tunes and downloads by a script, made anew for each life
    """

    engine: Upstream
    local: LocalPlatform
    tuning: TuningPlatform = field(default_factory=TuningPlatform)

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
    """What a life has left.

    :param lost: input rows, or jobs, that are not in the results
    :param doubled: rows that are there more than once
    :param wrong: what else is not as it must be, in words
    """

    lost: int = 0
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)


class Case(ABC):
    """A kind of task.

    :ivar name: what it is, for people
    :ivar starts: path of the requests that start what is paid for, for the local platform a regular expression
    :ivar task_state: whether there is Airflow's task state store
    :ivar waits: whether it waits for jobs of the local platform without a worker
    :ivar asks_again: whether a task asks at once again where an answer is lost, which may pay for one piece again
    """

    name: ClassVar[str]
    starts: ClassVar[str] = ""
    task_state: ClassVar[bool] = False
    asks_again: ClassVar[bool] = False
    waits: ClassVar[bool] = True

    def learn(self, watch: Watch) -> None:
        """Tell a watch what the steps are."""
        watch.learn()

    @contextmanager
    def platform(self, world: World) -> Iterator[None]:
        """A platform without anything of an earlier life."""
        world.local.control.reset()
        world.engine.prompts.clear()
        world.engine.bodies.clear()
        yield

    def env(self, world: World) -> dict[str, str]:
        """How tasks find the platform."""
        return connection(world.local.url, world.local.key)

    def break_connection(self, world: World, when: str) -> None:
        """Let the connection of the next request that starts something break.

        :param when: ``before`` or ``after`` the work was done
        """
        world.local.control.fault(self.starts, method="POST", when=when, drop=True)

    def has_broken(self, world: World) -> bool:
        """Whether such a connection has come and is broken."""
        return any(fault["hits"] for fault in world.local.control.faults())

    def crash_platform(self, world: World) -> None:
        """End the platform."""
        world.local.kill()

    def restart_platform(self, world: World) -> None:
        """Start it again, with what it has kept."""
        world.local.restart()

    @abstractmethod
    def prepare(self, place: Path, world: World) -> None:
        """Lay out what the task works on.

        :param place: the folder of this life
        """

    @abstractmethod
    def operator(self, place: Path) -> Any:
        """Make the operator; the same each time. Called in the task's process."""

    @abstractmethod
    def paid(self, place: Path, world: World) -> Counter[str]:
        """How often each piece of paid work was done on the platform."""

    def started(self, paid: Counter[str], world: World) -> Counter[str]:
        """The same, by the number of jobs alone.

        :param paid: the same
        """
        del world
        return paid

    @abstractmethod
    def unknown(self, place: Path) -> set[tuple[str, float]]:
        """Submissions of which it is not recorded whether they began: the piece of work, and when it was intended.

        One more payment for each of them is what the documentation allows.
        """

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        """Compare what lies on storage, and what the task returned, with what must be there."""
        raise NotImplementedError

    def decided(self, place: Path) -> None:
        """A person has looked at the platform, and says that the task may submit again."""
        (place / "submit").touch()

    def on_unknown(self, place: Path) -> str:
        """What the operator is told to do about an unknown submission."""
        return "submit" if (place / "submit").exists() else "fail"


def connection(url: str, key: str) -> dict[str, str]:
    """The environment in which ``lamini_default`` leads to a platform."""
    fields = {"conn_type": "lamini", "host": url, "password": key, "extra": {"retry_budget": 2}}
    return {"AIRFLOW_CONN_LAMINI_DEFAULT": json.dumps(fields)}


class ScriptCase(Case):
    """A task for the platform with a script."""

    waits = False

    @contextmanager
    def platform(self, world: World) -> Iterator[None]:
        """See `Case.platform`."""
        world.tuning = TuningPlatform()
        with serving(world.tuning):
            yield

    def env(self, world: World) -> dict[str, str]:
        """See `Case.env`."""
        return connection(world.tuning.url, world.tuning.key)

    def break_connection(self, world: World, when: str) -> None:
        """See `Case.break_connection`."""
        (world.tuning.drop if when == "before" else world.tuning.lose).append(self.starts)

    def has_broken(self, world: World) -> bool:
        """See `Case.has_broken`."""
        return not (world.tuning.drop or world.tuning.lose)

    def crash_platform(self, world: World) -> None:
        """See `Case.crash_platform`."""
        world.tuning.away = True

    def restart_platform(self, world: World) -> None:
        """See `Case.restart_platform`."""
        world.tuning.away = False


def recorded(value: Any) -> set[tuple[str, float]]:
    """The unknown submission in a record, if it has one."""
    if value is None or value["job_id"] is not None:
        return set()
    return {("job", value["intended_at"])}
