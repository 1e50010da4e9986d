"""Faults of an object store at every request of a run, and their figures: ``python -m tests.support.stores.faults``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.support.processes import unwind_on_sigterm
from tests.support.stores.proxy import RESTART, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.stores.store_runs import StoreRun

FAULTS = {
    "403 once": Fault("status", status=403),
    "404 once": Fault("status", status=404),
    "a burst of 503": Fault("status", status=503, times=3),
    "a slow response": Fault("slow", seconds=0.5),
    "dropped before": Fault("drop before"),
    "dropped after": Fault("drop after"),
    "a restart": Fault("restart"),
}
"""A restart only happens to stores that keep their objects."""


def at(fault: Fault, number: int) -> Fault:
    """The same fault at another request.

    :param fault: the fault
    :param number: number of the request
    """
    return Fault(fault.do, number, fault.times, fault.status, fault.seconds)


def every(requests: int, random: Random, *, durable: bool) -> Iterator[tuple[str, Fault]]:
    """All faults at all requests of a run, in random order.

    :param requests: how many requests the run takes
    :param durable: whether the store keeps its objects when it is restarted
    """
    faults = [(name, fault) for name, fault in FAULTS.items() if durable or fault.do != RESTART]
    cases = [(name, at(fault, number)) for name, fault in faults for number in range(requests)]
    random.shuffle(cases)
    yield from cases


def main() -> int:
    """Run faults on each store in turn; print a table; return 1 if anything was sent twice or lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--faults", type=int, default=500, help="number of faults, over all stores")
    parser.add_argument("--seed", type=int, default=None, help="seed of the order; by default the time")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int(time.time())
    print(f"seed {seed}, {options.faults} faults", flush=True)
    from tests.support.stores.emulators import EMULATORS

    usable = [emulator for emulator in EMULATORS.values() if not emulator.missing]
    wrong = False
    with tempfile.TemporaryDirectory(prefix="stores-") as folder:
        for emulator in usable:
            wrong |= _on_store(emulator.name, Path(folder), options.faults // len(usable), seed)
    return int(wrong)


def _on_store(name: str, home: Path, faults: int, seed: int) -> bool:
    from tests.support.races import batch_platform
    from tests.support.stores.emulators import EMULATORS, quiet_environment, running
    from tests.support.stores.proxy import store_proxy
    from tests.support.stores.store_runs import StoreRun

    emulator, started_at = EMULATORS[name], time.monotonic()
    with ExitStack() as stack:
        store = stack.enter_context(running(emulator, home / emulator.conn_id))
        proxy = stack.enter_context(store_proxy(store))
        run = StoreRun(emulator, proxy, stack.enter_context(batch_platform()), "faults")
        os.environ |= quiet_environment() | run.environment()
        os.environ |= {
            "AIRFLOW_HOME": str(home / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL",
            "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__DEFER_AFTER": "0",
            "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__MIN_TRIGGER_SECONDS": "0",
        }
        totals = _run(run, faults, Random(seed))
    print(
        f"| {name} | {totals['faults']} | {totals['tries']} | {totals['doubled']} | {totals['lost']} | {totals['wrong']} |"
        f" {time.monotonic() - started_at:.0f} s |",
        flush=True,
    )
    return bool(totals["doubled"] or totals["lost"] or totals["wrong"])


def _run(run: StoreRun, faults: int, random: Random) -> Counter[str]:
    totals: Counter[str] = Counter()
    durable = run.emulator.durable
    cases = {way: every(run.requests(deferrable=way), random, durable=durable) for way in (True, False)}
    while totals["faults"] < faults:
        way = bool(totals["faults"] % 2)
        found = next(cases[way], None)
        if found is None:
            break
        description, fault = found
        damage = run.live(fault, deferrable=way)
        totals.update(faults=1, tries=damage.tries, doubled=damage.doubled, lost=damage.lost)
        if damage:
            totals["wrong"] += bool(damage.wrong)
            print(f"WRONG {description} at request {fault.at}, deferrable={way}: {damage}", flush=True)
    return totals


if __name__ == "__main__":
    unwind_on_sigterm()
    sys.exit(main())
