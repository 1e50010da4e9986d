"""The shared watch, against a real server on loopback."""

from __future__ import annotations

import asyncio
import time

import pytest

from airflow_provider_lamini.api.call import Call, Retry
from airflow_provider_lamini.api.errors import AuthenticationError, JobNotFoundError, UnavailableError
from airflow_provider_lamini.jobs.kinds import JobKind, Listing
from airflow_provider_lamini.jobs.polling import DeadlinePassed, Ended, Lost, PollPlan
from airflow_provider_lamini.jobs.progress import Progress, ProgressLog
from airflow_provider_lamini.jobs.result_cache import ResultCache
from airflow_provider_lamini.jobs.state import JobProgress, JobState, JobStatus, PollHistory, ProgressUnit
from airflow_provider_lamini.jobs.waiting import wait_for_jobs
from airflow_provider_lamini.jobs.watch import Watch
from airflow_provider_lamini.platforms.lamini.api.batches import completions_result
from airflow_provider_lamini.platforms.lamini.kinds import BATCH_COMPLETIONS
from tests.support.local_platform import wait_until_async

OLD = 3600.0


def plan(*, seconds: float = 10.0, age: float = 0.0) -> PollPlan:
    now = time.time()
    return PollPlan(submitted_at=now - age, deadline=now + seconds, max_interval=0.2, min_interval=0.05)


def log_into(lines: list[str]) -> ProgressLog:
    return ProgressLog(Progress(jobs=2), info=lines.append, warn=lines.append)


def run_with_watch(platform, scenario, cache=None):
    """Run a scenario with a watch on the platform, for at most 20 s."""

    async def lookup():
        return platform.settings()

    async def run():
        watch = Watch(lookup, cache)
        try:
            return await asyncio.wait_for(scenario(watch), 20)
        finally:
            await watch.close()

    return asyncio.run(run())


async def polls_received(platform, number):
    """Wait until the platform has received this many more requests."""
    expected = len(platform.request_paths) + number
    await wait_until_async(lambda: len(platform.request_paths) >= expected)


def test_a_batch_is_polled_until_each_of_its_rows_is_done(platform):
    platform.rows["b"] = []

    async def scenario(watch):
        wait = watch.add(BATCH_COMPLETIONS, "b", plan(), PollHistory())
        await polls_received(platform, 1)
        platform.rows["b"] = ["stop", None]
        await polls_received(platform, 2)
        assert not wait.done()
        platform.rows["b"] = ["stop", "length"]
        return await wait

    outcome = run_with_watch(platform, scenario)
    assert outcome == Ended(
        JobStatus("b", JobState.SUCCEEDED, "all 2 rows", JobProgress(2, ProgressUnit.ROWS, 2))
    )


@pytest.mark.long
def test_many_jobs_share_few_connections_and_do_not_block_the_event_loop(platform):
    for number in range(300):
        platform.rows[f"j{number}"] = [None]

    async def scenario(watch):
        waits = [
            watch.add(BATCH_COMPLETIONS, job_id, plan(age=OLD), PollHistory()) for job_id in platform.rows
        ]
        lags = []
        for _ in range(40):
            before = time.monotonic()
            await asyncio.sleep(0.05)
            lags.append(time.monotonic() - before - 0.05)
        for reasons in platform.rows.values():
            reasons[0] = "stop"
        outcomes = await asyncio.gather(*waits)
        return outcomes, sorted(lags)

    outcomes, lags = run_with_watch(platform, scenario)
    assert all(isinstance(outcome, Ended) for outcome in outcomes)
    assert len(platform.connections) <= 20
    assert lags[len(lags) // 2] < 0.1


def test_an_outage_is_tolerated(platform):
    platform.rows["b"] = ["stop"]
    platform.fail_next = [503, 500]
    history = PollHistory()

    async def scenario(watch):
        return await watch.add(BATCH_COMPLETIONS, "b", plan(), history)

    assert isinstance(run_with_watch(platform, scenario), Ended)
    assert len(platform.request_paths) == 3
    assert history.error is None


def test_a_vanished_job_is_lost(platform):
    async def scenario(watch):
        return await watch.add(BATCH_COMPLETIONS, "gone", plan(age=OLD), PollHistory())

    outcome = run_with_watch(platform, scenario)
    assert isinstance(outcome, Lost)
    assert isinstance(outcome.error, JobNotFoundError)


def test_a_key_that_was_rotated_while_the_job_ran_is_read_again(platform):
    platform.rows["b"] = [None]

    async def scenario(watch):
        wait = watch.add(BATCH_COMPLETIONS, "b", plan(), PollHistory())
        await polls_received(platform, 1)
        platform.key = "k2"
        await polls_received(platform, 2)
        platform.rows["b"] = ["stop"]
        return await wait

    assert isinstance(run_with_watch(platform, scenario), Ended)


def test_a_key_that_stays_refused_loses_the_job(platform):
    platform.rows["b"] = [None]
    wrong = platform.settings()
    platform.key = "k2"

    async def run():
        async def lookup():
            return wrong

        watch = Watch(lookup)
        outcome = await watch.add(BATCH_COMPLETIONS, "b", plan(), PollHistory())
        await watch.close()
        return outcome

    outcome = asyncio.run(asyncio.wait_for(run(), 20))
    assert isinstance(outcome, Lost)
    assert isinstance(outcome.error, AuthenticationError)
    assert len(platform.request_paths) == 3


def test_the_deadline_is_wall_clock_time(platform):
    platform.rows["b"] = [None]

    async def scenario(watch):
        return await watch.add(BATCH_COMPLETIONS, "b", plan(seconds=0.4), PollHistory())

    began = time.monotonic()
    assert run_with_watch(platform, scenario) == DeadlinePassed()
    assert time.monotonic() - began < 3


def test_a_cancelled_trigger_disturbs_no_other(platform):
    platform.rows["a"] = platform.rows["b"] = [None]

    async def scenario(watch):
        leaving = watch.add(BATCH_COMPLETIONS, "a", plan(), PollHistory())
        staying = watch.add(BATCH_COMPLETIONS, "b", plan(), PollHistory())
        await wait_until_async(lambda: any("/a/" in path for path in platform.request_paths))
        leaving.cancel()
        await polls_received(platform, 2)
        polls = len([path for path in platform.request_paths if "/a/" in path])
        await asyncio.sleep(0.5)
        assert len([path for path in platform.request_paths if "/a/" in path]) == polls
        platform.rows["b"] = ["stop"]
        return await staying

    assert isinstance(run_with_watch(platform, scenario), Ended)


def test_the_error_of_a_missing_connection_ends_the_wait():
    async def run():
        async def lookup():
            raise LookupError("no such connection")

        watch = Watch(lookup)
        try:
            await watch.add(BATCH_COMPLETIONS, "b", plan(), PollHistory())
        finally:
            await watch.close()

    with pytest.raises(LookupError, match="no such connection"):
        asyncio.run(asyncio.wait_for(run(), 20))


def listable(platform):
    """A kind of job with a list call, over the same server. The list contains the jobs whose ids start with j."""

    def status(job_id: str) -> JobStatus:
        done = platform.rows[job_id] == ["stop"]
        return JobStatus(job_id, JobState.SUCCEEDED if done else JobState.RUNNING, "x")

    def call(path: str, read) -> Call:
        return Call(operation="test", method="GET", path=path, parse=read, retry=Retry.SAFE)

    def listed() -> Listing:
        return Listing({job: status(job) for job in platform.rows if job[0] == "j"})

    return JobKind(
        name="test/listable",
        title="listable",
        status=lambda job_id: call(f"/v1/one/{job_id}/", lambda _: status(job_id)),
        list_statuses=lambda *_: call("/v1/list/all/", lambda _: listed()),
    )


@pytest.mark.long
def test_one_list_call_polls_all_jobs_of_a_kind(platform):
    for number in range(200):
        platform.rows[f"j{number}"] = [None]
    platform.rows["all"] = ["stop"]
    kind = listable(platform)
    long = PollPlan(submitted_at=time.time() - OLD, deadline=time.time() + 60, max_interval=1.0)

    async def scenario(watch):
        waits = [watch.add(kind, f"j{number}", long, PollHistory()) for number in range(200)]
        await asyncio.sleep(3)
        for number in range(200):
            platform.rows[f"j{number}"] = ["stop"]
        return await asyncio.gather(*waits)

    outcomes = run_with_watch(platform, scenario)
    assert all(isinstance(outcome, Ended) for outcome in outcomes)
    assert {path for path in platform.request_paths if "list" in path} == {"/v1/list/all/"}
    assert len(platform.request_paths) < 60


def test_a_job_that_is_not_in_the_list_is_polled_individually(platform):
    for number in range(9):
        platform.rows[f"j{number}"] = ["stop"]
    platform.rows["all"] = platform.rows["other"] = ["stop"]
    kind = listable(platform)

    async def scenario(watch):
        waits = [watch.add(kind, job, plan(age=OLD), PollHistory()) for job in platform.rows if job != "all"]
        return await asyncio.gather(*waits)

    outcomes = run_with_watch(platform, scenario)
    assert all(isinstance(outcome, Ended) for outcome in outcomes)
    assert "/v1/one/other/" in platform.request_paths


def test_a_refused_list_call_loses_no_job(platform):
    """As on a server without the list, or behind a gateway that cuts it off."""
    for number in range(9):
        platform.rows[f"j{number}"] = ["stop"]
    kind = listable(platform)  # its list call fails with 498

    async def scenario(watch):
        jobs = [watch.add(kind, job, plan(age=OLD), PollHistory()) for job in platform.rows]
        return await asyncio.gather(*jobs)

    outcomes = run_with_watch(platform, scenario)
    assert all(isinstance(outcome, Ended) for outcome in outcomes)
    assert platform.request_paths.count("/v1/list/all/") == 1


def test_an_outage_does_not_replace_the_list_call_by_individual_polls(platform):
    for number in range(50):
        platform.rows[f"j{number}"] = ["stop"]
    platform.rows["all"] = ["stop"]
    platform.fail_next = [503]
    kind = listable(platform)
    old = PollPlan(
        submitted_at=time.time() - OLD, deadline=time.time() + 60, max_interval=0.01, min_interval=0.01
    )

    async def scenario(watch):
        return await asyncio.gather(*(watch.add(kind, f"j{n}", old, PollHistory()) for n in range(50)))

    assert all(isinstance(outcome, Ended) for outcome in run_with_watch(platform, scenario))
    assert platform.request_paths == ["/v1/list/all/"] * 2


@pytest.mark.long
@pytest.mark.long
def test_thousands_of_jobs_that_were_submitted_together_are_polled_at_a_limited_rate(platform):
    for number in range(1000):
        platform.rows[f"j{number}"] = [None]
    eager = PollPlan(
        submitted_at=time.time() - OLD, deadline=time.time() + 60, max_interval=0.05, min_interval=0.01
    )

    async def scenario(watch):
        waits = [watch.add(BATCH_COMPLETIONS, job_id, eager, PollHistory()) for job_id in platform.rows]
        began = time.monotonic()
        await asyncio.sleep(2)
        asked = platform.request_paths[:]
        for wait in waits:
            wait.cancel()
        return asked, time.monotonic() - began

    asked, seconds = run_with_watch(platform, scenario)
    assert 20 < len(asked) <= 110 * seconds
    assert len(set(asked)) == len(asked), "no job is polled twice before all were polled once"


def test_a_slow_platform_gets_several_polls_at_the_same_time(platform):
    """One after the other, or two at a time, these responses would take at least 6 s."""
    for number in range(30):
        platform.rows[f"j{number}"], platform.slow[f"j{number}"] = ["stop"], 0.4

    async def scenario(watch):
        began = time.monotonic()
        await asyncio.gather(
            *(watch.add(BATCH_COMPLETIONS, name, plan(), PollHistory()) for name in platform.rows)
        )
        return time.monotonic() - began

    assert run_with_watch(platform, scenario) < 4
    assert 5 < platform.at_once <= 16


@pytest.mark.long
@pytest.mark.long
def test_a_slow_response_delays_no_other_job(platform):
    platform.rows.update({"slow": ["stop"], "one": ["stop"], "two": ["stop"], "three": ["stop"]})
    platform.slow["slow"] = 2.5

    async def scenario(watch):
        slow = watch.add(BATCH_COMPLETIONS, "slow", plan(), PollHistory())
        await wait_until_async(lambda: platform.at_once == 1)  # the slow request has arrived
        for name in ("one", "two", "three"):
            assert isinstance(await watch.add(BATCH_COMPLETIONS, name, plan(), PollHistory()), Ended)
        assert not slow.done()
        return await slow

    assert isinstance(run_with_watch(platform, scenario), Ended)


def test_the_wait_ends_when_enough_jobs_have_ended(platform):
    platform.rows.update({"a": ["stop"], "b": [None], "c": ["stop"]})

    async def scenario(watch):
        return await wait_for_jobs(
            watch, BATCH_COMPLETIONS, ["a", "b", "c"], plan(age=OLD), log_into([]), min_ended=2
        )

    event = run_with_watch(platform, scenario)
    assert sorted(event.ended) == ["a", "c"]
    assert not event.timed_out


@pytest.mark.long
@pytest.mark.parametrize("by", ["gather", "not_before"])
def test_jobs_that_end_soon_after_enough_others_are_in_the_same_event(platform, by):
    platform.rows.update({"a": ["stop"], "b": [None], "c": ["stop"], "d": [None]})

    async def scenario(watch):
        more = {"gather": 2.0} if by == "gather" else {"not_before": time.monotonic() + 2.0}
        wait = wait_for_jobs(watch, BATCH_COMPLETIONS, "abcd", plan(), log_into([]), min_ended=2, **more)
        began = time.monotonic()
        waiting = asyncio.create_task(wait)
        await polls_received(platform, 8)
        platform.rows["b"] = ["stop"]
        return await waiting, time.monotonic() - began

    event, seconds = run_with_watch(platform, scenario)
    assert sorted(event.ended) == ["a", "b", "c"]
    assert 1.9 < seconds < 6


def test_a_wait_ends_at_once_when_all_jobs_have_ended(platform):
    platform.rows.update({"a": ["stop"], "b": ["stop"]})

    async def scenario(watch):
        began = time.monotonic()
        arguments = {"min_ended": 1, "gather": 30.0, "not_before": began + 30}
        event = await wait_for_jobs(watch, BATCH_COMPLETIONS, "ab", plan(), log_into([]), **arguments)
        return event, time.monotonic() - began

    event, seconds = run_with_watch(platform, scenario)
    assert sorted(event.ended) == ["a", "b"]
    assert seconds < 5


def test_a_wait_that_times_out_reports_the_ended_jobs_and_the_progress(platform):
    platform.rows.update({"a": ["stop"], "b": [None]})
    lines = []

    async def scenario(watch):
        return await wait_for_jobs(
            watch, BATCH_COMPLETIONS, ["a", "b"], plan(seconds=0.7), log_into(lines), min_ended=2
        )

    event = run_with_watch(platform, scenario)
    assert event.timed_out
    assert list(event.ended) == ["a"]
    assert "job b: 0 of 1 rows" in lines[-1]


# -- what the log says of an outage: the next regular line of so old a job would come after minutes --------


async def wait_and_log(watch, platform, lines, scenario):
    """Wait for an old job while a scenario runs, then let the job end; return the event."""
    platform.rows["a"] = [None]
    waiting = asyncio.create_task(
        wait_for_jobs(
            watch,
            BATCH_COMPLETIONS,
            ["a"],
            plan(age=OLD),
            ProgressLog(
                Progress(jobs=1, total=10, since=time.time() - 60),
                info=lambda line: lines.append(("info", line)),
                warn=lambda line: lines.append(("warning", line)),
            ),
            min_ended=1,
        )
    )
    await polls_received(platform, 2)
    await scenario()
    platform.rows["a"] = ["stop"]
    return await waiting


@pytest.mark.long
def test_an_outage_is_logged_when_it_begins_and_when_it_ends(platform):
    lines: list[tuple[str, str]] = []

    async def outage():
        platform.rows["a"] = ["stop", None]
        await polls_received(platform, 2)
        platform.fail_next += [503] * 1000
        await wait_until_async(lambda: lines)
        assert len(lines) == 1
        await polls_received(platform, 3)
        platform.fail_next.clear()
        await wait_until_async(lambda: len(lines) >= 3)
        assert len(lines) == 3

    began = time.monotonic()
    event = run_with_watch(platform, lambda watch: wait_and_log(watch, platform, lines, outage))
    assert time.monotonic() - began < 15
    assert [level for level, _ in lines] == ["warning", "info", "info"]
    assert lines[0][1].startswith("The last poll failed, ")
    assert "left" not in lines[0][1]
    assert lines[1][1].startswith("The platform answers again, after ")
    assert "1 of 10 rows done" in lines[2][1]
    assert lines[2][1].endswith(" left")
    assert "polls failed 1 time" in event.summary


@pytest.mark.long
def test_the_end_of_an_outage_is_logged_even_if_the_job_has_ended_meanwhile(platform):
    lines: list[tuple[str, str]] = []

    async def outage():
        platform.fail_next += [503] * 1000
        await wait_until_async(lambda: lines)
        platform.rows["a"] = ["stop"]
        platform.fail_next.clear()

    run_with_watch(platform, lambda watch: wait_and_log(watch, platform, lines, outage))
    assert [level for level, _ in lines] == ["warning", "info"]
    assert lines[1][1].startswith("The platform answers again, after ")


def test_the_end_of_an_outage_is_logged_even_if_the_wait_ends_before_all_jobs_are_polled_again():
    lines: list[str] = []
    log = ProgressLog(Progress(jobs=2), info=lines.append, warn=lines.append)
    histories = {"a": PollHistory(), "b": PollHistory()}
    for history in histories.values():
        history.failed(UnavailableError("Down."), 100.0)
    log.report(histories)
    histories["a"].answered(JobStatus("a", JobState.SUCCEEDED, "all 2 rows"), 160.0)
    log.end(histories)
    assert lines[1:] == ["The platform answers again, after 1 min."]


@pytest.mark.long
def test_a_platform_that_fails_now_and_then_does_not_fill_the_log(platform):
    lines: list[tuple[str, str]] = []

    async def hiccups():
        for _ in range(4):
            platform.fail_next.append(503)
            await polls_received(platform, 2)
            await asyncio.sleep(0.6)

    event = run_with_watch(platform, lambda watch: wait_and_log(watch, platform, lines, hiccups))
    assert len(lines) <= 4
    assert "polls failed 4 times" in event.summary


# -- kinds that the platform lists per scope -----------------------------------------------------------


def test_jobs_of_different_scopes_are_polled_with_a_list_call_each(platform):
    """Ids are project/job, and each project has a list of its own."""
    for project in "ab":
        platform.rows[project] = ["stop"]
    requested = []

    def list_statuses(scope: str, _: object) -> Call:
        requested.append(scope)
        statuses = {f"{scope}/{n}": JobStatus(f"{scope}/{n}", JobState.SUCCEEDED, "x") for n in range(50)}
        return Call(
            operation="list",
            method="GET",
            path=f"/v1/list/{scope}/",
            parse=lambda _: Listing(statuses),
            retry=Retry.SAFE,
        )

    kind = JobKind(
        name="test/scoped",
        title="scoped",
        status=lambda job_id: pytest.fail(f"{job_id} was polled individually"),
        list_statuses=list_statuses,
        scope_of=lambda job_id: job_id.partition("/")[0],
    )

    async def scenario(watch):
        jobs = [f"{project}/{n}" for project in "ab" for n in range(50)]
        return await asyncio.gather(*(watch.add(kind, job, plan(age=OLD), PollHistory()) for job in jobs))

    assert all(isinstance(result, Ended) for result in run_with_watch(platform, scenario))
    assert sorted(requested) == ["a", "b"]


def test_an_unknown_status_word_is_logged_once_per_kind(platform, caplog):
    platform.rows.update(a=["stop"], b=["stop"])
    words = iter(["HIBERNATING", "HIBERNATING", "HIBERNATING", "DONE", "DONE"])
    states = {"HIBERNATING": JobState.UNKNOWN, "DONE": JobState.SUCCEEDED}

    def status(job_id: str) -> Call:
        def parse(_: bytes) -> JobStatus:
            word = next(words)
            return JobStatus(job_id, states[word], word)

        return Call(operation="o", method="GET", path=f"/v1/one/{job_id}/", parse=parse, retry=Retry.SAFE)

    kind = JobKind(name="test/wordy", title="wordy", status=status)

    async def scenario(watch):
        return await asyncio.gather(*(watch.add(kind, job, plan(), PollHistory()) for job in "ab"))

    assert all(isinstance(result, Ended) for result in run_with_watch(platform, scenario))
    (line,) = [record.getMessage() for record in caplog.records if "HIBERNATING" in record.getMessage()]
    assert "a status that this version does not know, 'HIBERNATING', for wordy job" in line
    assert "polling continues" in line


# -- a task that waits in its own process -------------------------------------------------------------


def slow_plan() -> PollPlan:
    now = time.time()
    return PollPlan(submitted_at=now, deadline=now + 20, max_interval=10, min_interval=10)


def test_a_task_that_waits_in_its_own_process_polls_immediately(platform):
    platform.rows.update({f"j{number}": ["stop"] for number in range(60)})

    async def scenario(watch):
        waits = (
            watch.add(BATCH_COMPLETIONS, f"j{number}", slow_plan(), PollHistory()) for number in range(60)
        )
        return await asyncio.gather(*waits)

    began = time.monotonic()
    outcomes = run_with_watch(platform, scenario, ResultCache())
    assert all(isinstance(outcome, Ended) for outcome in outcomes)
    assert time.monotonic() - began < 5


def test_its_cache_receives_the_response_with_the_results(platform):
    platform.rows.update(done=["stop"], open=[None])

    async def scenario(watch):
        waits = [watch.add(BATCH_COMPLETIONS, name, slow_plan(), PollHistory()) for name in ("open", "done")]
        await waits[1]
        assert not waits[0].done()

    cache = ResultCache()
    run_with_watch(platform, scenario, cache)
    found = cache.take(completions_result("done"))
    assert found is not None
    assert (found.outputs, found.finish_reason) == (["x" * 1000], ["stop"])
    assert cache.take(completions_result("open")) is None


def test_jobs_that_nobody_waits_for_any_more_are_not_polled(platform):
    platform.rows.update({f"j{number}": ["stop"] for number in range(60)})
    platform.slow.update({f"j{number}": 0.05 for number in range(60)})

    async def scenario(watch):
        names = [f"j{number}" for number in range(60)]
        event = await wait_for_jobs(watch, BATCH_COMPLETIONS, names, slow_plan(), log_into([]), min_ended=1)
        await asyncio.sleep(0.5)
        return event

    event = run_with_watch(platform, scenario, ResultCache())
    assert 1 <= len(event.ended) <= len(platform.request_paths) < 40


@pytest.mark.parametrize("max_bytes", [None, 0])
def test_a_job_that_ended_after_the_wait_is_not_polled_again_by_the_next_one(platform, max_bytes):
    platform.rows.update(a=["stop"], b=["stop"])
    platform.slow.update(b=0.2)

    async def scenario(watch):
        async def wait(*names):
            return await wait_for_jobs(
                watch, BATCH_COMPLETIONS, names, slow_plan(), log_into([]), min_ended=1
            )

        first = await wait("a", "b")
        await wait_until_async(lambda: cache.status(completions_result("b").path) is not None)
        return first, await wait("b")

    cache = ResultCache(max_bytes)
    first, second = run_with_watch(platform, scenario, cache)
    assert (list(first.ended), list(second.ended)) == (["a"], ["b"])
    assert second.ended["b"].state is JobState.SUCCEEDED
    assert len(platform.request_paths) == 2
