"""The life of a task: tries, deferrals and crashes, until it has ended; and what that has cost."""

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

MOST_TRIES = 15


@dataclass(frozen=True, slots=True)
class Kill:
    """When a process is killed; see `zygote.Order`."""

    step: tuple[str, int] | None = None
    call: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        if self.step:
            return f"{self.step[0]} ({self.step[1]})"
        return f"call {self.call}" if self.call else f"{self.seconds} s"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong besides.

    :param fault: the connection of the first starting request breaks ``before`` or ``after`` the work was done
    :param restart: in which process's time the platform is killed and started again
    :param after: how long after the beginning of that process, in seconds
    :param slow: whether jobs take a while, so that tries meet them running
    :param hold: whether jobs make no step before the first process has ended
    """

    fault: str | None = None
    restart: int | None = None
    after: float = 0.0
    slow: bool = False
    hold: bool = False


@dataclass(slots=True)
class Life:
    """What has happened.

    :param trouble: what went wrong besides
    :param kills: how often a process was killed
    :param tries: how often Airflow began a try
    :param asked: how often a person had to decide
    :param repeated: paid work that was done again where the documentation says so
    :param duplicates: paid work that was done again without that
    :param broken: whether the connection of a submission has broken
    :param restarted: whether the platform was killed and started again
    :param found: what lies on storage
    :param plan: what was to be killed, and where
    :param phases: each process: what it did, and how that ended
    """

    case: str
    trouble: Trouble
    kills: int = 0
    tries: int = 0
    asked: int = 0
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
        """All that must not be, in words."""
        wrong = [self.failed] if self.failed else []
        if self.duplicates:
            wrong.append(f"{self.duplicates} paid for twice")
        if self.found is not None:
            wrong += self.found.wrong
            wrong += [f"{self.found.lost} lost"] if self.found.lost else []
            wrong += [f"{self.found.doubled} doubled"] if self.found.doubled else []
        return wrong

    def story(self) -> str:
        """What has happened, for whoever looks into a failure."""
        lines = [
            f"  {phase}: {outcome.how} {outcome.error or ''}, after {outcome.steps[-1] if outcome.steps else '?'}"
            for phase, outcome in self.phases
        ]
        head = f"{self.case}: {'; '.join(self.wrong) or 'all is well'} (to be killed: {'; '.join(self.plan)}; {self.trouble})"
        return "\n".join([head, *lines])


class Harness:
    """Leads tasks through their lives.

    :param zygote: runs processes
    :param world: the platforms
    :param folder: for the lives
    :param cases: the module that has the cases
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
        """Lead one task to its end.

        :param case: the kind of task
        :param kills: by the number of the process, when it is killed; or what says so of each
        :param trouble: what goes wrong besides
        """
        self._lives += 1
        place = self._folder / f"life-{self._lives}"
        place.mkdir(parents=True)
        with case.platform(self.world):
            case.prepare(place, self.world)
            self._arm(case, trouble)
            life = _Living(
                self, case, place, kills if callable(kills) else lambda number, _: kills.get(number), trouble
            )
            life.lead()
            life.platform_is_back()
            life.life.broken = trouble.fault is not None and case.has_broken(self.world)
            self.world.local.control.clear_faults()
            self.world.engine.tokens_per_second = 100_000
            self.world.settle()
            life.judge()
        return life.life

    def order(self, case: Case, place: Path, phase: Phase, kill: Kill | None, **more: Any) -> Outcome:
        """Run one process."""
        told: dict[str, Any] = asdict(kill) if kill else {}
        env = case.env(self.world)
        return self.zygote.run(
            Order(cases=self._cases, case=case.name, place=str(place), phase=phase, env=env, **told, **more)
        )

    def _arm(self, case: Case, trouble: Trouble) -> None:
        if trouble.slow:
            self.world.engine.tokens_per_second = 40
        if trouble.hold and case.waits:
            self.world.local.control.hold()
        if trouble.fault is not None:
            case.break_connection(self.world, trouble.fault)


class _Living:
    """One life while it lasts."""

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

    def lead(self) -> None:
        """Try until the task has ended."""
        while self.life.tries < MOST_TRIES:
            self.life.tries += 1
            outcome = self._try()
            if outcome.how == "returned":
                self._end = outcome
                return
            # What a try leaves behind is what the next one has to go by.
            self._unknown |= self._case.unknown(self._place)
            if outcome.how == "raised" and self._stuck(outcome):
                return
        self.life.failed = f"not ended after {MOST_TRIES} tries"

    def _stuck(self, outcome: Outcome) -> bool:
        assert outcome.error is not None
        name, words = outcome.error
        if name == "JobLostError" and "on_unknown_submission='submit'" in words and not self.life.asked:
            self.life.asked += 1
            self._case.decided(self._place)
        elif outcome.fatal:
            self.life.failed = f"{name}: {words}"
            return True
        time.sleep(0.1)
        return False

    def judge(self) -> None:
        """See what it has cost, and what is there."""
        life = self.life
        life.unknown = len(self._unknown)
        paid = self._case.paid(self._place, self._harness.world)
        names = [name for name, _ in self._unknown]
        if self._trouble.restart is not None:
            # A platform that is started again computes rows anew, and bills them once: what counts is the number of jobs.
            paid, names = self._case.started(paid, self._harness.world), ["job"] * len(names)
        allowed = Counter(names)
        for name, times in paid.items():
            again = max(0, times - 1)
            life.repeated += min(again, allowed[name])
            life.duplicates += max(0, again - allowed[name])
        if life.broken and self._case.asks_again and life.duplicates:
            life.duplicates, life.repeated = life.duplicates - 1, life.repeated + 1
        if self._end is not None:
            try:
                life.found = self._case.found(self._place, self._harness.world, self._end)
            except Exception as error:  # noqa: BLE001 - what cannot be read is wrong, whatever the reason
                life.failed = f"the results cannot be read: {error!r}"

    def _try(self) -> Outcome:
        """Run one try, however often it is deferred."""
        outcome = self._phase("execute")
        while outcome.how == "deferred":
            kept = outcome.value
            event = self._phase("wait", deferral=kept)
            while event.how == "killed":  # another triggerer takes the trigger over
                event = self._phase("wait", deferral=kept)
            if event.how != "yielded":
                return event
            outcome = self._phase("wake", deferral=kept, event=event.value)
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
        """Wait until a platform that was killed answers again."""
        if self._restart is not None:
            self._restart.join(60)
