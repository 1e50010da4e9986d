"""Files and messages that an earlier release may have left: today's code reads them and writes them in the same form.

``tests/golden/`` has a folder for each release. A folder is never changed after its release.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from airflow_provider_lamini.corpus.documents import DocumentVersion
from airflow_provider_lamini.corpus.index_manifest import (
    Building,
    IndexManifest,
    ManifestFile,
    RefreshOutcome,
)
from airflow_provider_lamini.jobs.event import EndedJob, JobEvent, LostJob
from airflow_provider_lamini.jobs.known_jobs import KnownJobs
from airflow_provider_lamini.jobs.state import JobState, JobStatus
from airflow_provider_lamini.results import SHARDS, read_shards
from airflow_provider_lamini.rows.batch import Position
from airflow_provider_lamini.rows.counts import Counts
from airflow_provider_lamini.rows.errors import IncompleteOutputError, OutputError, UnreadableLedgerError
from airflow_provider_lamini.rows.ledger.document import (
    Chunk,
    ChunkSubmission,
    Header,
    LedgerDocument,
    ReportData,
    Sizes,
    load,
)
from airflow_provider_lamini.rows.ledger.ledger import Ledger
from airflow_provider_lamini.rows.output.manifest import Manifest, Part, read_manifest
from airflow_provider_lamini.rows.output.shards import Shard, Shards
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.storage.run_files import LEDGER, MANIFEST
from airflow_provider_lamini.runs.submission_record import Submission
from airflow_provider_lamini.runs.task_record import TaskRecord
from airflow_provider_lamini.triggers.job import JobTrigger

GOLDEN = Path(__file__).parent / "golden" / "0.1.0"

OWNER: dict[str, str | int] = {
    "dag": "nightly",
    "task": "infer",
    "run": "scheduled__2026-01-01",
    "map_index": -1,
}
LOOP_OWNER = {**OWNER, "region_id": "improve", "region_index": 2}
HEADER = Header(
    owner=OWNER,
    fingerprint="9c1185a5c5e9fc54612808977ee8f548",
    total_rows=25,
    chunk_size=10,
    input_version="da4b9237bacccdf19c0760cab7aec4a8",
    created_at=1767225600.0,
    column_kinds={"id": "integer", "name": "text", "score": "number", "sold": "flag", "tags": "json"},
)
FIRST = Position(row=0, file=0, offset=17, line=1)
SECOND = Position(row=10, file=0, offset=640, line=11)
COUNTS = Counts(
    rows=10,
    ok=9,
    failed=1,
    retried=2,
    finish_reasons={"stop": 8, "length": 1},
    sums={"numbers": 3456.0},
    failures={"empty": 1},
    reused=3,
)


def ledger(*rounds: ChunkSubmission, **changes: object) -> LedgerDocument:
    """A ledger whose first chunk has these submissions."""
    chunk = Chunk(number=0, start=FIRST, rows=10, fingerprint="77de68daecd823babbb58edb1c8e14d7106e83bb")
    document = LedgerDocument(
        HEADER,
        writer_token="0123456789abcdef0123456789abcdef",
        generation=2,
        next=SECOND,
        planned=1,
        open=[msgspec.structs.replace(chunk, rounds=list(rounds))],
        sizes=[Sizes(10, 1)],
        try_started_at=1767225601.5,
        rows_done_before=0,
    )
    return msgspec.structs.replace(document, **changes)


SUBMITTED = ChunkSubmission(intended_at=1767225602.0, job_id="job-1", submitted_at=1767225602.5)
LEDGERS = {
    "planned": ledger(),
    "intended": ledger(ChunkSubmission(intended_at=1767225602.0)),
    "submitted": ledger(SUBMITTED),
    "retried": ledger(
        SUBMITTED,
        ChunkSubmission(intended_at=1767225660.0, rows=[2, 7], job_id="job-2", submitted_at=1767225660.25),
    ),
    "split": ledger(
        ChunkSubmission(
            intended_at=1767225602.0,
            pieces=[
                ChunkSubmission(
                    intended_at=1767225603.0, rows=[0, 1, 2, 3, 4], job_id="job-1", submitted_at=1767225604.0
                ),
                ChunkSubmission(intended_at=0.0, rows=[5, 6, 7, 8, 9], done=True),
            ],
        ),
        max_chunk_rows=5,
    ),
    "finished": ledger(
        open=[],
        totals=COUNTS,
        rows_done_before=10,
        report=ReportData(groups={"5": 8, "6": 1}, jobs=2, job_ids=["job-1", "job-2"]),
    ),
    "in_a_loop": ledger(SUBMITTED, header=msgspec.structs.replace(HEADER, owner=LOOP_OWNER)),
}
MANIFEST_CONTENT = Manifest(
    output="/data/out",
    parts=[Part("part-00000.jsonl", 0, 1), Part("part-00001.jsonl", 1, 1)],
    errors=["errors-00001.jsonl"],
    counts=Counts(rows=2, ok=1, failed=1, retried=1, finish_reasons={"stop": 1}, failures={"no_answer": 1}),
    model="meta-llama/Llama-3.2-3B-Instruct",
    input="/data/tickets.jsonl (0.1 MB)",
    seconds=12.5,
    settings="9c1185a5c5e9fc54612808977ee8f548",
    reports=["report.md", "report.html"],
)
SHARDS_CONTENT = Shards(
    shards=[Shard("output", 0, 2), Shard("/data/elsewhere", 2, 0)],
    counts=MANIFEST_CONTENT.counts,
    models=["meta-llama/Llama-3.2-3B-Instruct"],
)
INDEX_MANIFEST = IndexManifest(
    platform="https://api.lamini.ai",
    model_name="meta-llama/Llama-3.2-3B-Instruct",
    index_id="12",
    files={"guide/a.md": DocumentVersion(size=3, sha256="ab" * 32, version="1767225600000000000")},
    building=Building(
        files={"b.md": DocumentVersion(size=1, sha256="cd" * 32)},
        submission=Submission(fingerprint="f" * 32, mark="m", intended_at=1767225602.0).encode(),
    ),
    purpose=RefreshOutcome(run="r" * 32, action="rebuilt", reason="a.md is gone", removed=1, replaced="12"),
    adding="c.md",
    outcome=RefreshOutcome(
        run="q" * 32, action="added", reason="new files", added=2, changed=1, forced_by="nightly/refresh/1"
    ),
    token="0123456789abcdef0123456789abcdef",
)
SUBMISSION = Submission(
    fingerprint="9c1185a5c5e9fc54612808977ee8f548",
    mark="0123456789abcdef",
    intended_at=1767225602.0,
    job_id="17",
    submitted_at=1767225603.5,
    attached_at=1767229200.0,
    resumes=1,
    before=["15", "16"],
    numbers={"rows": 1200},
    forced_by="nightly/tune/scheduled__2026-01-01/-1/2",
    stopped_at=1767312000.0,
)
EVENT = JobEvent(
    ended={
        "job-1": EndedJob(JobState.SUCCEEDED, "COMPLETED", None, 1767225700.0),
        "job-2": EndedJob(JobState.FAILED, "FAILED", "out of memory"),
    },
    lost={"job-3": LostJob("HTTP 404", vanished=True)},
    timed_out=True,
    deadline=1767312000.0,
    last_error="HTTP 503",
    pending=("job-4",),
)


TASK_RECORD = TaskRecord(
    platform="lamini",
    conn_id="lamini_default",
    output="s3://aws_default@bucket/run-1",
    output_conn_id="aws_default",
    kind="lamini/batch_completions",
    job_ids=("11", "12"),
)


def golden(name: str) -> bytes:
    """The content of a golden file, without the line end at its end."""
    return (GOLDEN / name).read_bytes().rstrip(b"\n")


@pytest.fixture
def folder(tmp_path: Path) -> OutputFolder:
    """An output folder."""
    return OutputFolder(str(tmp_path / "out"))


@pytest.mark.parametrize("state", LEDGERS)
def test_a_ledger_is_read_and_written_as_before(folder, state):
    content = golden(f"ledger-{state}.json")
    folder.write(LEDGER, content)
    assert load(folder) == LEDGERS[state]
    assert msgspec.json.encode(LEDGERS[state]) == content


def test_a_run_continues_with_a_ledger_of_an_earlier_release(folder):
    folder.write(LEDGER, golden("ledger-intended.json"))
    resumed = Ledger.resume(folder, OWNER)
    assert [chunk.number for chunk in resumed.unknown_submissions] == [0]
    assert resumed.record_job_id(resumed.chunks[0], "job-1").state == "submitted"


def test_a_manifest_is_read_and_written_as_before(folder):
    content = golden("manifest.json")
    folder.write(MANIFEST, content)
    assert read_manifest(folder) == MANIFEST_CONTENT
    assert msgspec.json.format(msgspec.json.encode(MANIFEST_CONTENT), indent=1) == content


def test_rows_of_an_earlier_release_are_read():
    rows = list(read_shards(str(GOLDEN)))
    assert rows == [
        {"index": 0, "id": 7, "output": "fine", "finish_reason": "stop", "error": None},
        {
            "index": 1,
            "id": 8,
            "output": None,
            "finish_reason": None,
            "error": "the platform gave no answer for this row",
        },
    ]


def test_shards_are_read_and_written_as_before():
    content = golden(SHARDS.replace(".", "-example."))
    assert msgspec.json.decode(content, type=Shards) == SHARDS_CONTENT
    assert msgspec.json.format(msgspec.json.encode(SHARDS_CONTENT), indent=1) == content


def test_the_manifest_of_an_index_is_read_and_written_as_before(tmp_path):
    content = golden("index-manifest.json")
    (tmp_path / "index.json").write_bytes(content)
    assert ManifestFile(str(tmp_path / "index.json")).content == INDEX_MANIFEST
    assert msgspec.json.format(msgspec.json.encode(INDEX_MANIFEST), indent=1) == content


def test_a_submission_record_is_read_and_written_as_before():
    value = json.loads(golden("submission-record.json"))
    assert Submission.decode(value) == SUBMISSION
    assert SUBMISSION.encode() == value


def test_an_event_is_read_and_written_as_before():
    value = json.loads(golden("event.json"))
    assert JobEvent.from_payload(value) == EVENT
    assert EVENT.payload() == value


def test_a_trigger_is_made_of_the_arguments_that_an_earlier_release_has_stored():
    value = json.loads(golden("trigger.json"))
    trigger = JobTrigger(**value["kwargs"])
    assert trigger.serialize() == (value["classpath"], value["kwargs"])


def event_trigger():
    """The trigger of an asset watcher, made of the arguments that an earlier release has stored."""
    module = pytest.importorskip("airflow_provider_lamini.triggers.job_event", exc_type=ImportError)
    return module.JobEventTrigger(**json.loads(golden("job-event-trigger.json"))["kwargs"])


def test_a_watchers_trigger_is_made_of_the_arguments_that_an_earlier_release_has_stored():
    value = json.loads(golden("job-event-trigger.json"))
    assert event_trigger().serialize() == (value["classpath"], value["kwargs"])


def test_a_watchers_event_is_written_as_before():
    ended = JobStatus("17", JobState.SUCCEEDED, "COMPLETED")
    assert event_trigger()._payload(ended) == json.loads(golden("job-event.json"))


def test_what_a_watcher_knows_is_read_and_written_as_before():
    text = golden("known-jobs.txt").decode()
    known = KnownJobs.from_text(text)
    ended = {job_id: JobStatus(job_id, JobState.SUCCEEDED, "COMPLETED") for job_id in ("16", "17", "18")}
    assert [status.job_id for status in known.new(ended)] == ["18"]
    assert known.to_text() == text


NEWER = (
    "has version 2 of its format, and this release reads versions up to 1. Upgrade airflow-provider-lamini"
)


def test_the_record_for_the_page_of_a_task_is_read_and_written_as_before():
    value = json.loads(golden("task-record.json"))
    assert TaskRecord.from_payload(value) == TASK_RECORD
    assert TASK_RECORD.payload() == value


def newer(name: str) -> bytes:
    """A golden file as a newer release would write it: with another version, and a field that is not known today."""
    return json.dumps(json.loads(golden(name)) | {"version": 2, "unknown": [1]}).encode()


def test_a_ledger_of_a_newer_release_is_refused(folder):
    folder.write(LEDGER, newer("ledger-planned.json"))
    with pytest.raises(UnreadableLedgerError, match=NEWER):
        load(folder)


def test_a_manifest_of_a_newer_release_is_refused(folder):
    folder.write(MANIFEST, newer("manifest.json"))
    with pytest.raises(IncompleteOutputError, match=NEWER):
        read_manifest(folder)


def test_shards_of_a_newer_release_are_refused(folder):
    folder.write(SHARDS, newer(SHARDS))
    with pytest.raises(IncompleteOutputError, match=NEWER):
        list(read_shards(str(folder)))


def test_the_manifest_of_an_index_of_a_newer_release_is_refused(tmp_path):
    (tmp_path / "index.json").write_bytes(newer("index-manifest.json"))
    with pytest.raises(OutputError, match=NEWER):
        ManifestFile(str(tmp_path / "index.json"))
