"""The cache of status responses that contain results."""

from __future__ import annotations

from airflow_provider_lamini.jobs.result_cache import ResultCache
from airflow_provider_lamini.jobs.state import JobState, JobStatus
from airflow_provider_lamini.platforms.lamini.api.batches import completions_result

BODY = b'{"outputs": ["a", "b"], "finish_reason": ["stop", "length"]}'


def cache_with(max_bytes=None, **bodies):
    cache = ResultCache(max_bytes)
    for job_id, body in bodies.items():
        put(cache, job_id, body)
    return cache


def put(cache, job_id, body):
    cache.put(completions_result(job_id).path, body, JobStatus(job_id, JobState.SUCCEEDED, "done"))


def test_a_cached_response_is_parsed_as_if_it_were_fetched():
    call = completions_result("j1").map(lambda completions: completions.outputs)
    assert cache_with(j1=BODY).take(call) == ["a", "b"]


def test_a_response_can_be_taken_once():
    cache = cache_with(j1=BODY)
    assert cache.take(completions_result("j1")) is not None
    assert cache.take(completions_result("j1")) is None


def test_other_jobs_are_not_in_the_cache():
    assert cache_with(j1=BODY).take(completions_result("j2")) is None


def test_a_response_that_cannot_be_parsed_is_fetched_again():
    """The request then reports the error."""
    cache = cache_with(j1=b"<html>", j2=b'"text"', j3=b"[" * 100_000)
    assert [cache.take(completions_result(job_id)) for job_id in ("j1", "j2", "j3")] == [None] * 3


def test_the_size_of_the_cache_is_limited():
    cache = cache_with(2 * len(BODY), j1=BODY, j2=BODY, j3=BODY)
    assert cache.take(completions_result("j3")) is None
    assert cache.take(completions_result("j1")) is not None
    put(cache, "j3", BODY)
    assert cache.take(completions_result("j3")) is not None


def test_a_job_that_is_polled_twice_takes_space_once():
    cache = cache_with(2 * len(BODY), j1=b"old" + BODY)
    put(cache, "j1", BODY)
    put(cache, "j2", BODY)
    assert cache.take(completions_result("j1")) is not None
    assert cache.take(completions_result("j2")) is not None
