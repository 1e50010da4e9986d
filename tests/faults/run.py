"""Kill tasks at every named step and at random, and print what that has cost. ``make faults`` runs it.

Every operator that submits something runs in processes of its own against the local platform (tuning and downloads: against a
platform with a script), as Airflow runs it: a process for the beginning of a try, one for the trigger, one for each waking.
Each is killed by SIGKILL somewhere, then the task is tried again until it ends. What the platform was asked to do, and what lies
on storage, is compared with what must be there. It ends with 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import cycle, zip_longest
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.crash.case import Case
    from tests.support.crash.life import Harness, Life
    from tests.support.crash.plans import Survey


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
        return report(harness, cases, given.kills, seed)


def report(harness: Harness, cases: list[Case], kills: int, seed: int) -> int:
    """Lead lives until there are enough kills, and print what they came to.

    :returns: the exit status
    """
    from tests.support.crash.plans import NAMED, random_life, survey
    from tests.support.crash.table import line, markdown

    known: dict[str, Survey] = {}
    lives: dict[str, list[Life]] = {case.name: [] for case in cases}

    def note(life: Life) -> None:
        lives[life.case].append(life)
        if life.wrong:
            print(f"WRONG {life.story()}", flush=True)

    try:
        for case in cases:
            known[case.name], first = survey(harness, case)
            for life in first:
                note(life)
            print(f"{case.name}: {len(known[case.name].names)} steps", flush=True)
        for several in zip_longest(*([(case, kill) for _, kill in known[case.name].once] for case in cases)):
            for case, kill in filter(None, several):
                note(harness.live(case, kill, NAMED))
        chance = {case.name: Random(f"{seed} {case.name}") for case in cases}
        for case in cycle(cases):
            if sum(life.kills for of_case in lives.values() for life in of_case) >= kills:
                break
            note(random_life(harness, known[case.name], chance[case.name]))
    finally:  # one that is interrupted tells what it has found so far
        print(markdown(line(name, len(known[name].names), lives[name]) for name in known), flush=True)
    return int(any(life.wrong for several in lives.values() for life in several))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # and leave no platform behind
    sys.exit(main())
