from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.batch import Position
from airflow_provider_lamini.rows.counts import Counts
from airflow_provider_lamini.rows.errors import (
    ColumnError,
    IncompleteOutputError,
    LedgerLostError,
    OutputError,
)
from airflow_provider_lamini.rows.failures import FailureReason, RowFailure
from airflow_provider_lamini.rows.ledger.document import Header
from airflow_provider_lamini.rows.ledger.ledger import Ledger
from airflow_provider_lamini.rows.output.chunk_result import NOT_ANSWERED, ChunkResult
from airflow_provider_lamini.rows.output.manifest import read_manifest, write_manifest
from airflow_provider_lamini.rows.output.parts import PartWriter, check_passthrough
from airflow_provider_lamini.rows.storage.run_files import partial_names

if TYPE_CHECKING:
    from airflow_provider_lamini.rows.storage.folder import OutputFolder


def lines(folder: OutputFolder, name: str) -> list[dict]:
    return [json.loads(line) for line in folder.lines(name)]


class TestResults:
    def test_a_row_without_an_answer_has_failed(self):
        result = ChunkResult.pending(3)
        result.settle(1, {"label": "x"}, "stop")
        assert result.failed == [0, 2]
        assert result.errors == [NOT_ANSWERED.text, None, NOT_ANSWERED.text]
        result.fail(1, RowFailure(FailureReason.TRUNCATED, "cut off"), "length")
        assert (result.outputs[1], result.finish_reasons[1], result.errors[1]) == (None, "length", "cut off")

    def test_rows_are_counted_by_outcome(self):
        result = ChunkResult(
            ["a", None, "c", None],
            ["stop", "length", "stop", None],
            [None, "bad", None, "worse"],
            {1: FailureReason.TRUNCATED, 3: FailureReason.REJECTED},
        )
        assert result.counts(retried=2, sums={"tokens": 7}) == Counts(
            4, 2, 2, 2, {"stop": 2}, {"tokens": 7}, {"truncated": 1, "rejected": 1}
        )
        assert ChunkResult(["a"], [None], [None]).counts() == Counts(1, 1, 0)
        assert ChunkResult([], [], []).counts() == Counts()

    def test_lists_of_different_lengths_are_refused(self):
        with pytest.raises(ValueError, match="different lengths"):
            ChunkResult(["a"], [], [None])

    def test_each_error_needs_a_reason(self):
        with pytest.raises(ValueError, match="failures must name the rows with errors"):
            ChunkResult([None], [None], ["bad"])

    def test_only_rows_that_may_succeed_are_worth_sending_again(self):
        reasons = [FailureReason.EMPTY, FailureReason.REJECTED, FailureReason.NO_ANSWER]
        result = ChunkResult.pending(4)
        result.settle(1, "a")
        for row, reason in zip([0, 2, 3], reasons, strict=True):
            result.fail(row, RowFailure(reason, "bad"))
        assert result.worth_retrying == [0, 3]

    def test_new_results_replace_failures(self):
        result = ChunkResult.pending(3)
        retried = ChunkResult.pending(2)
        retried.settle(0, "a")
        assert result.with_rows([0, 2], retried).failures == dict.fromkeys([1, 2], FailureReason.NO_ANSWER)


class TestPassthrough:
    @pytest.mark.parametrize(
        ("columns", "reason"),
        [
            (["id", "index"], "the output has its own column 'index'"),
            (["error"], "the output has its own column 'error'"),
            (["error_reason"], "the output has its own column 'error_reason'"),
            (["output"], "Reserved names: index, output, finish_reason, error"),
            (["finish_reason"], "finish_reason"),
            (["id", "id"], "names the column 'id' more than once"),
            ("id", "passthrough is of type str"),
            ({"id": 1}, "passthrough is of type dict"),
            ([1], "not a column name, but of type int"),
            ([""], "not a column name"),
        ],
    )
    def test_columns_that_cannot_be_passed_through_are_refused(self, columns, reason):
        with pytest.raises(ColumnError, match=reason):
            check_passthrough(columns)

    def test_other_columns_can_be_passed_through(self):
        assert check_passthrough(["id", "the text", 'a"b', "Index"]) == ("id", "the text", 'a"b', "Index")
        assert check_passthrough(None) == check_passthrough([]) == ()


class TestParts:
    def test_a_part_has_a_line_per_row_with_all_keys(self, folder):
        result = ChunkResult(
            [{"label": "x"}, None], ["stop", None], [None, "too long"], {1: FailureReason.PROMPT_TOO_LONG}
        )
        rows = [{"id": 7, "a b": "ä\n", "body": "secret"}, {"id": None, "body": "secret"}]
        PartWriter(folder, ["id", "a b"]).write(3, range(30, 30 + len(rows)), rows, result)
        folder.settle()
        assert folder.read("part-00003.jsonl").decode() == (
            '{"index":30,"id":7,"a b":"ä\\n","output":{"label":"x"},"finish_reason":"stop","error":null}\n'
            '{"index":31,"id":null,"a b":null,"output":null,"finish_reason":null,"error":"too long"}\n'
        )
        assert lines(folder, "errors-00003.jsonl") == [
            {"index": 31, "id": None, "a b": None, "error_reason": "prompt_too_long", "error": "too long"}
        ]

    def test_without_failed_rows_there_is_no_errors_file_not_even_an_old_one(self, folder):
        writer = PartWriter(folder)
        writer.write(0, range(1), [{}], ChunkResult.pending(1))
        folder.settle()
        assert folder.names() == ["errors-00000.jsonl", "part-00000.jsonl"]
        writer.write(0, range(1), [{}], ChunkResult(["x"], ["stop"], [None]))
        folder.settle()
        assert folder.names() == ["part-00000.jsonl"]

    def test_many_lines_are_written(self, folder):
        count = 2500
        rows = [{"id": str(number)} for number in range(count)]
        result = ChunkResult([str(number) for number in range(count)], ["stop"] * count, [None] * count)
        PartWriter(folder, ["id"]).write(0, range(len(rows)), rows, result)
        folder.settle()
        found = lines(folder, "part-00000.jsonl")
        assert [each["index"] for each in found] == list(range(count))
        assert all(each["id"] == each["output"] == str(each["index"]) for each in found)

    def test_results_for_other_rows_are_refused(self, folder):
        with pytest.raises(OutputError, match="Chunk 0 has 1 rows, but results for 2"):
            PartWriter(folder).write(0, range(1), [{}], ChunkResult.pending(2))
        assert folder.names() == []

    def test_partial_results_are_loaded_again(self, folder):
        writer = PartWriter(folder)
        result = ChunkResult(["a", None], ["stop", None], [None, "bad"], {1: FailureReason.EMPTY})
        assert writer.load_partial(0, 1, 2) is None
        writer.save_partial(0, 1, result)
        writer.save_partial(0, 2, result)
        folder.settle()
        assert writer.load_partial(0, 1, 2) == result
        folder.delete_all(partial_names(0, 2))
        assert folder.names(work=True) == []

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b'{"outputs": []}', b'{"outputs":[],"finish_reasons":[],"errors":[null]}', b"\xff"],
    )
    def test_damaged_partial_results_are_refused(self, folder, content):
        folder.write("_work/chunk-00000.round-1.json", content)
        with pytest.raises(OutputError, match=r"chunk-00000\.round-1\.json is damaged. Remove it"):
            PartWriter(folder).load_partial(0, 1, 2)

    def test_partial_results_of_another_size_are_refused(self, folder):
        PartWriter(folder).save_partial(0, 1, ChunkResult.pending(3))
        with pytest.raises(OutputError, match="3 rows instead of 2"):
            PartWriter(folder).load_partial(0, 1, 2)


def finished(folder: OutputFolder, total: int = 5, size: int = 2) -> Ledger:
    """A run of which only the manifest lacks. Its second row has failed."""
    ledger = Ledger.open(folder, Header({"dag": "d"}, "s", total, size), clock=lambda: 100.0)
    writer = PartWriter(folder, ["id"])
    while not ledger.exhausted:
        start = ledger.document.next.row
        after = Position(min(start + size, total))
        with ledger.transaction() as change:
            chunk = change.plan(Position(start), after, "f")
        result = ChunkResult(
            [f"out {row}" for row in range(start, after.row)], ["stop"] * chunk.rows, [None] * chunk.rows
        )
        if not start:
            result.fail(1, RowFailure(FailureReason.EMPTY, "bad"))
        indices = range(start, after.row)
        writer.write(chunk.number, indices, [{"id": row} for row in indices], result)
        with ledger.transaction() as change:
            change.finish(chunk, result.counts())
    return ledger


class TestManifest:
    def test_it_lists_the_parts(self, folder):
        ledger = finished(folder)
        folder.write("_work/chunk-00000.round-1.json", b"left over")
        manifest = write_manifest(folder, ledger, model="m", source="tickets.jsonl", clock=lambda: 112.5)
        assert [(part.name, part.first_row, part.rows) for part in manifest.parts] == [
            ("part-00000.jsonl", 0, 2),
            ("part-00001.jsonl", 2, 2),
            ("part-00002.jsonl", 4, 1),
        ]
        assert manifest.errors == ["errors-00000.jsonl"]
        assert manifest.counts == Counts(5, 4, 1, 0, {"stop": 4}, {}, {"empty": 1})
        assert (manifest.model, manifest.input, manifest.seconds) == ("m", "tickets.jsonl", 12.5)
        assert read_manifest(folder) == manifest
        assert folder.names(work=True) == []

    def test_it_is_plain_and_small_for_xcom(self, folder):
        manifest = write_manifest(folder, finished(folder), model="m", source="x")
        plain = manifest.for_xcom()
        assert json.loads(json.dumps(plain)) == plain
        assert plain["parts"] == [folder.uri(part.name) for part in manifest.parts]
        assert plain["manifest"] == folder.uri("manifest.json")
        assert plain["errors"] == [folder.uri("errors-00000.jsonl")]
        assert plain["counts"]["failed"] == 1
        assert plain["chunks"] == 3
        assert manifest.for_xcom(max_parts=2)["parts"] is None

    def test_an_empty_run_has_a_manifest(self, folder):
        manifest = write_manifest(folder, finished(folder, total=0), model="m", source="x")
        assert manifest.parts == []
        assert list(read_outputs(folder.location)) == []

    def test_an_unfinished_run_has_no_manifest(self, folder):
        ledger = Ledger.open(folder, Header({"dag": "d"}, "s", 1, 1))
        with pytest.raises(IncompleteOutputError, match="not finished"):
            write_manifest(folder, ledger, model="m", source="x")

    def test_a_missing_part_is_noticed(self, folder):
        ledger = finished(folder)
        folder.delete("part-00001.jsonl")
        with pytest.raises(
            IncompleteOutputError, match=r"lacks 1 of its 3 parts: somebody has removed part-00001\.jsonl"
        ):
            write_manifest(folder, ledger, model="m", source="x")
        assert not folder.exists("manifest.json")

    def test_a_run_that_ended_keeps_its_manifest(self, folder):
        first = write_manifest(folder, finished(folder), model="m", source="x", clock=lambda: 101.0)
        again = Ledger.resume(folder, {"dag": "d"})
        assert write_manifest(folder, again, model="m", source="x", clock=lambda: 999.0) == first

    def test_a_process_that_has_lost_the_ledger_writes_no_manifest(self, folder):
        ledger = finished(folder)
        Ledger.open(folder, replace(ledger.header))
        with pytest.raises(LedgerLostError):
            write_manifest(folder, ledger, model="m", source="x")

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{}",
            b"[]",
            b'{"format":"x","output":"","parts":[],"errors":[],"counts":{},"model":"","input":"","seconds":1}',
        ],
    )
    def test_a_file_that_is_not_a_manifest_is_refused(self, folder, content):
        folder.write("manifest.json", content)
        with pytest.raises(
            IncompleteOutputError, match=r"manifest\.json is not a file of the format .*/manifest"
        ):
            read_manifest(folder)


class TestReading:
    def test_rows_are_read_in_order(self, folder):
        write_manifest(folder, finished(folder), model="m", source="x")
        rows = list(read_outputs(folder.location))
        assert [row["index"] for row in rows] == [0, 1, 2, 3, 4]
        assert rows[0] == {"index": 0, "id": 0, "output": "out 0", "finish_reason": "stop", "error": None}
        assert rows[1] == {"index": 1, "id": 1, "output": None, "finish_reason": None, "error": "bad"}

    def test_a_folder_whose_run_has_not_ended_is_refused(self, folder):
        finished(folder)
        with pytest.raises(IncompleteOutputError, match="has not ended"):
            next(iter(read_outputs(folder.location)))

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda data: data[: data.index(b"\n") + 1], "has 1 of 2 rows"),
            (lambda data: data[:-5], "row 3 is damaged"),
            (lambda data: data[:-1], None),
            (lambda data: data + data, "row 4 is missing or in the wrong position"),
            (
                lambda data: b"".join(reversed(data.splitlines(keepends=True))),
                "row 2 is missing or in the wrong position",
            ),
            (lambda _: b"", "has 0 of 2 rows"),
            (lambda _: b"\xff\n", "row 2 is damaged"),
            (lambda _: b"5\n", "row 2 is damaged"),
        ],
    )
    def test_the_error_names_an_incomplete_part(self, folder, damage, reason):
        write_manifest(folder, finished(folder), model="m", source="x")
        folder.write("part-00001.jsonl", damage(folder.read("part-00001.jsonl")))
        if reason is None:
            assert len(list(read_outputs(folder.location))) == 5
            return
        with pytest.raises(IncompleteOutputError, match=rf"part-00001\.jsonl:? {reason}"):
            list(read_outputs(folder.location))

    def test_the_error_names_a_missing_part(self, folder):
        write_manifest(folder, finished(folder), model="m", source="x")
        folder.delete("part-00002.jsonl")
        with pytest.raises(IncompleteOutputError, match=r"part-00002\.jsonl is missing"):
            list(read_outputs(folder.location))
