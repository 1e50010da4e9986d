"""Kill tasks at every named step and at random, and print what that has cost. ``make faults`` runs it.

Every operator that submits something runs in processes of its own against the local platform (tuning and downloads: against a
platform with a script), as Airflow runs it: a process for the beginning of a try, one for the trigger, one for each waking.
Each is killed by SIGKILL somewhere, then the task is tried again until it ends. What the platform was asked to do, and what lies
on storage, is compared with what must be there. It ends with 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import cycle, zip_longest
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.crash.case import Case
    from tests.support.crash.life import Harness, Life
    from tests.support.crash.plans import InputSummary

NAMED_SHARE = 0.7
"""How much of all kills is for named steps, at the most; the rest is for crashes at random."""
TROUBLES: tuple[dict[str, Any], ...] = ({"fault": "before"}, {"fault": "after"}, {"restart": True})
"""What every kind of task meets besides crashes at random, before it is left to chance."""


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="kill at least so many processes")
    parser.add_argument(
        "--seed", type=int, default=None, help="of the random crashes; by default another each time"
    )
    parser.add_argument("--only", default="", help="only operators whose name fits this regular expression")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else int(time.time())
    began = time.time()
    print(f"seed {seed}, at least {given.kills} kills", flush=True)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, ExitStack() as stack:
        home = Path(folder)
        os.environ.update(AIRFLOW_HOME=str(home / "airflow"), AIRFLOW__CORE__LOAD_EXAMPLES="False")
        from tests.support.crash.case import world
        from tests.support.crash.cases import CASES
        from tests.support.crash.life import Harness
        from tests.support.crash.zygote import Zygote

        zygote = Zygote("tests.support.crash.cases", home / "zygote.log")
        stack.callback(zygote.close)
        harness = Harness(zygote, stack.enter_context(world(home / "platform")), home / "lives")
        cases = [case for name, case in CASES.items() if re.search(given.only, name)]
        report = Report(harness, cases, seed)
        try:
            report.validate_input()
            report.in_trouble()
            report.at_steps(int(given.kills * NAMED_SHARE))
            report.at_random(given.kills)
        finally:  # one that is interrupted tells what it has found so far
            print(report.table(), flush=True)
            print(
                f"{versions()}, {time.strftime('%d %B %Y')}, {(time.time() - began) / 60:.0f} min", flush=True
            )
        return int(report.wrong)


class Report:
    """Leads lives, and notes what they came to.

    :param harness: leads them
    :param cases: the kinds of tasks
    :param seed: of all that is left to chance
    """

    def __init__(self, harness: Harness, cases: list[Case], seed: int) -> None:
        self._harness = harness
        self._cases = cases
        self._chance = {case.name: Random(f"{seed} {case.name}") for case in cases}
        self._known: dict[str, InputSummary] = {}
        self._lives: dict[str, list[Life]] = {case.name: [] for case in cases}
        self._killed_at: dict[str, set[str]] = {case.name: set() for case in cases}

    @property
    def kills(self) -> int:
        """How many processes were killed so far."""
        return sum(life.kills for lives in self._lives.values() for life in lives)

    @property
    def wrong(self) -> bool:
        """Whether anything was not as it must be."""
        return any(life.wrong for lives in self._lives.values() for life in lives)

    def table(self) -> str:
        """The figures so far."""
        from tests.support.crash.table import line, markdown

        return markdown(line(name, len(self._killed_at[name]), self._lives[name]) for name in self._killed_at)

    def validate_input(self) -> None:
        """Learn the steps of each kind."""
        from tests.support.crash.plans import validate_input

        for case in self._cases:
            self._known[case.name], first = validate_input(self._harness, case)
            for life in first:
                self._note(life)
            print(f"{case.name}: {len(self._known[case.name].names)} steps", flush=True)

    def at_steps(self, most: int) -> None:
        """Kill at all named steps, or of each kind of task at the same part of them, chosen by chance.

        :param most: at how many at the most, over all kinds
        """
        from tests.support.crash.plans import NAMED

        part = min(1.0, most / sum(len(known.once) for known in self._known.values()))
        chosen = [
            [
                (case, *point)
                for point in self._chance[case.name].sample(every, max(1, int(part * len(every))))
            ]
            for case in self._cases
            for every in [self._known[case.name].once]
        ]
        for several in zip_longest(*chosen):
            for case, step, kill in filter(None, several):
                life = self._harness.live(case, kill, NAMED)
                self._note(life)
                if life.kills == len(kill):
                    self._killed_at[case.name].add(step)

    def in_trouble(self) -> None:
        """Kill each kind of task at random in each trouble."""
        for trouble in TROUBLES:
            for case in self._cases:
                self._random(case, **trouble)

    def at_random(self, least: int) -> None:
        """Kill at random, and trouble as chance has it.

        :param least: until there are so many kills in all
        """
        for case in cycle(self._cases):
            if self.kills >= least:
                return
            self._random(case)

    def _random(self, case: Case, **trouble: Any) -> None:
        from tests.support.crash.plans import random_life

        self._note(random_life(self._harness, self._known[case.name], self._chance[case.name], **trouble))

    def _note(self, life: Life) -> None:
        self._lives[life.case].append(life)
        if life.wrong:
            print(f"WRONG {life.story()}", flush=True)


def versions() -> str:
    """What it ran with."""
    from airflow import __version__ as airflow_version

    return f"Airflow {airflow_version}, Python {platform.python_version()}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # and leave no platform behind
    sys.exit(main())
