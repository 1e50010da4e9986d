"""Kill tasks at named steps and at random, and print a table of the damage. ``make faults`` runs this.

Each operator that submits something runs in processes of its own, as in Airflow: one for the start of a try, one for the trigger,
and one for each resume. It runs against the local platform, except that tuning and downloads use a scripted one. A process is
killed by SIGKILL, and then the task is retried until it ends. The requests to the platform and the files on storage are compared
with the expected ones. The exit status is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import cycle, zip_longest
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from tests.support.processes import unwind_on_sigterm

if TYPE_CHECKING:
    from tests.support.crash.case import Case
    from tests.support.crash.life import Harness, Life
    from tests.support.crash.plans import Survey

NAMED_SHARE = 0.7
"""Maximum share of the kills that happen at named steps; the rest happens at random."""
TROUBLES: tuple[dict[str, Any], ...] = ({"fault": "before"}, {"fault": "after"}, {"restart": True})
"""Faults that each kind of task is tested with once, together with random crashes."""


def main() -> int:
    """Parse the command line, run everything, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="minimum number of kills")
    parser.add_argument(
        "--seed", type=int, default=None, help="seed of the random crashes; by default the time"
    )
    parser.add_argument("--only", default="", help="regular expression that selects kinds of tasks")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int(time.time())
    started = time.time()
    print(f"seed {seed}, at least {options.kills} kills", flush=True)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, ExitStack() as stack:
        home = Path(folder)
        os.environ.update(
            AIRFLOW_HOME=str(home / "airflow"),
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            AIRFLOW__AIRFLOW_PROVIDER_LAMINI__DEFER_AFTER="0",
            AIRFLOW__AIRFLOW_PROVIDER_LAMINI__MIN_TRIGGER_SECONDS="0",
        )
        from tests.support.crash.case import world
        from tests.support.crash.cases import CASES
        from tests.support.crash.life import Harness
        from tests.support.crash.zygote import Zygote

        zygote = Zygote("tests.support.crash.cases", home / "zygote.log")
        stack.callback(zygote.close)
        harness = Harness(zygote, stack.enter_context(world(home / "platform")), home / "lives")
        cases = [case for name, case in CASES.items() if re.search(options.only, name)]
        report = Report(harness, cases, seed)
        try:
            report.survey()
            report.kill_with_faults()
            report.kill_at_steps(int(options.kills * NAMED_SHARE))
            report.kill_at_random(options.kills)
        finally:  # an interrupted run prints what it has found so far
            print(report.table(), flush=True)
            minutes = (time.time() - started) / 60
            print(f"{versions()}, {time.strftime('%d %B %Y')}, {minutes:.0f} min", flush=True)
        return int(report.wrong)


class Report:
    """Runs tasks that are killed, and collects the outcomes.

    :param harness: runs the tasks
    :param cases: the kinds of tasks
    :param seed: seed of all random choices
    """

    def __init__(self, harness: Harness, cases: list[Case], seed: int) -> None:
        self._harness = harness
        self._cases = cases
        self._random = {case.name: Random(f"{seed} {case.name}") for case in cases}
        self._surveys: dict[str, Survey] = {}
        self._lives: dict[str, list[Life]] = {case.name: [] for case in cases}
        self._killed_at: dict[str, set[str]] = {case.name: set() for case in cases}

    @property
    def kills(self) -> int:
        """The number of processes that were killed."""
        return sum(life.kills for lives in self._lives.values() for life in lives)

    @property
    def wrong(self) -> bool:
        """Whether any task had a wrong outcome."""
        return any(life.wrong for lives in self._lives.values() for life in lives)

    def table(self) -> str:
        """Return the figures so far as a Markdown table."""
        from tests.support.crash.table import line, markdown

        return markdown(line(name, len(self._killed_at[name]), self._lives[name]) for name in self._killed_at)

    def survey(self) -> None:
        """Find the named steps of each kind of task."""
        from tests.support.crash.plans import survey

        for case in self._cases:
            self._surveys[case.name], lives = survey(self._harness, case)
            for life in lives:
                self._add(life)
            print(f"{case.name}: {len(self._surveys[case.name].names)} steps", flush=True)

    def kill_at_steps(self, maximum: int) -> None:
        """Kill at all required steps, and at the same share of the other steps of each kind, chosen at random.

        :param maximum: number of kills of all kinds together, unless more steps are required
        """
        from tests.support.crash.cases import STEPS
        from tests.support.crash.plans import NAMED

        points = {case.name: self._surveys[case.name].once for case in self._cases}
        required = {
            name: [p for p in all_points if p[0] in STEPS[name]] for name, all_points in points.items()
        }
        others = {
            name: [p for p in all_points if p[0] not in STEPS[name]] for name, all_points in points.items()
        }
        rest = maximum - sum(map(len, required.values()))
        share = min(1.0, max(0.0, rest / max(1, sum(map(len, others.values())))))
        chosen = [
            [
                (case, *point)
                for point in [
                    *required[case.name],
                    *self._random[case.name].sample(others[case.name], int(share * len(others[case.name]))),
                ]
            ]
            for case in self._cases
        ]
        for kills in zip_longest(*chosen):
            for case, step, kill in filter(None, kills):
                life = self._harness.live(case, kill, NAMED)
                self._add(life)
                if life.kills == len(kill):
                    self._killed_at[case.name].add(step)

    def kill_with_faults(self) -> None:
        """Kill each kind of task at random, once with each fault."""
        for trouble in TROUBLES:
            for case in self._cases:
                self._live_at_random(case, **trouble)

    def kill_at_random(self, minimum: int) -> None:
        """Kill at random, with faults at random.

        :param minimum: total number of kills at which to stop
        """
        for case in cycle(self._cases):
            if self.kills >= minimum:
                return
            self._live_at_random(case)

    def _live_at_random(self, case: Case, **trouble: Any) -> None:
        from tests.support.crash.plans import random_life

        self._add(random_life(self._harness, self._surveys[case.name], self._random[case.name], **trouble))

    def _add(self, life: Life) -> None:
        self._lives[life.case].append(life)
        if life.wrong:
            print(f"WRONG {life.story()}", flush=True)


def versions() -> str:
    """Return the versions of Airflow and Python."""
    from airflow import __version__ as airflow_version

    return f"Airflow {airflow_version}, Python {platform.python_version()}"


if __name__ == "__main__":
    unwind_on_sigterm()
    sys.exit(main())
