from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec.structs import replace

from airflow_provider_lamini.api.call import PromptList
from airflow_provider_lamini.rows.counts import Counts
from airflow_provider_lamini.rows.errors import (
    LedgerConflictError,
    LedgerError,
    LedgerLostError,
    OutputError,
    UnreadableLedgerError,
)
from airflow_provider_lamini.rows.ledger.document import Header
from airflow_provider_lamini.rows.ledger.ledger import Ledger, fingerprint
from airflow_provider_lamini.rows.sources.batch import Cursor
from airflow_provider_lamini.rows.storage.folder import OutputFolder

if TYPE_CHECKING:
    from collections.abc import Callable

OWNER: dict[str, str | int] = {"dag": "nightly", "task": "infer", "run": "r1", "map_index": -1}
HEADER = Header(OWNER, settings="s", content="c", total=25, chunk_size=10, stamp="st")


def ticking() -> Callable[[], float]:
    return itertools.count(1000.0).__next__


@pytest.fixture
def ledger(folder: OutputFolder) -> Ledger:
    return Ledger.open(folder, HEADER, clock=ticking())


def begin(ledger: Ledger):
    """Plan the next chunk."""
    start = ledger.cursor
    end = min(start.row + ledger.header.chunk_size, ledger.header.total)
    return ledger.plan(start, Cursor(end, 0, end * 7, end), f"f{start.row}")


def counts(rows: int, failed: int = 0) -> Counts:
    return Counts(
        rows, rows - failed, failed, 0, {"stop": rows - failed} if rows > failed else {}, {"tokens": 1.5}
    )


def on_disk(folder: OutputFolder) -> dict:
    return json.loads(folder.read("_ledger.json"))


class TestAChunksLife:
    def test_from_plan_to_finish(self, folder, ledger):
        first = begin(ledger)
        assert (first.number, first.first_row, first.rows, first.state) == (0, 0, 10, "planned")
        first = ledger.intend(first)
        assert first.state == "intended"
        assert on_disk(folder)["open"][0]["rounds"][0]["job_id"] is None
        first = ledger.submitted(first, "job-1")
        assert (first.state, first.job_id) == ("submitted", "job-1")
        assert ledger.chunk(0) == first
        first = ledger.submitted(ledger.intend(first, rows=[3, 5]), "job-2")
        assert [each.rows for each in first.rounds] == [None, [3, 5]]
        assert first.retried == 2
        ledger.finish(first, counts(10, failed=1))
        assert (ledger.done, ledger.planned, list(ledger.chunks)) == (1, 1, [])
        assert ledger.totals == counts(10, failed=1)
        assert not ledger.exhausted

    def test_the_run_is_finished_when_all_rows_are(self, ledger):
        chunks = [begin(ledger) for _ in range(3)]
        assert [(each.first_row, each.rows) for each in chunks] == [(0, 10), (10, 10), (20, 5)]
        assert ledger.exhausted
        for chunk in (chunks[1], chunks[2], chunks[0]):
            assert not ledger.finished
            ledger.finish(chunk, counts(chunk.rows))
        assert ledger.finished
        assert ledger.totals == Counts(25, 25, 0, 0, {"stop": 25}, {"tokens": 4.5})

    def test_an_empty_input_is_finished_at_once(self, folder):
        assert Ledger.open(folder, replace(HEADER, total=0)).finished

    def test_each_step_is_on_the_storage_before_it_returns(self, folder, ledger):
        chunk = ledger.submitted(ledger.intend(begin(ledger)), "job-1")
        again = Ledger.resume(folder, OWNER)
        assert list(again.chunks) == [chunk]
        assert again.cursor == Cursor(10, 0, 70, 10)
        assert again.header == ledger.header
        assert again.header.created_at == 1000.0

    def test_the_file_does_not_grow_with_the_run(self, folder):
        total = 120
        ledger = Ledger.open(folder, replace(HEADER, total=total, chunk_size=1))
        sizes = []
        for _ in range(total):
            chunk = ledger.submitted(ledger.intend(begin(ledger)), "job")
            if len(ledger.chunks) > 3:
                ledger.finish(ledger.chunks[1], Counts(1, 1, 0, 0, {"stop": 1}))
            sizes.append(len(folder.read("_ledger.json")))
            assert chunk.number + 1 == ledger.planned
        assert max(sizes) < 2_000

    def test_rows_that_are_not_the_next_ones_are_refused(self, ledger):
        for start, after in ((0, 9), (1, 11), (0, 0), (0, 11)):
            with pytest.raises(LedgerError, match="should be 10 rows from row 0 on"):
                ledger.plan(Cursor(start), Cursor(after), "f")
        assert ledger.planned == 0

    @pytest.mark.parametrize("wrong", [counts(9), Counts(10, 9, 0), Counts(10, 10, 1), Counts()])
    def test_counts_that_do_not_fit_are_refused(self, ledger, wrong):
        chunk = begin(ledger)
        with pytest.raises(LedgerError, match="has 10 rows"):
            ledger.finish(chunk, wrong)
        assert ledger.totals == Counts()

    def test_steps_out_of_order_are_refused(self, ledger):
        chunk = begin(ledger)
        with pytest.raises(LedgerError, match="no intent"):
            ledger.submitted(chunk, "job")
        with pytest.raises(LedgerError, match="no submission to forget"):
            ledger.forget(chunk)
        with pytest.raises(LedgerError, match="no such rows"):
            ledger.intend(chunk, rows=[10])
        ledger.intend(chunk)
        with pytest.raises(LedgerError, match="not settled"):
            ledger.intend(chunk)
        ledger.finish(chunk, counts(10))
        for step in (ledger.intend, ledger.forget, lambda each: ledger.finish(each, counts(10))):
            with pytest.raises(LedgerError, match=r"Chunk 0 of .* is not open"):
                step(chunk)


class TestTogether:
    def test_changes_are_written_once_at_the_end(self, folder, ledger):
        first = begin(ledger)
        before = on_disk(folder)
        with ledger.together():
            ledger.finish(first, counts(10))
            second = ledger.intend(begin(ledger))
            assert ledger.chunks == [second]
            assert on_disk(folder) == before
        assert on_disk(folder)["planned"] == 2
        assert [each["number"] for each in on_disk(folder)["open"]] == [1]

    def test_nothing_is_changed_where_one_fails(self, folder, ledger):
        before = on_disk(folder)

        def fail_in_between() -> None:
            with ledger.together():
                chunk = begin(ledger)
                ledger.finish(chunk, counts(10))
                ledger.finish(chunk, counts(10))

        with pytest.raises(LedgerError, match="not open"):
            fail_in_between()
        assert on_disk(folder) == before
        assert ledger.planned == 0
        begin(ledger)
        assert on_disk(folder)["planned"] == 1

    def test_they_are_not_nested(self, ledger):
        with ledger.together(), pytest.raises(LedgerError, match="already collected"), ledger.together():
            pass

    def test_no_change_is_no_write(self, folder, ledger):
        folder.delete("_ledger.json")
        with ledger.together():
            pass
        assert not folder.exists("_ledger.json")


class TestUnknownSubmissions:
    def test_an_intent_of_an_earlier_process_is_unknown_until_it_is_settled(self, folder, ledger):
        lost, found, fine = ledger.intend(begin(ledger)), ledger.intend(begin(ledger)), begin(ledger)
        ledger.submitted(ledger.intend(fine), "job-3")
        assert ledger.unknown == []
        again = Ledger.open(folder, HEADER)
        assert again.unknown == [lost, found]
        again.submitted(found, "job-2")
        assert again.unknown == [lost]
        assert again.forget(lost).state == "planned"
        assert again.unknown == []
        again.intend(lost)
        assert again.unknown == []
        assert [each.number for each in Ledger.resume(folder, OWNER).unknown] == [0]

    def test_forgetting_a_later_round_keeps_the_earlier_ones(self, folder, ledger):
        chunk = ledger.intend(ledger.submitted(ledger.intend(begin(ledger)), "job-1"), rows=[2])
        again = Ledger.resume(folder, OWNER)
        assert again.unknown == [chunk]
        assert again.forget(chunk).job_id == "job-1"


class TestOpening:
    def test_the_same_run_goes_on(self, folder, ledger):
        chunk = begin(ledger)
        later = replace(HEADER, stamp="other", created_at=5.0)
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
            ({"content": "x"}, "with another input"),
            ({"total": 26}, r"with another input \(25 rows then, 26 now\)"),
            ({"settings": "x"}, "with other settings"),
            ({"chunk_size": 11}, "with other settings"),
        ],
    )
    def test_another_run_is_refused_with_what_differs_and_the_remedy(self, folder, ledger, other, reason):
        begin(ledger)
        folder.write("part-00000.jsonl", b"precious")
        before = on_disk(folder)
        with pytest.raises(LedgerConflictError, match=reason) as caught:
            Ledger.open(folder, replace(HEADER, **other))
        assert str(folder) in str(caught.value)
        assert "Choose another folder" in str(caught.value)
        assert on_disk(folder) == before
        assert folder.read("part-00000.jsonl") == b"precious"
        ledger.check()

    @pytest.mark.parametrize("other", [{"content": "x"}, {"settings": "x"}, {"chunk_size": 11, "total": 26}])
    def test_another_try_of_the_task_begins_anew_where_nothing_was_submitted(self, folder, ledger, other):
        ledger.forget(ledger.intend(begin(ledger)))
        fresh = Ledger.open(folder, replace(HEADER, **other))
        assert fresh.planned == 0
        assert fresh.header.total == other.get("total", HEADER.total)
        with pytest.raises(LedgerLostError):
            ledger.check()

    @pytest.mark.parametrize("told", [True, False])
    def test_what_was_submitted_or_may_have_been_is_not_given_up(self, folder, ledger, told):
        intended = ledger.intend(begin(ledger))
        if told:
            ledger.submitted(intended, "job-1")
        with pytest.raises(LedgerConflictError, match="with other settings"):
            Ledger.open(folder, replace(HEADER, settings="x"))

    @pytest.mark.parametrize("same", [True, False])
    def test_replacing_removes_our_files_only(self, folder, ledger, same):
        begin(ledger)
        ours = ["part-00000.jsonl", "part-123456.jsonl", "errors-00001.jsonl", "manifest.json"]
        work = "_work/chunk-00000.round-0.json"
        foreign = ["notes.txt", "part-1.jsonl", "part-00000.csv", "_work/mine.json"]
        for name in (*ours, work, *foreign):
            folder.write(name, b"x")
        if same:
            fresh = Ledger.open(folder, HEADER, if_same="replace")
        else:
            fresh = Ledger.open(folder, replace(HEADER, content="x"), if_other="replace")
        assert (fresh.planned, list(fresh.chunks), fresh.totals) == (0, [], Counts())
        assert folder.names() == sorted(["_ledger.json", *(name for name in foreign if "/" not in name)])
        assert [name for name in folder.names(work=True) if "owner-" not in name] == ["_work/mine.json"]
        with pytest.raises(LedgerLostError):
            ledger.check()

    def test_results_without_a_ledger_are_of_another_run(self, folder):
        folder.write("part-00000.jsonl", b"x")
        with pytest.raises(LedgerConflictError, match="results without a ledger"):
            Ledger.open(folder, HEADER)
        Ledger.open(folder, HEADER, if_other="replace")
        assert folder.names() == ["_ledger.json"]

    def test_foreign_files_do_no_harm(self, folder):
        for name in ("notes.txt", "input.jsonl", "part.jsonl", "_SUCCESS"):
            folder.write(name, b"x")
        Ledger.open(folder, HEADER)
        assert len(folder.names()) == 5

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "not a ledger of this package, or only a piece"),
            (b"{", "not a ledger of this package, or only a piece"),
            (b"[]", "not a ledger of this package, or only a piece"),
            (b"\xff\xfe", "not a ledger of this package, or only a piece"),
            (b'{"accounts": []}', "not a ledger of this package, or only a piece"),
            (b'{"format": "lamini-ledger", "version": 2}', "has version 2, and this version .* reads 1"),
            (b'{"format": "lamini-ledger", "version": 1}', "is damaged"),
            (b'{"format": "lamini-ledger", "version": 1, "header": {"owner": 5}}', "is damaged"),
        ],
    )
    def test_a_file_that_is_no_ledger_is_refused_and_kept(self, folder, content, reason):
        folder.write("_ledger.json", content)
        for policy in ("fail", "replace"):
            with pytest.raises(UnreadableLedgerError, match=rf"_ledger\.json.*{reason}"):
                Ledger.open(folder, HEADER, if_other=policy)
        with pytest.raises(UnreadableLedgerError):
            Ledger.resume(folder, OWNER)
        assert folder.read("_ledger.json") == content

    def test_every_torn_ledger_is_refused(self, folder, ledger):
        ledger.intend(begin(ledger))
        whole = folder.read("_ledger.json")
        for length in range(len(whole)):
            folder.write("_ledger.json", whole[:length], durable=False)
            with pytest.raises(UnreadableLedgerError):
                Ledger.open(folder, HEADER)

    def test_resuming_without_a_ledger_says_so(self, folder):
        with pytest.raises(LedgerError, match="is gone, though the run had begun"):
            Ledger.resume(folder, OWNER)

    def test_resuming_the_run_of_another_is_refused(self, folder, ledger):
        with pytest.raises(LedgerConflictError, match="now holds the results of dag nightly"):
            Ledger.resume(folder, OWNER | {"task": "other"})
        ledger.check()


class TestTwoProcesses:
    def test_the_earlier_one_stops_at_its_next_step_and_changes_nothing(self, folder, ledger):
        chunk = begin(ledger)
        later = Ledger.open(folder, HEADER)
        later.intend(chunk)
        before = on_disk(folder)
        steps: list[Callable[[], object]] = [
            ledger.check,
            lambda: ledger.intend(chunk),
            lambda: ledger.finish(chunk, counts(10)),
            lambda: begin(ledger),
        ]
        for step in steps:
            with pytest.raises(LedgerLostError, match=f"{folder}.*This one stops"):
                step()
        assert on_disk(folder) == before
        later.submitted(chunk, "job")

    def test_a_ledger_that_somebody_removed_stops_its_writer(self, folder, ledger):
        folder.delete("_ledger.json")
        with pytest.raises(LedgerLostError):
            begin(ledger)
        assert folder.names() == []

    def test_two_that_begin_at_once_do_not_both_go_on(self, folder):
        one = Ledger.open(folder, HEADER)
        two = Ledger.open(folder, replace(HEADER, owner=OWNER | {"run": "r2"}), if_other="replace")
        begin(two)
        with pytest.raises(LedgerLostError):
            begin(one)

    def test_a_write_that_fails_changes_nothing(self, tmp_path):
        folder = OutputFolder(str(tmp_path / "out"))
        ledger = Ledger.open(folder, HEADER)
        chunk = begin(ledger)
        (tmp_path / "out").rename(tmp_path / "away")
        (tmp_path / "out").write_text("a file")
        with pytest.raises((OutputError, LedgerLostError)):
            ledger.intend(chunk)
        assert ledger.chunk(0).state == "planned"


def test_a_fingerprint_tells_prompts_apart():
    assert fingerprint(PromptList(["a", "b"])) == fingerprint(PromptList(("a", "b")))
    different = (["a", "b"], ["ab"], ["a,b"], ["b", "a"], [], [""])
    assert len({fingerprint(PromptList(each)) for each in different}) == len(different)


def test_the_ledger_holds_no_prompt_and_no_key(folder, ledger):
    """Only what is listed here: a reviewer sees at once when something is added."""
    ledger.submitted(ledger.intend(begin(ledger)), "job")
    document = on_disk(folder)
    said = {"format", "version", "writer", "generation", "header", "next", "planned", "open", "totals"}
    assert set(document) == said | {"try_began", "done_before"}
    assert set(document["header"]) == set(msgspec.structs.asdict(HEADER))
    assert set(document["open"][0]) == {"number", "start", "rows", "fingerprint", "rounds", "seal"}
