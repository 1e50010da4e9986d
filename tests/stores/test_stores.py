"""Operators on object stores, through Airflow's connections and its providers."""

from __future__ import annotations

import json
from random import Random

import pytest

from airflow_provider_lamini.compat import object_storage_path
from airflow_provider_lamini.exceptions import StorageError
from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.errors import OutputError, OutputRefusedError
from airflow_provider_lamini.rows.ledger.document import load
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from tests.support.stores.emulators import AZURITE, GCS, MOTO
from tests.support.stores.faults import FAULTS, every
from tests.support.stores.proxy import Fault
from tests.support.tasks import TI, begin, log_lines, resume, run_to_end

pytestmark = pytest.mark.stores

EXCLUSIVE = {MOTO.name, AZURITE.name, GCS.name}
"""The emulators that keep to the condition of a put. The others accept it and ignore it."""
MAX_REQUESTS = 8
CHUNKS = 12

_requests: dict[str, int] = {}
"""How many requests a run without faults takes, by the name of the store."""


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in place"])
def test_a_chunk_takes_at_most_eight_requests_and_no_list_or_look(runs, store, deferrable):
    source = runs.rows(2 * CHUNKS)
    store.proxy.reset()
    ended = run_to_end(lambda: runs.operator(source, "few", deferrable=deferrable, max_in_flight=8))
    log = store.proxy.log()
    own = 24 + 8 * len(ended.deferrals)
    """Requests that a run, and each of its processes, takes whatever the number of chunks."""
    assert len(log) <= MAX_REQUESTS * CHUNKS + own
    assert sum(each.kind in ("list", "look") for each in log) <= own
    rows = list(read_outputs(runs.emulator.uri(f"{runs.name}/few")))
    assert [row["id"] for row in rows] == list(range(2 * CHUNKS))
    assert all(times == 1 for times in runs.sent(source).values())


def test_the_log_says_what_the_store_promises(runs, store):
    source = runs.rows()
    with log_lines() as lines:
        run_to_end(lambda: runs.operator(source, "promise"))
    exclusive = store.emulator.name in EXCLUSIVE
    said = (
        "Two tries never send the same rows" if exclusive else "Let only one try of this task run at a time"
    )
    assert sum(said in line for line in lines) == 1
    assert load(OutputFolder(runs.emulator.uri(f"{runs.name}/promise"))).exclusive is exclusive


def test_files_are_written_listed_read_and_removed(runs, store):
    folder = OutputFolder(store.emulator.uri(f"{runs.name}/files"))
    folder.write("a.json", b"1")
    folder.write_later("b.json", iter([b"2", b"3"]))
    folder.settle()
    assert folder.names() == ["a.json", "b.json"]
    assert (folder.read("b.json"), folder.exists("a.json"), folder.exists("c.json")) == (b"23", True, False)
    folder.delete_all(["a.json", "b.json", "c.json"])
    assert folder.names() == []


def test_a_refusal_of_any_store_is_a_permission_error(runs, store):
    """The clients of some stores have errors of their own, which nothing else knows."""
    folder = OutputFolder(store.emulator.uri(f"{runs.name}/refused"))
    folder.write("a.json", b"1")
    folder.write("large.json", b"x" * 1000)
    with folder.open("large.json") as file:
        for step in (
            lambda: file.read(1000),
            lambda: folder.read("a.json"),
            lambda: folder.write("b.json", b"2"),
            lambda: folder.exists("a.json"),
            lambda: folder.create_exclusive("c.json", b"3"),
        ):
            store.proxy.reset(Fault("status", status=403))
            with pytest.raises((PermissionError, OutputRefusedError)):
                step()
            assert store.proxy.hits() == 1


@pytest.mark.parametrize("scheme", ["s3", "abfs", "gs"])
def test_a_connection_that_does_not_exist_is_one_error(scheme):
    with pytest.raises(OutputError, match="There is no connection 'nobody'"):
        OutputFolder(f"{scheme}://nobody@bucket/out")


@pytest.mark.parametrize(
    ("scheme", "fields"),
    [
        ("abfs", {"conn_type": "wasb", "extra": {"connection_string": "nonsense"}}),
        ("abfs", {"conn_type": "http"}),
        ("gs", {"conn_type": "google_cloud_platform", "extra": {"keyfile_dict": "{nonsense"}}),
    ],
)
def test_a_connection_with_wrong_fields_is_not_a_missing_package(monkeypatch, scheme, fields):
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", json.dumps(fields))
    with pytest.raises(OutputError, match="The connection 'wrong' cannot be used for") as caught:
        OutputFolder(f"{scheme}://wrong@bucket/out").read("a.json")
    assert "pip install" not in str(caught.value)


def test_a_connection_that_is_deleted_during_a_wait_ends_only_the_try(runs, monkeypatch):
    source = runs.rows()
    deferral = begin(lambda: runs.operator(source, "deleted"))
    event = deferral.wait()
    (name, fields), *_ = runs.emulator.environment(runs.proxy.url).items()
    monkeypatch.delenv(name)
    with pytest.raises(StorageError, match=r"There is no connection .* the retry attaches to them"):
        resume(lambda: runs.operator(source, "deleted"), deferral, event)
    monkeypatch.setenv(name, fields)
    run_to_end(lambda: runs.operator(source, "deleted"), TI.retried())
    assert set(runs.sent(source).values()) == {1}


def test_a_record_under_state_path_is_written_read_and_removed(store, runs):
    from airflow_provider_lamini.runs.submission_record import FileRecord, Submission

    record = FileRecord(OutputFolder(store.emulator.uri(f"{runs.name}/state")), {"dag": "d"}, "submission")
    assert record.read() is None
    submission = Submission(fingerprint="f", mark="m", intended_at=1.0)
    record.write(submission)
    assert record.read() == submission
    record.forget()
    assert record.read() is None


def test_a_name_with_signs_of_web_addresses_is_an_object(runs, store):
    uri = store.emulator.uri(f"{runs.name}/odd #1?a=b%20c.jsonl")
    folder = OutputFolder(store.emulator.uri(runs.name))
    folder._store.write(
        f"{folder.path}/odd #1?a=b%20c.jsonl", b'{"id": 0, "text": "odd name"}\n', durable=True
    )
    run_to_end(lambda: runs.operator(uri, "odd"))
    assert [row["id"] for row in read_outputs(runs.emulator.uri(f"{runs.name}/odd"))] == [0]


@pytest.mark.any_airflow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_store_neither_repeats_nor_loses_a_row(runs, name):
    """At one request for each fault here; ``make faults-stores`` goes through all of them."""
    store = runs.emulator
    if store.name not in _requests:
        _requests[store.name] = runs.requests(deferrable=True)
    faults = every(_requests[store.name], Random(name), durable=store.durable)
    cases = [fault for which, fault in faults if which == name][:1]
    if not cases:
        pytest.skip("this store is empty after a restart")
    damages = [(fault, runs.live(fault)) for fault in cases]
    assert not [each for each in damages if each[1]]


def test_the_upload_of_a_dataset_reads_its_rows_from_the_store(runs, store, monkeypatch):
    from airflow_provider_lamini.operators.upload_dataset import LaminiUploadDatasetOperator
    from tests.support.scripted_platform import environment, serving
    from tests.support.tuning_platform import TuningPlatform

    platform = TuningPlatform()
    with serving(platform):
        for key, value in environment(platform).items():
            monkeypatch.setenv(key, value)
        uri = runs.write(
            "pairs.jsonl", "\n".join(json.dumps({"input": f"q{n}", "output": f"a{n}"}) for n in range(3))
        )
        state = store.emulator.uri(f"{runs.name}/records")
        ended = run_to_end(lambda: LaminiUploadDatasetOperator(task_id="upload", input=uri, state_path=state))
    assert ended.result["rows"] == 3
    assert object_storage_path(state).exists()
