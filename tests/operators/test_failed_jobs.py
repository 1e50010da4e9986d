"""Jobs that the platform accepts and that then fail because of a row: the row is found and fails alone."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_lamini.exceptions import JobFailedError, TooManyFailedRowsError
from airflow_provider_lamini.results import read_outputs
from tests.support.tasks import begin, resume, run_to_end
from tests.support.upstream import vector_for

pytestmark = pytest.mark.any_airflow

TEXTS = [f"row {number} of all" for number in range(6)]


@pytest.fixture
def short(embed):
    """Embeds six texts in chunks of four."""
    return lambda **arguments: embed(**{"input": TEXTS, "chunk_size": 4, **arguments})


def sizes(platform):
    """The numbers of rows of the jobs that were started."""
    return [job["total"] for job in platform.control.jobs()]


def failed(out):
    return [row["index"] for row in read_outputs(str(out)) if row["embedding"] is None]


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_row_that_makes_its_job_fail_fails_alone(platform, short, out, error_rows, deferrable):
    platform.control.row_fault("row 1 of", times=None)
    ended = run_to_end(short(max_failed_rows=1, deferrable=deferrable))
    found = list(read_outputs(str(out)))
    assert [row["index"] for row in found] == list(range(6))
    assert failed(out) == [1]
    assert found[2]["embedding"] == pytest.approx(vector_for(TEXTS[2]))
    (row,) = error_rows()
    assert row["error_reason"] == "rejected"
    assert row["error"].startswith("the job with this row alone failed: Rows 0 to 0: ")
    assert ended.result["counts"]["failures"] == {"rejected": 1}
    # The four rows of the job are halved twice.
    assert sorted(sizes(platform)) == [1, 1, 2, 2, 2, 4]


def test_several_rows_that_make_jobs_fail_are_found(platform, short, out):
    for number in (0, 3, 5):
        platform.control.row_fault(f"row {number} of", times=None)
    run_to_end(short(max_failed_rows=3, max_in_flight=1, deferrable=False))
    assert failed(out) == [0, 3, 5]


def test_in_a_single_chunk_the_row_is_found_too(platform, short, out):
    platform.control.row_fault("row 0 of", times=None)
    run_to_end(short(max_failed_rows=1, chunk_size=6, max_in_flight=1, deferrable=False))
    assert failed(out) == [0]


def test_more_such_rows_than_may_fail_end_the_task_and_a_retry_sends_none_again(platform, short, out):
    platform.control.row_fault("row 1 of", times=None)
    with pytest.raises(TooManyFailedRowsError, match=r"1 of 6 rows failed.*1 rejected"):
        run_to_end(short(deferrable=False))
    run_to_end(short(max_failed_rows=1, deferrable=False))
    assert sorted(sizes(platform)) == [1, 1, 2, 2, 2, 4]
    assert failed(out) == [1]


def test_if_every_job_fails_the_rows_are_not_the_reason(platform, short, out):
    platform.control.row_fault("row", times=None)
    with pytest.raises(JobFailedError, match="No other job has ended well, so no single row is the reason"):
        run_to_end(short(max_failed_rows=None, deferrable=False))
    assert len(sizes(platform)) < 20
    platform.control.reset()
    platform.control.clear_faults()
    run_to_end(short())
    assert failed(out) == []


@pytest.mark.parametrize("detail", ["the monthly quota is used up", "503 from the inference service"])
def test_a_job_that_fails_for_a_reason_of_the_platform_is_not_split(platform, short, out, detail):
    platform.control.hold()
    make = short(max_failed_rows=None, max_in_flight=1)
    deferral = begin(make)
    platform.control.end(deferral.trigger["job_ids"][0], "failed", detail)
    with pytest.raises(
        JobFailedError, match=f"rows 0 to 3 ended as failed: {detail}. A retry sends its rows"
    ):
        resume(make, deferral, deferral.wait())
    platform.control.release()
    run_to_end(make)
    assert sorted(sizes(platform)) == [2, 4, 4]
    assert failed(out) == []


@pytest.mark.parametrize(
    ("status", "reason", "sent"),
    [(400, "row 1 has no storage class", [4, 2, 2]), (503, "row 1 is wrong", [4])],
)
def test_the_status_of_the_error_decides_and_not_its_words(platform, short, status, reason, sent):
    """The first job fails; those with the halves of its rows succeed."""
    platform.control.hold()
    make = short(input=TEXTS[:4], max_failed_rows=None)
    deferral = begin(make)
    (job_id,) = deferral.trigger["job_ids"]
    body = json.dumps({"detail": f"Batch {job_id} failed: {reason}"})
    platform.control.fault(f"/v1/batch_embeddings/{job_id}/result", status=status, body=body, times=None)
    event = deferral.wait()
    with pytest.raises(TaskDeferred if status == 400 else JobFailedError):
        resume(make, deferral, event)
    assert sizes(platform) == sent


def test_a_cancelled_job_is_not_split(platform, short):
    platform.control.hold()
    make = short(max_failed_rows=None, max_in_flight=1)
    deferral = begin(make)
    platform.control.end(deferral.trigger["job_ids"][0], "cancelled")
    with pytest.raises(JobFailedError, match="ended as cancelled"):
        resume(make, deferral, deferral.wait())


def test_the_next_try_goes_on_with_the_halves_of_a_try_that_died(platform, short, out):
    platform.control.row_fault("row 1 of", times=None)
    make = short(max_failed_rows=1)
    deferral = begin(make)
    with pytest.raises(TaskDeferred):
        resume(make, deferral, deferral.wait())
    assert len(sizes(platform)) == 4
    run_to_end(make)  # the try before was killed while it waited
    assert failed(out) == [1]
    assert sorted(sizes(platform)) == [1, 1, 2, 2, 2, 4]
