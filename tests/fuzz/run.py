"""Attack a local platform for some time, and print what happened. ``make fuzz`` runs this.

A platform is started with limited memory, and attacked in three ways: by schemathesis, over each API's own description and over
its contract; by hostile bodies; and by hostile documents. Meanwhile its health is asked for, which shows whether it ever stands
still. The exit status is 1 if the platform died, stood still, answered 500, or left a job unended.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from tests.fuzz.bodies import hostile_bodies
from tests.fuzz.documents import hostile_documents
from tests.support.local_platform import ROOT, LocalPlatform
from tests.support.processes import unwind_on_sigterm
from tests.support.upstream import upstream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONTRACTS = ROOT / "tests" / "contract"
FREEZE_SECONDS = 2.0
"""Longest time that the health check may take."""
MEMORY = 6 << 30
"""Address space of the platform."""
SCHEMA_SHARE = 0.6
"""Share of the time for schemathesis; hostile bodies and documents have the rest."""
TIMEOUT = 60.0
JOB_TIMEOUT = 300.0
INTERNAL_ERRORS = frozenset({500, 502, 504, 505})
ENDED = {"COMPLETED", "FAILED", "PARTIALLY COMPLETED", "TIMED OUT", "CANCELLED"}


@dataclass
class Report:
    """What was tried, and what went wrong."""

    tried: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    longest_answer: float = 0.0
    peak_memory: int = 0

    def print(self) -> None:
        """Print the report."""
        for name, count in self.tried.items():
            print(f"{name:40} {count:>9,}")
        print(f"{'longest answer of /healthz':40} {self.longest_answer:>9.2f} s")
        print(f"{'peak memory':40} {self.peak_memory / 1e6:>9,.0f} MB")
        for problem in self.problems:
            print(f"PROBLEM: {problem}")
        print("No crash, no 500, no freeze." if not self.problems else "FAILED")


@dataclass(frozen=True)
class Target:
    """A description of an API that the platform speaks, the headers with the key, and the base URL."""

    name: str
    file: Path
    headers: dict[str, str]
    url: str

    def client(self) -> httpx.Client:
        """Return an HTTP client that sends the key. The caller must close it."""
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=TIMEOUT, trust_env=False)


class Watcher(threading.Thread):
    """Asks for the platform's health again and again, and measures its memory."""

    def __init__(self, platform: LocalPlatform, report: Report) -> None:
        super().__init__(daemon=True)
        self._platform = platform
        self._report = report
        self._done = threading.Event()

    def run(self) -> None:
        process = psutil.Process(self._platform.pid)
        with self._platform.client() as http:
            while not self._done.wait(0.1):
                began = time.monotonic()
                try:
                    http.get("/healthz", timeout=TIMEOUT).raise_for_status()
                    memory = process.memory_info().rss
                except (httpx.HTTPError, psutil.Error) as error:
                    self._report.problems.append(f"The platform does not answer: {error!r}")
                    return
                seconds = time.monotonic() - began
                self._report.longest_answer = max(self._report.longest_answer, seconds)
                self._report.peak_memory = max(self._report.peak_memory, memory)
                if seconds > FREEZE_SECONDS:
                    self._report.problems.append(f"The platform stood still for {seconds:.1f} s")

    def finish(self) -> None:
        """Stop watching."""
        self._done.set()
        self.join()


def main() -> int:
    """Parse the command line, attack, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=100, help="how long to attack")
    parser.add_argument("--seed", type=int, default=None, help="seed; by default the time")
    parser.add_argument("--engine", choices=("tiny", "real"), default="tiny", help="what generates text")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int(time.time())
    print(f"seed {seed}, {options.seconds} s, {options.engine} engine", flush=True)
    report = Report()
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        running(options.engine, Path(folder)) as platform,
    ):
        watcher = Watcher(platform, report)
        watcher.start()
        targets = list(schemas(platform, Path(folder)))
        for target in targets:
            seconds = int(options.seconds * SCHEMA_SHARE / len(targets))
            fuzz_schema(report, target, Path(folder, "events.ndjson"), max(seconds, 1), seed)
        rest = options.seconds * (1 - SCHEMA_SHARE) / 2
        apis = list({target.url: target for target in targets}.values())
        send_bodies(report, apis, Random(seed), time.monotonic() + rest)
        send_documents(report, platform, Random(seed), time.monotonic() + rest)
        watcher.finish()
        if "failed unexpectedly" in platform.log:
            report.problems.append(platform.log)
        if platform.stop() != 0:
            report.problems.append("The platform did not stop cleanly")
    report.print()
    return 1 if report.problems else 0


@contextlib.contextmanager
def running(engine: str, folder: Path) -> Iterator[LocalPlatform]:
    """Run a platform with limited memory."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(upstream()).url if engine == "tiny" else None
        platform = LocalPlatform(folder / "data", url)
        limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, limits[1]))  # the platform inherits it
        try:
            platform.start()
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
        try:
            yield platform
        finally:
            platform.stop()


# -- schemathesis


def schemas(platform: LocalPlatform, folder: Path) -> Iterator[Target]:
    """Each API's own description, and its contract."""
    apis = {
        "lamini": ("", {"Authorization": f"Bearer {platform.key}"}),
        "emissary": ("/emissary", {"X-API-Key": platform.key}),
    }
    for name, (prefix, headers) in apis.items():
        url = platform.url + prefix
        own = httpx.get(f"{url}/openapi.json", headers=headers, trust_env=False)
        if own.status_code != httpx.codes.OK:
            raise SystemExit(f"{url}/openapi.json answers {own.status_code}")
        file = folder / f"{name}-own.json"
        file.write_bytes(own.content)
        yield Target(f"{name}, own description", file, headers, url)
        yield Target(f"{name}, contract", CONTRACTS / f"{name}.json", headers, url)


def fuzz_schema(report: Report, target: Target, events: Path, seconds: int, seed: int) -> None:
    """Let schemathesis attack one API.

    :param events: file for what it reports, hundreds of megabytes in an hour; it is replaced
    """
    command = [
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *(
            "run",
            str(target.file),
            "--url",
            target.url,
            "--max-time",
            str(seconds),
            "--seed",
            str(seed),
            "--no-color",
        ),
        *("--checks", "no_internal_error,no_empty_error", "--request-timeout", str(TIMEOUT)),
        *("--suppress-health-check", "all", "--continue-on-failure", "--warnings", "off"),
        *("--report", "ndjson", "--report-ndjson-path", str(events)),
        *(part for header in target.headers.items() for part in ("--header", ": ".join(header))),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks"}
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=10 * seconds + 300,
        check=False,
    )
    requests = sum(line.count('"status_code":') for line in events.open(encoding="utf-8"))
    report.tried[f"requests, {target.name}"] += requests
    if result.returncode or not requests:
        report.problems.append(
            f"schemathesis over {target.name}:\n{result.stdout[-6000:]}{result.stderr[-2000:]}"
        )
    print(f"{target.name}: {requests:,} requests", flush=True)


# -- bodies and documents


def send_bodies(report: Report, targets: Sequence[Target], random: Random, deadline: float) -> None:
    """Send hostile bodies to every endpoint that takes one."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(target.client()) for target in targets]
        paths = [(http, path) for http in clients for path in posted_paths(http)]
        while time.monotonic() < deadline:
            http, path = random.choice(paths)
            for name, headers, body in hostile_bodies(random):
                try:
                    response = http.post(path, content=body, headers=headers)
                except httpx.TransportError as error:
                    report.problems.append(f"{path} with {name}: {error!r}")
                    return
                report.tried["bad bodies"] += 1
                if response.status_code in INTERNAL_ERRORS:
                    report.problems.append(f"{path} with {name}: {response.status_code} {response.text}")


def posted_paths(http: httpx.Client) -> list[str]:
    """The paths of an API that take bodies, below a project that exists where there are projects."""
    described = http.get("/openapi.json").json()["paths"]
    project = http.post("/v1/projects").json()["id"] if "/v1/projects" in described else ""
    return [
        re.sub(r"\{[^}]*\}", "7", path.replace("{project_id}", project))
        for path, methods in described.items()
        if "post" in methods
    ]


def send_documents(report: Report, platform: LocalPlatform, random: Random, deadline: float) -> None:
    """Build indexes of hostile documents, and wait until each job has ended."""
    jobs: list[str] = []
    with platform.client() as http:
        while time.monotonic() < deadline:
            files = [("files", document) for document in hostile_documents(random)]
            response = http.post(
                "/alpha/memory-rag/train", data={"model_name": platform.models[0]}, files=files
            )
            report.tried["bad documents"] += len(files)
            if response.status_code != httpx.codes.OK:
                report.problems.append(f"documents: {response.status_code} {response.text}")
                return
            jobs.append(response.json()["job_id"])
            wait_for(report, http, jobs[-1])


def wait_for(report: Report, http: httpx.Client, job: str) -> None:
    """Wait until a job has ended."""
    deadline = time.monotonic() + JOB_TIMEOUT
    while time.monotonic() < deadline:
        status: dict[str, Any] = http.get("/alpha/memory-rag/status", params={"job_id": job}).json()
        if status["status"] in ENDED:
            if "unexpectedly" in json.dumps(status):
                report.problems.append(f"documents: {status}")
            return
        time.sleep(0.05)
    report.problems.append(f"Job {job} has not ended")


if __name__ == "__main__":
    unwind_on_sigterm()
    sys.exit(main())
