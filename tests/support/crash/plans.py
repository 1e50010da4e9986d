"""The crashes of a task: at each named step, in a first try and in a retry, and at random."""

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
"""For lives with a kill at a named step. No job ends before the task waits for it, so the order of steps is fixed."""


@dataclass(slots=True)
class Survey:
    """The named steps of a task, found in a life without kills and in one whose first process is killed.

    :param case: the kind of task
    :param points: pairs of a step and the kills for it; several for a step that occurs in several processes
    :param steps: the steps of each phase; ``again`` is the start of a second try
    :param calls: maximum number of function calls of a process of each phase
    :param processes: number of processes of a life without kills
    """

    case: Case
    points: list[tuple[str, dict[int, Kill]]] = field(default_factory=list)
    steps: dict[str, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    calls: dict[Phase, int] = field(default_factory=lambda: defaultdict(int))
    processes: int = 1

    @property
    def once(self) -> list[tuple[str, dict[int, Kill]]]:
        """Each step of each phase at its first occurrence."""
        return list(dict(reversed(self.points)).items())[::-1]

    @property
    def names(self) -> set[str]:
        """The names of all steps."""
        return {name for name, _ in self.points}


def survey(harness: Harness, case: Case) -> tuple[Survey, list[Life]]:
    """Run a task without kills, and once with a kill at the end of its first process.

    :return: the steps, and the two lives
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
    """Run a task with random kills: at steps, at any function call, and from outside at any time.

    :param random: seeded source of all choices
    :param fault: ``before`` or ``after`` breaks the connection of a submission; ``None`` breaks some at random
    :param restart: whether to restart the platform; if not, it is restarted at random
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
        random.randrange(min(known.processes, 3)) if restart else None,  # every life has this many
        random.uniform(0, 0.2),
        slow=random.random() < 0.5,
        hold=random.random() < 0.5,
    )
    return harness.live(known.case, kill, trouble)
