"""Every fault of a platform in every phase of every kind of task: how the task ends, and how many jobs were submitted.

The table is the specification. The cases of one kind run in threads, because they mostly wait.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from unittest.mock import patch

import pytest

from airflow_provider_lamini.api import errors
from airflow_provider_lamini.exceptions import JobLostError, TooManyFailedRowsError, WaitTimeoutError
from tests.support.certificates import Authority
from tests.support.fault_ways import DIRECT, WAYS, Case, maker, meet
from tests.support.faulty_platform import Fault

HTML = {"Content-Type": "text/html"}
PAGE = "<html><body>Down for maintenance</body></html>"
AT_ONCE = 48


@dataclass(frozen=True)
class Outcome:
    """How a try ends.

    :param error: the error that it raises; ``None`` if it succeeds
    :param says: regular expression that the message matches
    :param next_error: the error that the next try raises, when the platform works again
    :param more: number of jobs beyond those that there would be without the fault
    """

    error: type[Exception] | None = None
    says: str = ""
    next_error: type[Exception] | None = None
    more: int = 0


WELL = Outcome()
UNKNOWN = "it may run and bill: look there before submitting again"
NOTHING = "Nothing was started"


def unknown(error):
    """The job may have been started."""
    return Outcome(error, UNKNOWN)


def refused(error):
    """The job was not started."""
    return Outcome(error, NOTHING)


RUNS_ON = "may still run and bill; (a|the) retry attaches"


def out_of_time(why):
    """The task reached its timeout, the job continues, and the message says why the last poll failed."""
    return Outcome(
        WaitTimeoutError, f"{RUNS_ON} to (it|them). The last (look at a job has|poll) failed: {why}"
    )


BUSY, AWAY, SLOW, LOADING = (
    errors.RateLimitedError,
    errors.UnavailableError,
    errors.PlatformTimeoutError,
    errors.ModelLoadingError,
)
WRONG, ELSEWHERE, KEY = errors.ProtocolError, errors.NotThePlatformError, errors.AuthenticationError
GONE, SPOILED = (
    errors.JobNotFoundError,
    Outcome(TooManyFailedRowsError, "3 of 3 rows failed", TooManyFailedRowsError),
)
SOON = {"Retry-After": "0.5"}


def another(**fields):
    """Change fields of the correct response."""
    return lambda answer, _: answer | fields


def fewer(answer, _):
    """Return one row too few."""
    return {name: rows[:-1] if isinstance(rows, list) else [] for name, rows in answer.items()}


def more(answer, _):
    """Return one row too many."""
    return {
        name: [*rows, rows[-1]] if isinstance(rows, list) else [rows] * 2 for name, rows in answer.items()
    }


@dataclass(frozen=True)
class Line:
    """A line of the table.

    :param fault: the fault
    :param submit: outcome if it happens when the job is submitted
    :param wait: outcome while the task waits, in the trigger or in the worker
    :param read: outcome when the result is fetched, and for direct requests
    :param direct: outcome for direct requests, if it differs
    :param read_timeout: read timeout of the connection in seconds
    """

    name: str
    fault: Fault
    submit: Outcome
    wait: Outcome = WELL
    read: Outcome = WELL
    direct: Outcome | None = None
    read_timeout: float = 10.0


def twice(**how):
    """Affect two responses."""
    return Fault(times=2, **how)


def ever(**how):
    """Affect all responses."""
    return Fault(times=None, **how)


ANSWERED, CONTENT, CONNECTION = "The platform answered", "The response", "The connection"
LOGIN = {"Location": "https://login.example.test/?next=x"}
NO_JSON = '{"id": b1, "job_id": }'

# With a status, the request is not processed unless `after` is set; a fault that only changes the body processes it.
TABLE = [
    # -- the platform is unavailable
    Line("503 twice", twice(status=503), unknown(AWAY)),
    Line("503 for long", ever(status=503), unknown(AWAY), out_of_time(ANSWERED), Outcome(AWAY, "503")),
    Line("500 twice", twice(status=500, body='{"detail": ""}'), unknown(AWAY)),
    Line("500 after the work", twice(status=500, after=True, body="{}"), unknown(AWAY)),
    Line("504 twice", twice(status=504), unknown(AWAY)),
    Line("524 twice", twice(status=524), unknown(SLOW)),
    Line("502 with a web page", twice(status=502, body=PAGE, headers=HTML), unknown(AWAY)),
    # -- the platform is busy
    Line("429 with Retry-After", twice(status=429, headers=SOON), WELL),
    Line("429 without", twice(status=429), WELL),
    Line(
        "429 for long",
        ever(status=429, headers=SOON),
        refused(BUSY),
        out_of_time(ANSWERED),
        Outcome(BUSY, "429"),
    ),
    Line("513 twice", twice(status=513, headers=SOON), WELL),
    Line("513 for long", ever(status=513), refused(LOADING), out_of_time(ANSWERED), Outcome(LOADING, "513")),
    # -- the platform rejects the request
    Line("401 twice", twice(status=401), refused(KEY), WELL, Outcome(KEY, "Check the key")),
    Line(
        "401 for long",
        ever(status=401),
        refused(KEY),
        Outcome(JobLostError, "may still run and bill"),
        Outcome(KEY, "Check the key"),
    ),
    Line("498 of a young job", twice(status=498), refused(GONE), WELL, Outcome(GONE, "498")),
    # -- the response is not one
    Line("a web page twice", twice(body=PAGE, headers=HTML), unknown(ELSEWHERE)),
    Line(
        "a web page for long",
        ever(body=PAGE, headers=HTML),
        unknown(ELSEWHERE),
        out_of_time(CONTENT),
        Outcome(ELSEWHERE, "web page"),
    ),
    Line("an empty answer", twice(after=True, body=""), unknown(ELSEWHERE)),
    Line("half of the JSON", twice(after=True, part=0.5), unknown(WRONG)),
    Line("malformed JSON", twice(after=True, body=NO_JSON), unknown(WRONG)),
    Line(
        "malformed JSON for long",
        ever(after=True, body=NO_JSON),
        unknown(WRONG),
        out_of_time(CONTENT),
        Outcome(WRONG, "not what the API allows"),
        SPOILED,
    ),
    Line(
        "another object for long",
        ever(after=True, body='{"hello": 1}'),
        unknown(WRONG),
        out_of_time(CONTENT),
        Outcome(WRONG, "not what the API allows"),
        SPOILED,
    ),
    # -- the connection
    Line("dropped before the work", twice(drop=True), unknown(AWAY)),
    Line("dropped after the work", twice(drop=True, after=True), unknown(AWAY)),
    Line(
        "dropped for long", ever(drop=True), unknown(AWAY), out_of_time(CONNECTION), Outcome(AWAY, "was lost")
    ),
    Line("cut off amid the body", twice(after=True, cut=True), unknown(AWAY)),
    # -- time
    Line("no answer in time", Fault(after=True, silence=4.5), unknown(SLOW), read_timeout=2.0),
    Line("a body that never ends", Fault(after=True, trickle=0.3), unknown(SLOW), read_timeout=2.0),
    Line("a slow body", twice(after=True, trickle=0.002), WELL),
    # -- somewhere else
    Line(
        "a redirect to another host",
        twice(status=302, headers=LOGIN),
        refused(ELSEWHERE),
        WELL,
        Outcome(ELSEWHERE, "redirects to https://login.example.test;"),
    ),
    Line(
        "a redirect in circles",
        ever(status=307, headers={"Location": "?again"}),
        refused(ELSEWHERE),
        out_of_time(CONTENT),
        Outcome(ELSEWHERE, "redirects"),
    ),
]

# -- a certificate that is not good: the platform was not reached, and another try at once would not help
BAD_CERTIFICATES = {
    "self-signed": "self-signed certificate",
    "for another host": "IP address mismatch",
    "expired": "certificate has expired",
}

# -- faults of one phase
WORD = {"status": "PONDERING"}
STILL_RUNS = Outcome(WaitTimeoutError, RUNS_ON)
STATED = ("train", "memory rag", "classifier")
SPECIAL = [
    *[
        (way, phase, "an unknown state twice", Fault(times=2, change=another(**WORD)), WELL)
        for way in STATED
        for phase in ("trigger", "worker")
    ],
    *[
        (way, "trigger", "an unknown state for long", ever(change=another(**WORD)), STILL_RUNS)
        for way in STATED
    ],
    (
        "train",
        "trigger",
        "an untrusted certificate for long",
        Fault(certificate="expired", times=None),
        out_of_time(r"https://127.0.0.1:\d+ could not be reached: its certificate"),
    ),
    *[
        (way, "fetch", f"{name} rows", Fault(times=1, change=change), Outcome(WRONG, "for 3 (prompts|texts)"))
        for way in ("batch", "vectors")
        for name, change in (("fewer", fewer), ("more", more))
    ],
    *[
        (way, "fetch", f"{name} rows for good", Fault(times=None, change=change), replace(SPOILED, more=1))
        for way in ("batch", "vectors")
        for name, change in (("fewer", fewer), ("more", more))
    ],
    *[
        (way, "direct", f"{name} rows", Fault(times=1, change=change), WELL)
        for way in ("completions", "embedding")
        for name, change in (("fewer", fewer), ("more", more))
    ],
    *[
        (way, "direct", f"{name} rows for good", Fault(times=None, change=change), SPOILED)
        for way in ("completions", "embedding")
        for name, change in (("fewer", fewer), ("more", more))
    ],
]


def phases(way):
    """The phases of a way."""
    if way in DIRECT:
        return ("direct",)
    waits = ("trigger", "worker") if WAYS[way].looks else ()
    return ("submit", *waits, *(("fetch",) if WAYS[way].fetches else ()))


def cases_of(way):
    """Each case of a way with what is to come of it."""
    for line in TABLE:
        by_phase = {"submit": line.submit, "trigger": line.wait, "worker": line.wait, "fetch": line.read}
        for phase in phases(way):
            outcome = by_phase.get(phase, line.direct or line.read)
            yield Case(way, phase, line.name, line.fault, line.read_timeout), outcome
    for kind, words in BAD_CERTIFICATES.items():
        untrusted = Outcome(AWAY, rf"certificate is not trusted \({words}")
        for phase in phases(way):
            # Failed rows are requested again while others are still open.
            fault = ever(certificate=kind) if phase == "direct" else twice(certificate=kind)
            yield (
                Case(way, phase, f"a certificate that is {kind}", fault),
                WELL if phase in ("trigger", "worker") else untrusted,
            )
    for each, phase, name, fault, outcome in SPECIAL:
        if each == way:
            yield Case(way, phase, name, fault), outcome


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """The authority, a valid certificate and invalid ones, by name."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder / "ca.pem")
    other = Authority(folder / "other.pem")
    return {
        "authority": folder / "ca.pem",
        "good": authority.issue(folder / "good.pem"),
        "self-signed": other.path,
        "for another host": authority.issue(folder / "host.pem", address="127.0.0.9"),
        "expired": authority.issue(folder / "expired.pem", days=-1),
    }


@pytest.mark.long
# A poll that is cancelled during the TLS handshake leaves its socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", WAYS)
def test_every_fault_ends_as_the_table_says(way, certificates, tmp_path):
    cases = list(cases_of(way))
    assert len({case.id for case, _ in cases}) == len(cases) > 30
    maker(way, tmp_path, "lamini_default")()  # so that no two threads import the same module
    with patch.dict(os.environ), ThreadPoolExecutor(AT_ONCE) as pool:
        seen = [
            pool.submit(
                meet,
                with_certificate(case, certificates),
                tmp_path / str(number),
                certificates["authority"],
                certificates["good"],
            )
            for number, (case, _) in enumerate(cases)
        ]
        wrong = [
            f"{case.id}: {problem}"
            for (case, outcome), future in zip(cases, seen, strict=True)
            for problem in problems(case, outcome, future.result(120))
        ]
    assert not wrong, "\n".join(wrong)


def with_certificate(case, certificates):
    """Return the case with the path of its fault's certificate."""
    kind = case.fault.certificate
    return replace(case, fault=replace(case.fault, certificate=kind and certificates[kind]))


def problems(case, outcome, seen):
    """Yield the differences from the table."""
    started, finally_started, next_error = expected_jobs(case, outcome)
    if type(seen.error) is not (outcome.error or type(None)):
        yield f"the try ended with {seen.error!r}"
    elif not re.search(outcome.says, str(seen.error)):
        yield f"it says {seen.error}"
    if seen.started != started:
        yield f"{seen.started} jobs were started, not {started}"
    if type(seen.next_error) is not (next_error or type(None)):
        yield f"the next try ended with {seen.next_error!r}"
    if seen.finally_started != finally_started:
        yield f"{seen.finally_started} jobs were started in total, not {finally_started}"
    if seen.good is not (next_error is None):
        yield "the result is wrong" if not seen.good else "the result is correct"


def expected_jobs(case, outcome):
    """Return the number of jobs after the first try and in total, and the error of the next try."""
    if case.phase == "direct":
        return 0, 0, outcome.next_error
    if case.phase != "submit" or outcome.error is None:
        return 1 + outcome.more, 1 + outcome.more, outcome.next_error
    if outcome.says == NOTHING or outcome.says.startswith("certificate"):
        return 0, 1, None
    started = int(case.fault.after)
    lost = WAYS[case.way].lost
    if lost == "asks":
        return started, started, JobLostError
    return started, 1 if lost == "found" else started + 1, None
