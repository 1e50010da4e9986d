from __future__ import annotations

import itertools
import json
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec.structs import replace

from airflow_provider_lamini.rows.batch import Position
from airflow_provider_lamini.rows.counts import Counts
from airflow_provider_lamini.rows.errors import (
    LedgerConflictError,
    LedgerError,
    LedgerLostError,
    OutputError,
    UnreadableLedgerError,
)
from airflow_provider_lamini.rows.hashes import fingerprint, row_keys
from airflow_provider_lamini.rows.ledger.document import Header
from airflow_provider_lamini.rows.ledger.ledger import Ledger
from airflow_provider_lamini.rows.output.manifest import write_manifest
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.storage.run_files import partial_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.rows.ledger.change import LedgerChange
    from airflow_provider_lamini.rows.ledger.document import Chunk

OWNER: dict[str, str | int] = {"dag": "nightly", "task": "infer", "run": "r1", "map_index": -1}
HEADER = Header(OWNER, fingerprint="s", total_rows=25, chunk_size=10, input_version="v1")


def ticking() -> Callable[[], float]:
    return itertools.count(1000.0).__next__


@pytest.fixture(autouse=True)
def nobody_writes_late(monkeypatch):
    monkeypatch.setattr(Ledger, "late_write", 0.0)


@pytest.fixture
def ledger(folder: OutputFolder) -> Ledger:
    return Ledger.open(folder, HEADER, clock=ticking())


def plan_next(change: LedgerChange) -> Chunk:
    """Plan the next chunk within a transaction."""
    header, start = change.document.header, change.document.next
    end = min(start.row + header.chunk_size, header.total_rows)
    return change.plan(start, Position(end, 0, end * 7, end), f"f{start.row}")


def plan(ledger: Ledger) -> Chunk:
    """Plan the next chunk."""
    with ledger.transaction() as change:
        return plan_next(change)


def intend(ledger: Ledger, chunk: Chunk, rows: list[int] | None = None) -> Chunk:
    with ledger.transaction() as change:
        return change.intend(chunk, rows)


def plan_rows(ledger: Ledger, first: int, after: int) -> None:
    with ledger.transaction() as change:
        change.plan(Position(first), Position(after), "f")


def finish(ledger: Ledger, chunk: Chunk, counts: Counts) -> None:
    with ledger.transaction() as change:
        change.finish(chunk, counts)


def end_run(folder: OutputFolder, ledger: Ledger) -> None:
    """Finish all chunks, and write the manifest."""
    while not ledger.exhausted:
        plan(ledger)
    for chunk in list(ledger.chunks):
        folder.write(f"part-{chunk.number:05d}.jsonl", b"")
        finish(ledger, chunk, counts(chunk.rows))
    write_manifest(folder, ledger, model="m", source="rows")


def counts(rows: int, failed: int = 0) -> Counts:
    return Counts(
        rows, rows - failed, failed, 0, {"stop": rows - failed} if rows > failed else {}, {"tokens": 1.5}
    )


def on_disk(folder: OutputFolder) -> dict:
    return json.loads(folder.read("_ledger.json"))


class TestAChunksLife:
    def test_its_helper_files_stay_until_its_end_is_written(self, folder, ledger):
        first = ledger.record_job_id(intend(ledger, plan(ledger)), "job-1")
        first = ledger.record_job_id(intend(ledger, first, rows=[3, 5]), "job-2")
        folder.write(partial_name(0, 1), b"")
        helpers = {name for name in folder.names(work=True) if "owner-" not in name}
        assert len(helpers) == 3
        with ledger.transaction(later=True) as change:
            change.finish(first, counts(10))
        assert helpers <= set(folder.names(work=True))
        ledger.commit()
        folder.settle()  # an object store removes them beside what follows
        assert not helpers & set(folder.names(work=True))

    def test_from_plan_to_finish(self, folder, ledger):
        first = plan(ledger)
        assert (first.number, first.first_row, first.rows, first.state) == (0, 0, 10, "planned")
        first = intend(ledger, first)
        assert first.state == "intended"
        assert on_disk(folder)["open"][0]["rounds"][0]["job_id"] is None
        first = ledger.record_job_id(first, "job-1")
        assert (first.state, first.job_id) == ("submitted", "job-1")
        assert ledger.chunk(0) == first
        first = ledger.record_job_id(intend(ledger, first, rows=[3, 5]), "job-2")
        assert [each.rows for each in first.rounds] == [None, [3, 5]]
        assert first.retried == 2
        finish(ledger, first, counts(10, failed=1))
        assert (ledger.document.planned, list(ledger.chunks)) == (1, [])
        assert ledger.totals == counts(10, failed=1)
        assert not ledger.exhausted

    def test_the_run_is_finished_when_all_rows_are(self, ledger):
        chunks = [plan(ledger) for _ in range(3)]
        assert [(each.first_row, each.rows) for each in chunks] == [(0, 10), (10, 10), (20, 5)]
        assert ledger.exhausted
        for chunk in (chunks[1], chunks[2], chunks[0]):
            assert not ledger.finished
            finish(ledger, chunk, counts(chunk.rows))
        assert ledger.finished
        assert ledger.totals == Counts(25, 25, 0, 0, {"stop": 25}, {"tokens": 4.5})

    def test_an_empty_input_is_finished_at_once(self, folder):
        assert Ledger.open(folder, replace(HEADER, total_rows=0)).finished

    def test_each_step_is_written_before_it_returns(self, folder, ledger):
        chunk = ledger.record_job_id(intend(ledger, plan(ledger)), "job-1")
        again = Ledger.resume(folder, OWNER)
        assert [(each.number, each.job_id) for each in again.chunks] == [(0, chunk.job_id)]
        assert again.document.next == Position(10, 0, 70, 10)
        assert again.header == ledger.header
        assert again.header.created_at == 1000.0

    def test_the_file_does_not_grow_with_the_run(self, folder):
        total = 120
        ledger = Ledger.open(folder, replace(HEADER, total_rows=total, chunk_size=1))
        sizes = []
        for _ in range(total):
            chunk = ledger.record_job_id(intend(ledger, plan(ledger)), "job")
            if len(ledger.chunks) > 3:
                finish(ledger, ledger.chunks[1], Counts(1, 1, 0, 0, {"stop": 1}))
            sizes.append(len(folder.read("_ledger.json")))
            assert chunk.number + 1 == ledger.document.planned
        assert max(sizes) < 2_000

    def test_rows_other_than_the_next_ones_are_refused(self, ledger):
        for start, after in ((0, 9), (1, 11), (0, 0), (0, 11)):
            with pytest.raises(LedgerError, match="should have 10 rows from row 0 on"):
                plan_rows(ledger, start, after)
        assert ledger.document.planned == 0

    @pytest.mark.parametrize("wrong", [counts(9), Counts(10, 9, 0), Counts(10, 10, 1), Counts()])
    def test_counts_that_do_not_match_are_refused(self, ledger, wrong):
        chunk = plan(ledger)
        with pytest.raises(LedgerError, match="has 10 rows"):
            finish(ledger, chunk, wrong)
        assert ledger.totals == Counts()

    def test_steps_out_of_order_are_refused(self, ledger):
        chunk = plan(ledger)
        with pytest.raises(LedgerError, match="no intent that job job could belong to"):
            ledger.record_job_id(chunk, "job")
        with pytest.raises(LedgerError, match="no submission to forget"):
            ledger.forget(chunk)
        with pytest.raises(LedgerError, match="no such rows"):
            intend(ledger, chunk, rows=[10])
        intend(ledger, chunk)
        with pytest.raises(LedgerError, match="an intent without an outcome"):
            intend(ledger, chunk)
        finish(ledger, chunk, counts(10))
        for step in (partial(intend, ledger), ledger.forget, lambda each: finish(ledger, each, counts(10))):
            with pytest.raises(LedgerError, match="Chunk 0 is not open"):
                step(chunk)


class TestTransactions:
    def test_changes_are_written_once_at_the_end(self, folder, ledger):
        first = plan(ledger)
        before = on_disk(folder)
        with ledger.transaction() as change:
            change.finish(first, counts(10))
            second = change.intend(plan_next(change))
            assert change.document.open == [second]
            assert on_disk(folder) == before
        assert ledger.chunks == [second]
        assert on_disk(folder)["planned"] == 2
        assert [chunk["number"] for chunk in on_disk(folder)["open"]] == [1]

    def test_nothing_changes_if_one_change_fails(self, folder, ledger):
        before = on_disk(folder)

        def fail_in_between() -> None:
            with ledger.transaction() as change:
                chunk = plan_next(change)
                change.finish(chunk, counts(10))
                change.finish(chunk, counts(10))

        with pytest.raises(LedgerError, match="not open"):
            fail_in_between()
        assert on_disk(folder) == before
        assert ledger.document.planned == 0
        plan(ledger)
        assert on_disk(folder)["planned"] == 1

    def test_other_changes_meanwhile_are_refused(self, ledger):
        with pytest.raises(LedgerError, match="changed while a transaction was open"), ledger.transaction():
            plan(ledger)

    def test_without_changes_nothing_is_written(self, folder, ledger):
        folder.delete("_ledger.json")
        with ledger.transaction():
            pass
        assert not folder.exists("_ledger.json")


class TestUnknownSubmissions:
    def test_an_intent_of_an_earlier_process_is_unknown_until_it_is_decided(self, folder, ledger):
        lost, found, fine = intend(ledger, plan(ledger)), intend(ledger, plan(ledger)), plan(ledger)
        ledger.record_job_id(intend(ledger, fine), "job-3")
        assert ledger.unknown_submissions == []
        again = Ledger.open(folder, HEADER)
        assert again.unknown_submissions == [lost, found]
        again.record_job_id(found, "job-2")
        assert again.unknown_submissions == [lost]
        assert again.forget(lost).state == "planned"
        assert again.unknown_submissions == []
        intend(again, lost)
        assert again.unknown_submissions == []
        assert [each.number for each in Ledger.resume(folder, OWNER).unknown_submissions] == [0]

    def test_forgetting_a_round_keeps_the_earlier_ones(self, folder, ledger):
        chunk = intend(ledger, ledger.record_job_id(intend(ledger, plan(ledger)), "job-1"), rows=[2])
        again = Ledger.resume(folder, OWNER)
        assert again.unknown_submissions == [chunk]
        assert again.forget(chunk).job_id == "job-1"


class TestSplitting:
    """The platform has refused the rows of a chunk together."""

    @pytest.fixture
    def split(self, ledger):
        """A chunk whose first submission was refused."""
        chunk = intend(ledger, plan(ledger))
        with ledger.transaction() as change:
            return change.split(chunk, 0, [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])

    def step(self, ledger, name, chunk, key):
        with ledger.transaction() as change:
            return getattr(change, name)(chunk, key)

    def test_each_piece_is_intended_submitted_and_settled(self, folder, ledger, split):
        assert split.state == "planned"
        assert [(each.key, each.state) for each in split.submissions] == [(0, "planned"), (5, "planned")]
        assert self.step(ledger, "intend_piece", split, 0).state == "intended"
        assert ledger.record_job_id(split, "job-1", 0).state == "planned"
        self.step(ledger, "intend_piece", split, 5)
        chunk = ledger.record_job_id(split, "job-2", 5)
        assert (chunk.state, chunk.job_ids, chunk.retried) == ("submitted", ["job-1", "job-2"], 0)
        chunk = self.step(ledger, "settle_piece", chunk, 0)
        assert chunk.job_ids == ["job-2"]
        assert list(Ledger.resume(folder, OWNER).chunks) == [chunk]

    def test_a_piece_is_split_again_in_its_place(self, ledger, split):
        self.step(ledger, "intend_piece", split, 5)
        with ledger.transaction() as change:
            chunk = change.split(split, 5, [[5, 6], [7, 8, 9]])
        assert [each.rows for each in chunk.submissions] == [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]
        assert chunk.rounds[0].rows is None

    def test_the_intent_of_a_piece_is_unknown_to_the_next_process(self, folder, ledger, split):
        self.step(ledger, "intend_piece", split, 5)
        again = Ledger.resume(folder, OWNER)
        (chunk,) = again.unknown_submissions
        assert [each.key for each in again.unknown_of(chunk)] == [5]
        forgotten = again.forget(chunk, 5)
        assert [each.state for each in forgotten.submissions] == ["planned", "planned"]
        assert again.unknown_submissions == []

    def test_steps_of_pieces_out_of_order_are_refused(self, ledger, split):
        with pytest.raises(LedgerError, match="no intent that job job could belong to"):
            ledger.record_job_id(split, "job", 0)
        with pytest.raises(LedgerError, match="no submission of these rows"):
            self.step(ledger, "intend_piece", split, 3)
        with pytest.raises(LedgerError, match="no submission of these rows"):
            ledger.forget(split)

    @pytest.mark.usefixtures("split")
    def test_smaller_chunks_are_planned_from_there_on(self, ledger):
        with ledger.transaction() as change:
            change.limit_chunks(5)
        plan_rows(ledger, 10, 15)
        plan_rows(ledger, 15, 20)
        with ledger.transaction() as change:
            change.limit_chunks(3)
        plan_rows(ledger, 20, 23)
        plan_rows(ledger, 23, 25)
        assert list(ledger.document.parts()) == [(0, 10), (10, 5), (15, 5), (20, 3), (23, 2)]
        assert ledger.exhausted


class TestOpening:
    def test_another_chunk_size_continues_the_run(self, folder, ledger):
        plan(ledger)
        again = Ledger.open(folder, replace(HEADER, chunk_size=4))
        again.update_header(chunk_size=4)
        plan_rows(again, 10, 14)
        assert list(again.document.parts()) == [(0, 10), (10, 4)]
        assert Ledger.resume(folder, OWNER).header == again.header

    def test_the_same_run_continues(self, folder, ledger):
        chunk = plan(ledger)
        later = replace(HEADER, created_at=5.0)
        again = Ledger.open(folder, later)
        assert list(again.chunks) == [chunk]
        assert again.header == ledger.header

    @pytest.mark.parametrize(
        ("other", "reason"),
        [
            (
                {"owner": OWNER | {"run": "r2"}},
                "run r1, map_index -1, not of dag nightly, task infer, run r2",
            ),
            ({"owner": OWNER | {"map_index": 0}}, "map_index 0"),
            ({"input_version": "v2"}, "with another input"),
            ({"total_rows": 26}, r"with another input \(25 rows then, 26 now\)"),
            ({"fingerprint": "x"}, "with other settings"),
        ],
    )
    def test_another_run_is_refused_with_the_difference_and_a_remedy(self, folder, ledger, other, reason):
        plan(ledger)
        folder.write("part-00000.jsonl", b"precious")
        before = on_disk(folder)
        with pytest.raises(LedgerConflictError, match=reason) as caught:
            Ledger.open(folder, replace(HEADER, **other))
        assert str(folder) in str(caught.value)
        assert "Choose another folder" in str(caught.value)
        assert on_disk(folder) == before
        assert folder.read("part-00000.jsonl") == b"precious"
        ledger.check_acquired()

    @pytest.mark.parametrize(
        "other", [{"input_version": "v2"}, {"fingerprint": "x"}, {"chunk_size": 11, "total_rows": 26}]
    )
    def test_another_try_starts_over_if_nothing_was_submitted(self, folder, ledger, other):
        ledger.forget(intend(ledger, plan(ledger)))
        fresh = Ledger.open(folder, replace(HEADER, **other))
        assert fresh.document.planned == 0
        assert fresh.header.total_rows == other.get("total_rows", HEADER.total_rows)
        with pytest.raises(LedgerLostError):
            ledger.check_acquired()

    @pytest.mark.parametrize("told", [True, False])
    def test_a_run_that_may_have_submitted_something_is_not_replaced(self, folder, ledger, told):
        intended = intend(ledger, plan(ledger))
        if told:
            ledger.record_job_id(intended, "job-1")
        with pytest.raises(LedgerConflictError, match="with other settings"):
            Ledger.open(folder, replace(HEADER, fingerprint="x"))

    @pytest.mark.parametrize("same", [True, False])
    def test_replacing_removes_only_our_files(self, folder, ledger, same):
        plan(ledger)
        ours = ["part-00000.jsonl", "part-123456.jsonl", "errors-00001.jsonl", "manifest.json", "report.md"]
        work = "_work/chunk-00000.round-0.json"
        foreign = ["notes.txt", "part-1.jsonl", "part-00000.csv", "_work/mine.json"]
        for name in (*ours, work, *foreign):
            folder.write(name, b"x")
        if same:
            fresh = Ledger.open(folder, HEADER, if_same="replace")
        else:
            fresh = Ledger.open(folder, replace(HEADER, input_version="v2"), if_other="replace")
        assert (fresh.document.planned, list(fresh.chunks), fresh.totals) == (0, [], Counts())
        assert folder.names() == sorted(["_ledger.json", *(name for name in foreign if "/" not in name)])
        assert [name for name in folder.names(work=True) if "owner-" not in name] == ["_work/mine.json"]
        with pytest.raises(LedgerLostError):
            ledger.check_acquired()

    def test_results_without_a_ledger_belong_to_another_run(self, folder):
        folder.write("part-00000.jsonl", b"x")
        with pytest.raises(LedgerConflictError, match="results without a ledger"):
            Ledger.open(folder, HEADER)
        Ledger.open(folder, HEADER, if_other="replace")
        assert folder.names() == ["_ledger.json"]

    def test_other_files_are_ignored(self, folder):
        for name in ("notes.txt", "input.jsonl", "part.jsonl", "_SUCCESS"):
            folder.write(name, b"x")
        Ledger.open(folder, HEADER)
        assert len(folder.names()) == 5

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "is not a ledger of airflow-provider-lamini, or it is incomplete"),
            (b"{", "is not a ledger of airflow-provider-lamini, or it is incomplete"),
            (b"[]", "is not a ledger of airflow-provider-lamini, or it is incomplete"),
            (b"\xff\xfe", "is not a ledger of airflow-provider-lamini, or it is incomplete"),
            (b'{"accounts": []}', "is not a ledger of airflow-provider-lamini, or it is incomplete"),
            (
                b'{"format": "airflow-provider-lamini/ledger", "version": 2}',
                "has version 2 of its format, and this release reads versions up to 1",
            ),
            (b'{"format": "airflow-provider-lamini/ledger", "version": 1}', "is damaged"),
            (
                b'{"format": "airflow-provider-lamini/ledger", "version": 1, "header": {"owner": 5}}',
                "is damaged",
            ),
        ],
    )
    def test_a_file_that_is_not_a_ledger_is_refused_and_kept(self, folder, content, reason):
        folder.write("_ledger.json", content)
        for policy in ("fail", "replace"):
            with pytest.raises(UnreadableLedgerError, match=rf"_ledger\.json.*{reason}"):
                Ledger.open(folder, HEADER, if_other=policy)
        with pytest.raises(UnreadableLedgerError):
            Ledger.resume(folder, OWNER)
        assert folder.read("_ledger.json") == content

    def test_every_truncated_ledger_is_refused(self, folder, ledger):
        intend(ledger, plan(ledger))
        whole = folder.read("_ledger.json")
        for length in range(len(whole)):
            folder.write("_ledger.json", whole[:length], durable=False)
            with pytest.raises(UnreadableLedgerError):
                Ledger.open(folder, HEADER)

    def test_resuming_without_a_ledger_says_so(self, folder):
        with pytest.raises(LedgerError, match="is gone, although the run had begun"):
            Ledger.resume(folder, OWNER)

    def test_resuming_the_run_of_another_is_refused(self, folder, ledger):
        with pytest.raises(LedgerConflictError, match="now holds the results of dag nightly"):
            Ledger.resume(folder, OWNER | {"task": "other"})
        ledger.check_acquired()


class TestTwoProcesses:
    def test_the_earlier_process_stops_at_its_next_step_and_changes_nothing(self, folder, ledger):
        chunk = plan(ledger)
        later = Ledger.open(folder, HEADER)
        intend(later, chunk)
        before = on_disk(folder)
        steps: list[Callable[[], object]] = [
            ledger.check_acquired,
            lambda: intend(ledger, chunk),
            lambda: finish(ledger, chunk, counts(10)),
            lambda: plan(ledger),
        ]
        for step in steps:
            with pytest.raises(LedgerLostError, match=f"{folder}.*This process stops"):
                step()
        assert on_disk(folder) == before
        later.record_job_id(chunk, "job")

    @pytest.mark.parametrize("deferrals", [0, 2])
    def test_the_earlier_process_stops_although_the_later_one_has_ended_the_run(
        self, folder, ledger, deferrals
    ):
        chunk = plan(ledger)
        later = Ledger.open(folder, HEADER)
        for _ in range(deferrals):
            later.commit()
            later = Ledger.resume(folder, OWNER)
        end_run(folder, later)
        with pytest.raises(LedgerLostError):
            intend(ledger, chunk)

    @pytest.mark.usefixtures("ledger")
    def test_a_run_whose_processes_came_one_after_the_other_leaves_no_claim(self, folder):
        end_run(folder, Ledger.resume(folder, OWNER))
        assert folder.names(work=True) == []

    def test_a_removed_ledger_stops_its_writer(self, folder, ledger):
        folder.delete("_ledger.json")
        if (
            folder.remote
        ):  # the writer only looks for the claim of a later process, and writes the whole ledger again
            assert plan(ledger).number == 0
            return
        with pytest.raises(LedgerLostError):
            plan(ledger)
        assert folder.names() == []

    def test_two_runs_that_begin_at_the_same_time_do_not_both_continue(self, folder):
        one = Ledger.open(folder, HEADER)
        two = Ledger.open(folder, replace(HEADER, owner=OWNER | {"run": "r2"}), if_other="replace")
        plan(two)
        with pytest.raises(LedgerLostError):
            plan(one)

    def test_a_write_that_fails_changes_nothing(self, tmp_path):
        folder = OutputFolder(str(tmp_path / "out"))
        ledger = Ledger.open(folder, HEADER)
        chunk = plan(ledger)
        (tmp_path / "out").rename(tmp_path / "away")
        (tmp_path / "out").write_text("a file")
        with pytest.raises((OutputError, LedgerLostError)):
            intend(ledger, chunk)
        assert ledger.chunk(0).state == "planned"


def test_different_prompts_have_different_fingerprints():
    assert fingerprint(row_keys(["a", "b"])) == fingerprint(row_keys(("a", "b")))
    different = (["a", "b"], ["ab"], ["a,b"], ["b", "a"], [], [""])
    assert len({fingerprint(row_keys(each)) for each in different}) == len(different)


def test_the_ledger_holds_no_prompt_and_no_key(folder, ledger):
    """Only what is listed here: a reviewer sees at once when something is added."""
    ledger.record_job_id(intend(ledger, plan(ledger)), "job")
    ledger.commit()
    document = on_disk(folder)
    said = {"format", "version", "writer_token", "generation", "header", "next", "planned", "open", "totals"}
    fields = {"try_started_at", "rows_done_before", "max_chunk_rows", "sizes"}
    assert set(document) == said | fields | ({"exclusive"} if folder.remote else set())
    assert set(document["header"]) == set(msgspec.structs.asdict(HEADER))
    assert set(document["open"][0]) == {"number", "start", "rows", "fingerprint", "rounds"}
