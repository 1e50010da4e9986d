"""A dataset is checked completely, uploaded once, and its address is a secret."""

from __future__ import annotations

import json
import logging

import pytest

from airflow_provider_lamini.api.errors import AuthenticationError, UnavailableError
from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.upload_dataset import LaminiUploadDatasetOperator
from tests.support.blob_store import SIGNATURE
from tests.support.tasks import TI, log_lines, maker, run_to_end

ROWS = [{"input": f"question {number}", "output": f"answer {number}"} for number in range(4)]
TICKETS = [{"subject": f"parcel {number}", "category": "shipping", "id": number} for number in range(4)]


@pytest.fixture
def upload(tmp_path):
    """Returns a function that takes arguments and returns a factory of operators."""
    return maker(
        LaminiUploadDatasetOperator, task_id="upload", input=ROWS, state_path=str(tmp_path / "state")
    )


def test_rows_become_a_dataset(tuning, upload):
    result = run_to_end(upload()).result
    assert tuning.datasets == {"dataset1": ROWS}
    size = sum(len(json.dumps(row, separators=(",", ":"))) + 1 for row in ROWS)
    assert result == {"dataset_id": "dataset1", "rows": 4, "bytes": size, "new": True, "failures": {}}


def test_columns_are_mapped_and_the_dataset_is_made_public(tuning, upload, tmp_path):
    file = tmp_path / "tickets.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in TICKETS))
    run_to_end(upload(input=str(file), prompt="Sort: {subject}", answer="category", is_public="true"))
    assert tuning.datasets["dataset1"][3] == {"input": "Sort: parcel 3", "output": "shipping"}
    assert tuning.sent("/v1/local-data")[0]["is_public"] is True


def test_rows_are_sent_to_a_blob_if_the_platform_stores_datasets_in_azure(tuning_with_blobs, blobs, upload):
    result = run_to_end(upload()).result
    assert [json.loads(line) for line in blobs.blobs["/dataset1.jsonl"].splitlines()] == ROWS
    assert tuning_with_blobs.datasets == {"dataset1": 4}
    assert result["bytes"] == len(blobs.blobs["/dataset1.jsonl"])
    assert blobs.refused == []


def test_a_retry_returns_the_uploaded_dataset(tuning, upload):
    first = run_to_end(upload()).result
    assert run_to_end(upload()).result == {**first, "new": False}
    assert list(tuning.datasets) == ["dataset1"]


@pytest.mark.parametrize(
    "changed", [{"input": ROWS[:2]}, {"answer": "input"}, {"is_public": True}, {"force_new": "True"}]
)
def test_any_change_uploads_a_new_dataset(tuning, upload, changed):
    run_to_end(upload())
    assert run_to_end(upload(**changed)).result["dataset_id"] == "dataset2"
    assert len(tuning.datasets) == 2


def test_a_changed_file_is_uploaded_again(tuning, upload, tmp_path):
    file = tmp_path / "rows.jsonl"
    for count in (2, 3):
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:count]))
        run_to_end(upload(input=str(file)))
    assert [len(rows) for rows in tuning.datasets.values()] == [2, 3]


def test_an_upload_whose_answer_was_lost_is_repeated(tuning, upload):
    tuning.lose = ["/v1/local-data"]
    with pytest.raises(UnavailableError) as failed:
        run_to_end(upload())
    assert failed.value.may_have_started
    with log_lines() as lines:
        assert run_to_end(upload()).result["dataset_id"] == "dataset2"
    assert any("interrupted" in line for line in lines)


def test_a_refused_upload_to_a_blob_is_repeated_with_a_new_dataset(tuning_with_blobs, blobs, upload):
    blobs.fail_next = [403]
    with pytest.raises(AuthenticationError, match="signed URL may have expired"):
        run_to_end(upload())
    assert run_to_end(upload()).result["dataset_id"] == "dataset2"
    assert tuning_with_blobs.datasets["dataset2"] == 4


def test_the_address_of_the_blob_appears_nowhere(tuning_with_blobs, blobs, upload, tmp_path, caplog):
    blobs.fail_next = [503, 403]
    with log_lines() as lines, caplog.at_level(logging.INFO), pytest.raises(AuthenticationError) as failed:
        run_to_end(upload())
    result = run_to_end(upload()).result
    records = [file.read_text() for file in (tmp_path / "state").rglob("*") if file.is_file()]
    visible = [
        *lines,
        caplog.text,
        str(failed.value),
        repr(failed.value.__dict__),
        json.dumps(result),
        *records,
    ]
    assert len(records) == 1
    assert not [text for text in visible if SIGNATURE in text or tuning_with_blobs.key in text]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"input": [*ROWS, {"input": "q", "output": ""}]}, "row 4 .* makes an empty output"),
        ({"input": []}, "no rows"),
        ({"input": "no/such/file.jsonl"}, "does not exist"),
        ({"input": "a single prompt"}, "not the path of an existing file"),
        ({"prompt": "question"}, "no column 'question'"),
        ({"prompt": ""}, "prompt must be"),
        ({"is_public": "perhaps"}, "is_public must be true or false"),
        ({"force_new": "perhaps"}, "force_new must be true or false"),
        ({"lamini_conn_id": ""}, "lamini_conn_id"),
    ],
)
def test_invalid_arguments_are_rejected_before_anything_is_sent(tuning, upload, arguments, problem):
    with pytest.raises(InvalidArgumentError, match=problem):
        run_to_end(upload(**arguments))
    assert not tuning.request_counts


def test_the_log_warns_once_if_there_is_no_place_for_a_record(tuning, upload):
    with log_lines() as lines:
        run_to_end(upload(state_path=None))
    assert len([line for line in lines if "no place for a submission record" in line]) == 1
    assert len(tuning.datasets) == 1


def test_each_task_and_run_has_its_own_dataset(tuning, upload):
    from dataclasses import replace

    for ti in (TI, replace(TI, task_id="other"), replace(TI, run_id="run-2"), replace(TI, map_index=1)):
        run_to_end(upload(), ti)
    assert len(tuning.datasets) == 4
