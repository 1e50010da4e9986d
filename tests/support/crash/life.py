"""The life of a task: tries, deferrals and crashes until it ends, and what the platform did for it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.crash.zygote import Order, Outcome, Phase, Zygote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.support.crash.case import Case, Found, World

MAXIMUM_TRIES = 15


@dataclass(frozen=True, slots=True)
class Kill:
    """When to kill a process: at a named step, at a function call, or after some seconds."""

    step: tuple[str, int] | None = None
    call: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        if self.step:
            return f"{self.step[0]} ({self.step[1]})"
        return f"call {self.call}" if self.call else f"{self.seconds} s"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong in addition to kills.

    :param fault: the connection of the first submission breaks ``before`` or ``after`` the request is processed
    :param restart: number of the process during which the platform is killed and restarted
    :param after: seconds between the start of that process and the kill
    :param slow: whether jobs take a while, so that retries find them running
    :param hold: whether jobs make no progress until the first process has ended
    """

    fault: str | None = None
    restart: int | None = None
    after: float = 0.0
    slow: bool = False
    hold: bool = False


@dataclass(slots=True)
class Life:
    """What happened to a task.

    :param trouble: what went wrong in addition to kills
    :param kills: number of killed processes
    :param tries: number of tries
    :param decisions: how often a user had to decide
    :param repeated: paid work that was repeated as documented
    :param duplicates: paid work that was repeated without being documented
    :param broken: whether the connection of a submission broke
    :param restarted: whether the platform was killed and restarted
    :param found: defects of the result
    :param plan: the intended kills
    :param phases: each process's phase and outcome
    """

    case: str
    trouble: Trouble
    kills: int = 0
    tries: int = 0
    decisions: int = 0
    unknown: int = 0
    repeated: int = 0
    duplicates: int = 0
    broken: bool = False
    restarted: bool = False
    found: Found | None = None
    failed: str = ""
    plan: list[str] = field(default_factory=list)
    phases: list[tuple[Phase, Outcome]] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Descriptions of everything that is wrong."""
        wrong = [self.failed] if self.failed else []
        if self.duplicates:
            wrong.append(f"{self.duplicates} paid for twice")
        if self.found is not None:
            wrong += self.found.wrong
            wrong += [f"{self.found.lost} lost"] if self.found.lost else []
            wrong += [f"{self.found.doubled} doubled"] if self.found.doubled else []
        return wrong

    def story(self) -> str:
        """Describe the life, to explain a failure."""
        lines = [
            f"  {phase}: {outcome.how} {outcome.error or ''}, after {outcome.steps[-1] if outcome.steps else '?'}"
            for phase, outcome in self.phases
        ]
        head = f"{self.case}: {'; '.join(self.wrong) or 'nothing wrong'} (planned kills: {'; '.join(self.plan)}; {self.trouble})"
        return "\n".join([head, *lines])


class Harness:
    """Runs tasks from the first try to the end.

    :param zygote: runs the processes
    :param world: the platforms
    :param folder: folder for the files of all lives
    :param cases: module with the cases
    """

    def __init__(
        self, zygote: Zygote, world: World, folder: Path, cases: str = "tests.support.crash.cases"
    ) -> None:
        self.zygote = zygote
        self.world = world
        self._folder = folder
        self._cases = cases
        self._lives = 0

    def live(
        self,
        case: Case,
        kills: Mapping[int, Kill] | Callable[[int, Phase], Kill | None],
        trouble: Trouble = Trouble(),
    ) -> Life:
        """Run a task until it ends.

        :param case: the kind of task
        :param kills: maps the number of a process to its kill; or a function that returns the kill of each process
        :param trouble: what goes wrong in addition
        """
        self._lives += 1
        place = self._folder / f"life-{self._lives}"
        place.mkdir(parents=True)
        with case.platform(self.world):
            case.prepare(place, self.world)
            self._arm(case, trouble)
            life = _LifeRun(
                self, case, place, kills if callable(kills) else lambda number, _: kills.get(number), trouble
            )
            life.run()
            life.platform_is_back()
            life.life.broken = trouble.fault is not None and case.has_broken(self.world)
            self.world.local.control.clear_faults()
            self.world.engine.tokens_per_second = 100_000
            self.world.settle()
            life.judge()
        return life.life

    def order(self, case: Case, place: Path, phase: Phase, kill: Kill | None, **more: Any) -> Outcome:
        """Run one process."""
        options: dict[str, Any] = asdict(kill) if kill else {}
        env = case.env(self.world)
        return self.zygote.run(
            Order(
                cases=self._cases, case=case.name, place=str(place), phase=phase, env=env, **options, **more
            )
        )

    def _arm(self, case: Case, trouble: Trouble) -> None:
        if trouble.slow:
            self.world.engine.tokens_per_second = 40
        if trouble.hold and case.waits:
            self.world.local.control.hold()
        if trouble.fault is not None:
            case.break_connection(self.world, trouble.fault)


class _LifeRun:
    """Runs one life."""

    def __init__(
        self,
        harness: Harness,
        case: Case,
        place: Path,
        kills: Callable[[int, Phase], Kill | None],
        trouble: Trouble,
    ) -> None:
        self.life = Life(case.name, trouble)
        self._harness = harness
        self._case = case
        self._place = place
        self._kills = kills
        self._trouble = trouble
        self._unknown: set[tuple[str, float]] = set()
        self._end: Outcome | None = None
        self._restart: threading.Thread | None = None

    def run(self) -> None:
        """Retry until the task has ended."""
        while self.life.tries < MAXIMUM_TRIES:
            self.life.tries += 1
            outcome = self._try()
            if outcome.how == "returned":
                self._end = outcome
                return
            # The next try only knows what this one left behind.
            self._unknown |= self._case.unknown(self._place)
            if outcome.how == "raised" and self._stuck(outcome):
                return
        self.life.failed = f"did not end after {MAXIMUM_TRIES} tries"

    def _stuck(self, outcome: Outcome) -> bool:
        assert outcome.error is not None
        name, words = outcome.error
        if name == "JobLostError" and "on_unknown_submission='submit'" in words and not self.life.decisions:
            self.life.decisions += 1
            self._case.decided(self._place)
        elif outcome.fatal:
            self.life.failed = f"{name}: {words}"
            return True
        time.sleep(0.1)
        return False

    def judge(self) -> None:
        """Compare the paid work and the results with the expected ones."""
        life = self.life
        life.unknown = len(self._unknown)
        paid = self._case.paid(self._place, self._harness.world)
        names = [name for name, _ in self._unknown]
        if self._trouble.restart is not None:
            # A restarted platform computes rows again but bills them once, so the number of jobs counts.
            paid, names = self._case.started(paid, self._harness.world), ["job"] * len(names)
        allowed = Counter(names)
        for name, times in paid.items():
            again = max(0, times - 1)
            life.repeated += min(again, allowed[name])
            life.duplicates += max(0, again - allowed[name])
        if life.broken and self._case.client_retries and life.duplicates:
            life.duplicates, life.repeated = life.duplicates - 1, life.repeated + 1
        if self._end is not None:
            try:
                life.found = self._case.found(self._place, self._harness.world, self._end)
            except Exception as error:  # noqa: BLE001 - results that cannot be read are wrong, whatever the reason
                life.failed = f"the results cannot be read: {error!r}"

    def _try(self) -> Outcome:
        """Run one try, however often it defers."""
        outcome = self._phase("execute")
        while outcome.how == "deferred":
            deferral = outcome.value
            event = self._phase("wait", deferral=deferral)
            while event.how == "killed":  # another triggerer takes over
                event = self._phase("wait", deferral=deferral)
            if event.how != "yielded":
                return event
            outcome = self._phase("resume", deferral=deferral, event=event.value)
        return outcome

    def _phase(self, phase: Phase, **more: Any) -> Outcome:
        number = len(self.life.phases)
        if number == 1 and self._trouble.hold and self._case.waits:
            self.platform_is_back()
            self._harness.world.local.control.release()
        if self._trouble.restart == number:
            self.life.restarted = True
            self._restart = threading.Thread(target=self._restart_platform)
            self._restart.start()
        kill = self._kills(number, phase)
        outcome = self._harness.order(self._case, self._place, phase, kill, **more)
        if kill is not None:
            self.life.plan.append(f"process {number} ({phase}) at {kill}")
        self.life.kills += outcome.how == "killed"
        self.life.phases.append((phase, outcome))
        return outcome

    def _restart_platform(self) -> None:
        time.sleep(self._trouble.after)
        self._case.crash_platform(self._harness.world)
        time.sleep(0.3)
        self._case.restart_platform(self._harness.world)

    def platform_is_back(self) -> None:
        """Wait until a killed platform runs again."""
        if self._restart is not None:
            self._restart.join(60)
