"""Each run over rows leaves a report for people beside its manifest."""

from __future__ import annotations

import json
import re
from html import escape

import pytest

from airflow_provider_lamini.exceptions import TooManyFailedRowsError
from airflow_provider_lamini.operators.classify import LaminiClassifyOperator
from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.storage.run_files import REPORT, REPORT_HTML
from airflow_provider_lamini.runs.run_report import MAX_FAILED, MAX_OUTPUTS
from tests.support.tasks import maker, run_to_end
from tests.support.upstream import text_for

pytestmark = pytest.mark.any_airflow

EVIL = "<script>alert(1)</script> | **bold** `code` </code> <img src=x>"


def figures(out):
    """The table of a report."""
    lines = re.findall(r"^\| ([^|]*) \| (.*) \|$", (out / REPORT).read_text(), re.MULTILINE)
    return dict(lines[1:])


def section(out, title):
    """The lines of a section of a report."""
    _, found, after = (out / REPORT).read_text().partition(f"## {title}\n\n")
    return after.partition("\n\n")[0].splitlines() if found else []


def charts(out):
    """The charts of a report: by title, the labels with the numbers behind their bars."""
    found = {}
    for title, chart in re.findall(
        r"<h2>([^<]*)</h2>\n(<svg.*?</svg>)", (out / REPORT_HTML).read_text(), re.DOTALL
    ):
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", chart)
        found[title] = dict(zip(texts[::2], map(float, texts[1::2]), strict=True))
    return found


@pytest.mark.parametrize("endpoint", ["batch", "completions"])
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_report_says_who_has_done_what_with_which_result(inference, out, endpoint, deferrable):
    ended = run_to_end(inference(endpoint=endpoint, deferrable=deferrable))
    assert (ended.result["report"], ended.result["report_html"]) == (
        f"{out}/{REPORT}",
        f"{out}/{REPORT_HTML}",
    )
    found = figures(out)
    assert found["Dag"] == "nightly"
    assert found["task"] == "infer"
    assert (found["rows"], found["rows with an output"], found["failed rows"]) == ("25", "25", "0")
    assert found["chunks"] == "3"
    assert found["jobs"] == ("3" if endpoint == "batch" else "0")
    assert found["output"] == str(out)
    assert int(found["characters of prompts"]) == sum(len(f"row {number} of all") for number in range(25))
    assert (out / REPORT).read_text().startswith("# infer: 25 of 25 rows have an output\n")
    assert charts(out)["Rows by outcome"] == {"with an output": 25}
    assert charts(out)["Rows by length of their output, in characters"] == {"8 to 15": 25}
    outputs = section(out, "Some outputs")
    assert outputs == [f"- Row {row}: `{text_for(f'row {row} of all')}`" for row in (0, 10, 20)]
    jobs = section(out, "Jobs")
    assert len(jobs) == (3 if endpoint == "batch" else 0)


def test_a_report_counts_failed_rows_by_reason_and_lists_the_first(inference, platform, out):
    platform.control.row_fault("row", times=1000)
    given = [f"row {number}" for number in range(MAX_FAILED + 10)] + ["fine"]
    run_to_end(inference(input=given, row_retries=0, max_failed_rows=None))
    outcomes = charts(out)["Rows by outcome"]
    assert outcomes.pop("with an output") == 1
    assert sum(outcomes.values()) == MAX_FAILED + 10
    failed = section(out, "Failed rows")
    assert [line.partition(",")[0] for line in failed[:-1]] == [f"- Row {row}" for row in range(MAX_FAILED)]
    assert failed[-1] == "- 10 more are in the files `errors-*.jsonl`."
    assert section(out, "Some outputs") == ["- Row 30: `fine`"]
    assert "row 7" not in (out / REPORT).read_text()
    assert "row 7" not in (out / REPORT_HTML).read_text()


def test_a_task_that_fails_for_its_rows_has_a_report(inference, platform, out):
    platform.control.row_fault("row 24", times=10)
    with pytest.raises(TooManyFailedRowsError):
        run_to_end(inference(row_retries=0, chunk_size=25))
    assert figures(out)["failed rows"] == "1"


def test_outputs_cannot_break_out_of_a_report(inference, out):
    run_to_end(inference(input=[EVIL, "x" * 1000]))
    html, text = (out / REPORT_HTML).read_text(), (out / REPORT).read_text()
    shown = text_for(EVIL).replace("`", "'")
    assert "<script>alert(1)</script>" in shown
    assert f"<code>{escape(shown)}</code>" in html
    assert "<script" not in html
    assert "<img" not in html
    assert f"- Row 0: `{shown}`" in text
    assert f"`{'x' * 200}...`" in text


def test_a_report_shows_few_outputs_however_many_parts_there_are(inference, out):
    run_to_end(inference(chunk_size=2, max_in_flight=8))
    rows = [int(line.split()[2].rstrip(":")) for line in section(out, "Some outputs")]
    assert len(rows) == MAX_OUTPUTS
    assert rows == sorted(rows)
    assert rows[-1] >= 18
    assert figures(out)["chunks"] == "13"


def test_the_report_of_embeddings_shows_no_vectors(embed, out):
    run_to_end(embed())
    assert figures(out)["rows with an output"] == "25"
    assert section(out, "Some outputs") == []
    assert set(charts(out)) == {"Rows by outcome"}


@pytest.mark.usefixtures("knowledge")
def test_the_report_of_a_classification_counts_the_classes(out):
    classify = maker(LaminiClassifyOperator, task_id="sort", model_id="model-c1", timeout=30)
    run_to_end(classify(input=["spam spam ham", "ham", "spam", "eggs ham"], threshold=0.6, output=str(out)))
    assert charts(out)["Rows by class"] == {"spam": 2, "(no class)": 1, "ham": 1}
    assert section(out, "Some outputs")[1].startswith('- Row 1: `{"class":"ham"')


def test_a_report_is_written_again_if_a_try_died_before_the_manifest(inference, out):
    run_to_end(inference())
    (out / "manifest.json").unlink()
    for name in (REPORT, REPORT_HTML):
        (out / name).write_text("half a rep")
    run_to_end(inference())
    assert figures(out)["rows"] == "25"
    assert charts(out)["Rows by outcome"] == {"with an output": 25}


def test_a_report_of_a_finished_run_is_left_alone(inference, out):
    run_to_end(inference())
    (out / REPORT).write_text("with my own remarks")
    run_to_end(inference())
    assert (out / REPORT).read_text() == "with my own remarks"
    assert len(list(read_outputs(str(out)))) == 25


def test_another_run_replaces_the_report(inference, out):
    run_to_end(inference())
    run_to_end(inference(input=["one"], on_other_run="replace"))
    assert figures(out)["rows"] == "1"


def test_damaged_lines_do_not_break_a_report(inference, out):
    run_to_end(inference(chunk_size=25))
    (out / "manifest.json").unlink()
    part = out / "part-00000.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(lines[0] + b"\xff{\n" + b"".join(lines[2:]))
    run_to_end(inference(chunk_size=25))
    assert [line[:8] for line in section(out, "Some outputs")] == ["- Row 0:"]
    assert json.loads((out / "manifest.json").read_text())["reports"] == [REPORT, REPORT_HTML]
