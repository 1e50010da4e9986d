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
from airflow_provider_lamini.exceptions import (
    JobLostError,
    KeyRefusedError,
    TooManyFailedRowsError,
    WaitTimeoutError,
)
from tests.support.certificates import Authority
from tests.support.fault_cases import DIRECT, KINDS, Case, maker, run_case
from tests.support.faulty_platform import Fault

HTML = {"Content-Type": "text/html"}
PAGE = "<html><body>Down for maintenance</body></html>"
AT_ONCE = 48


@dataclass(frozen=True)
class Outcome:
    """How a try ends.

    :param error: the error that it raises; ``None`` if it succeeds
    :param message: regular expression that the error matches
    :param next_error: the error that the next try raises, when the platform works again
    :param more: number of jobs beyond those that there would be without the fault
    """

    error: type[Exception] | None = None
    message: str = ""
    next_error: type[Exception] | None = None
    more: int = 0


SUCCESS = Outcome()
UNKNOWN = "it may run and bill: look there before submitting again"
NOT_STARTED = "Nothing was started"


def unknown(error):
    """Return the outcome of a submission after which the job may be running."""
    return Outcome(error, UNKNOWN)


def refused(error):
    """Return the outcome of a submission that started no job."""
    return Outcome(error, NOT_STARTED)


STILL_RUNNING = "may still run and bill; (a|the) retry attaches"


def timed_out(reason):
    """Return the outcome of a task that reached its timeout because polls failed; the job still runs."""
    return Outcome(
        WaitTimeoutError,
        f"{STILL_RUNNING} to (it|them). The last (look at a job has|poll) failed: .*{reason}",
    )


BUSY, UNAVAILABLE, SLOW, LOADING = (
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
RETRY_SOON = {"Retry-After": "0.5"}


def changed(**fields):
    """Return a function that changes fields of the correct response."""
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
    wait: Outcome = SUCCESS
    read: Outcome = SUCCESS
    direct: Outcome | None = None
    read_timeout: float = 10.0


def twice(**options):
    """Return a fault of two responses."""
    return Fault(times=2, **options)


def always(**options):
    """Return a fault of all responses."""
    return Fault(times=None, **options)


ANSWERED, CONTENT, CONNECTION = "The platform answered", "The response", "The connection"
LOGIN = {"Location": "https://login.example.test/?next=x"}
INVALID_JSON = '{"id": b1, "job_id": }'

# With a status, the request is not processed unless `after` is set; a fault that only changes the body processes it.
TABLE = [
    # -- the platform is unavailable
    Line("503 twice", twice(status=503), unknown(UNAVAILABLE)),
    Line(
        "503 all the time",
        always(status=503),
        unknown(UNAVAILABLE),
        timed_out(ANSWERED),
        Outcome(UNAVAILABLE, "503"),
    ),
    Line("500 twice", twice(status=500, body='{"detail": ""}'), unknown(UNAVAILABLE)),
    Line("500 after the work", twice(status=500, after=True, body="{}"), unknown(UNAVAILABLE)),
    Line("504 twice", twice(status=504), unknown(UNAVAILABLE)),
    Line("408 twice", twice(status=408), unknown(SLOW)),
    Line("524 twice", twice(status=524), unknown(SLOW)),
    Line("502 with a web page", twice(status=502, body=PAGE, headers=HTML), unknown(UNAVAILABLE)),
    # -- the platform is busy
    Line("429 with Retry-After", twice(status=429, headers=RETRY_SOON), SUCCESS),
    Line("429 without", twice(status=429), SUCCESS),
    Line(
        "429 all the time",
        always(status=429, headers=RETRY_SOON),
        refused(BUSY),
        timed_out(ANSWERED),
        Outcome(BUSY, "429"),
    ),
    Line("513 twice", twice(status=513, headers=RETRY_SOON), SUCCESS),
    Line(
        "513 all the time", always(status=513), refused(LOADING), timed_out(ANSWERED), Outcome(LOADING, "513")
    ),
    # -- the platform rejects the request
    Line("401 twice", twice(status=401), refused(KEY), SUCCESS, Outcome(KEY, "Check the key")),
    Line(
        "401 all the time",
        always(status=401),
        refused(KEY),
        Outcome(KeyRefusedError, "may still run and bill"),
        Outcome(KEY, "Check the key"),
    ),
    Line("498 of a new job", twice(status=498), refused(GONE), SUCCESS, Outcome(GONE, "498")),
    # -- the response is invalid
    Line("a web page twice", twice(body=PAGE, headers=HTML), unknown(ELSEWHERE)),
    Line(
        "a web page all the time",
        always(body=PAGE, headers=HTML),
        unknown(ELSEWHERE),
        timed_out(CONTENT),
        Outcome(ELSEWHERE, "web page"),
    ),
    Line("an empty answer", twice(after=True, body=""), unknown(ELSEWHERE)),
    Line("half of the JSON", twice(after=True, part=0.5), unknown(WRONG)),
    Line("malformed JSON", twice(after=True, body=INVALID_JSON), unknown(WRONG)),
    Line(
        "malformed JSON all the time",
        always(after=True, body=INVALID_JSON),
        unknown(WRONG),
        timed_out(CONTENT),
        Outcome(WRONG, "not what the API allows"),
        SPOILED,
    ),
    Line(
        "another object all the time",
        always(after=True, body='{"hello": 1}'),
        unknown(WRONG),
        timed_out(CONTENT),
        Outcome(WRONG, "not what the API allows"),
        SPOILED,
    ),
    # -- the connection
    Line("dropped before the work", twice(drop=True), unknown(UNAVAILABLE)),
    Line("dropped after the work", twice(drop=True, after=True), unknown(UNAVAILABLE)),
    Line(
        "dropped all the time",
        always(drop=True),
        unknown(UNAVAILABLE),
        timed_out(CONNECTION),
        Outcome(UNAVAILABLE, "was lost"),
    ),
    Line("a truncated body", twice(after=True, cut=True), unknown(UNAVAILABLE)),
    # -- time
    Line("no answer in time", Fault(after=True, silence=4.5), unknown(SLOW), read_timeout=2.0),
    Line("a body that never ends", Fault(after=True, trickle=0.3), unknown(SLOW), read_timeout=2.0),
    Line("a slow body", twice(after=True, trickle=0.002), SUCCESS),
    # -- another server
    Line(
        "a redirect to another host",
        twice(status=302, headers=LOGIN),
        refused(ELSEWHERE),
        SUCCESS,
        Outcome(ELSEWHERE, "redirects to https://login.example.test;"),
    ),
    Line(
        "a redirect in circles",
        always(status=307, headers={"Location": "?again"}),
        refused(ELSEWHERE),
        timed_out(CONTENT),
        Outcome(ELSEWHERE, "redirects"),
    ),
]

# -- an invalid certificate: the platform was not reached, and an immediate retry would not help
BAD_CERTIFICATES = {
    "self-signed": r"is not trusted \(self-signed certificate",
    "for another host": r"is not trusted \(IP address mismatch",
    "expired": "has expired",
}

# -- faults of one phase
WORD = {"status": "PONDERING"}
STILL_RUNS = Outcome(WaitTimeoutError, STILL_RUNNING)
STATED = ("train", "memory rag", "classifier")
SPECIAL = [
    *[
        (kind, phase, "an unknown state twice", Fault(times=2, change=changed(**WORD)), SUCCESS)
        for kind in STATED
        for phase in ("trigger", "worker")
    ],
    *[
        (kind, "trigger", "an unknown state all the time", always(change=changed(**WORD)), STILL_RUNS)
        for kind in STATED
    ],
    (
        "train",
        "trigger",
        "an untrusted certificate all the time",
        Fault(certificate="expired", times=None),
        timed_out(r"Its certificate .* https://127.0.0.1:\d+ could not be reached"),
    ),
    *[
        (
            kind,
            "fetch",
            f"{name} rows",
            Fault(times=1, change=change),
            Outcome(WRONG, "for 3 (prompts|texts)"),
        )
        for kind in ("batch", "vectors")
        for name, change in (("fewer", fewer), ("more", more))
    ],
    *[
        (kind, "fetch", f"{name} rows each time", Fault(times=None, change=change), replace(SPOILED, more=1))
        for kind in ("batch", "vectors")
        for name, change in (("fewer", fewer), ("more", more))
    ],
    *[
        (kind, "direct", f"{name} rows", Fault(times=1, change=change), SUCCESS)
        for kind in ("completions", "embedding")
        for name, change in (("fewer", fewer), ("more", more))
    ],
    *[
        (kind, "direct", f"{name} rows each time", Fault(times=None, change=change), SPOILED)
        for kind in ("completions", "embedding")
        for name, change in (("fewer", fewer), ("more", more))
    ],
]


def phases(kind):
    """Return the phases of a kind of task."""
    if kind in DIRECT:
        return ("direct",)
    waits = ("trigger", "worker") if KINDS[kind].polls else ()
    return ("submit", *waits, *(("fetch",) if KINDS[kind].fetches else ()))


def times_out(outcome):
    """Whether a task is expected to reach its timeout."""
    return outcome.error is WaitTimeoutError


def cases_of(kind):
    """Yield each case of a kind of task with its expected outcome."""
    for line in TABLE:
        by_phase = {"submit": line.submit, "trigger": line.wait, "worker": line.wait, "fetch": line.read}
        for phase in phases(kind):
            outcome = by_phase.get(phase, line.direct or line.read)
            yield Case(kind, phase, line.name, line.fault, line.read_timeout, times_out(outcome)), outcome
    for defect, words in BAD_CERTIFICATES.items():
        untrusted = Outcome(UNAVAILABLE, f"certificate {words}")
        for phase in phases(kind):
            # Failed rows are requested again while others are still open.
            fault = always(certificate=defect) if phase == "direct" else twice(certificate=defect)
            yield (
                Case(kind, phase, f"a certificate that is {defect}", fault),
                SUCCESS if phase in ("trigger", "worker") else untrusted,
            )
    for each, phase, name, fault, outcome in SPECIAL:
        if each == kind:
            yield Case(kind, phase, name, fault, times_out=times_out(outcome)), outcome


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
@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_ends_as_the_table_says(kind, certificates, tmp_path):
    cases = list(cases_of(kind))
    assert len({case.id for case, _ in cases}) == len(cases) > 30
    maker(kind, tmp_path, "lamini_default")()  # so that no two threads import the same module
    with patch.dict(os.environ), ThreadPoolExecutor(AT_ONCE) as pool:
        observed = [
            pool.submit(
                run_case,
                with_certificate(case, certificates),
                tmp_path / str(number),
                certificates["authority"],
                certificates["good"],
            )
            for number, (case, _) in enumerate(cases)
        ]
        wrong = [
            f"{case.id}: {problem}"
            for (case, outcome), future in zip(cases, observed, strict=True)
            for problem in problems(case, outcome, future.result(120))
        ]
    assert not wrong, "\n".join(wrong)


def with_certificate(case, certificates):
    """Return the case with the path of its fault's certificate."""
    defect = case.fault.certificate
    return replace(case, fault=replace(case.fault, certificate=defect and certificates[defect]))


def problems(case, outcome, observed):
    """Yield the differences from the table."""
    started, finally_started, next_error = expected_jobs(case, outcome)
    if type(observed.error) is not (outcome.error or type(None)):
        yield f"the try ended with {observed.error!r}"
    elif not re.search(outcome.message, str(observed.error)):
        yield f"it says {observed.error}"
    if observed.started != started:
        yield f"{observed.started} jobs were started, not {started}"
    if type(observed.next_error) is not (next_error or type(None)):
        yield f"the next try ended with {observed.next_error!r}"
    if observed.finally_started != finally_started:
        yield f"{observed.finally_started} jobs were started in total, not {finally_started}"
    if observed.correct is not (next_error is None):
        yield "the result is wrong" if not observed.correct else "the result is correct"


def expected_jobs(case, outcome):
    """Return the number of jobs after the first try and in total, and the error of the next try."""
    if case.phase == "direct":
        return 0, 0, outcome.next_error
    if case.phase != "submit" or outcome.error is None:
        return 1 + outcome.more, 1 + outcome.more, outcome.next_error
    if outcome.message == NOT_STARTED or outcome.message.startswith("certificate"):
        return 0, 1, None
    started = int(case.fault.after)
    lost = KINDS[case.kind].lost
    if lost == "asks":
        return started, started, JobLostError
    return started, 1 if lost == "found" else started + 1, None
