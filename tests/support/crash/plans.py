"""Which crashes a task is led through: at each named step, in a first try and in one that takes it up, and at random."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.crash.life import Kill, Trouble

if TYPE_CHECKING:
    from random import Random

    from tests.support.crash.case import Case
    from tests.support.crash.life import Harness, Life
    from tests.support.crash.zygote import Phase


NAMED = Trouble(hold=True)
"""In lives with a crash at a named step, no job ends before it is waited for: so steps are passed in the same order."""


@dataclass(slots=True)
class Survey:
    """What a task passes when nothing, or only its first try, is killed.

    :param case: the kind of task
    :param points: kills, each with the step's name; several for a step that is passed in several processes
    :param steps: the names of steps in each phase; ``again`` is the beginning of a second try
    :param calls: the most functions that a process of each phase has called
    :param processes: how many processes a life without a crash has
    """

    case: Case
    points: list[tuple[str, dict[int, Kill]]] = field(default_factory=list)
    steps: dict[str, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    calls: dict[Phase, int] = field(default_factory=lambda: defaultdict(int))
    processes: int = 1

    @property
    def once(self) -> list[tuple[str, dict[int, Kill]]]:
        """Each step of each phase at its first passing."""
        return list(dict(reversed(self.points)).items())[::-1]

    @property
    def names(self) -> set[str]:
        """All steps."""
        return {name for name, _ in self.points}


def survey(harness: Harness, case: Case) -> tuple[Survey, list[Life]]:
    """Lead a task through a life without a crash, and through one with a crash at the end of its first process.

    :returns: the steps, and these lives
    """
    found = Survey(case)
    quiet = harness.live(case, {}, NAMED)
    found.processes = len(quiet.phases)
    last = Kill(step=(quiet.phases[0][1].steps[-1], 0))
    again = harness.live(case, {0: last}, NAMED)
    for number, (phase, outcome) in enumerate(quiet.phases):
        _learn(found, phase, number, outcome.steps, {})
        found.calls[phase] = max(found.calls[phase], outcome.calls)
    if len(again.phases) > 1:
        _learn(found, "again", 1, again.phases[1][1].steps, {0: last})
    return found, [quiet, again]


def _learn(found: Survey, phase: str, number: int, steps: list[str], before: dict[int, Kill]) -> None:
    passed: dict[str, int] = defaultdict(int)
    for step in steps:
        point = (step, passed[step])
        passed[step] += 1
        found.steps[phase].append(point)
        found.points.append((f"{phase}: {step}", {**before, number: Kill(step=point)}))


def random_life(
    harness: Harness, known: Survey, random: Random, *, fault: str | None = None, restart: bool = False
) -> Life:
    """Lead a task through crashes at random: at steps, at any function call, and from outside at any time.

    :param random: seeded
    :param fault: the connection of a submission breaks ``before`` or ``after`` the work; else it does so now and then
    :param restart: the platform is killed and started again; else that happens now and then
    """
    left = random.randint(1, 4)

    def kill(_: int, phase: Phase) -> Kill | None:
        nonlocal left
        if not left or random.random() < 0.5:
            return None
        left -= 1
        how = random.choice(("step", "call", "call", "seconds"))
        if how == "step" and known.steps[phase]:
            return Kill(step=random.choice(known.steps[phase]))
        if how == "call" and known.calls[phase]:
            return Kill(call=random.randint(1, known.calls[phase]))
        return Kill(seconds=random.uniform(0.005, 0.3))

    if fault is None and not restart:
        fault = random.choice(("before", "after")) if random.random() < 0.25 else None
        restart = random.random() < 0.1
    trouble = Trouble(
        fault,
        random.randrange(min(known.processes, 3)) if restart else None,  # each life has so many
        random.uniform(0, 0.2),
        slow=random.random() < 0.5,
        hold=random.random() < 0.5,
    )
    return harness.live(known.case, kill, trouble)
