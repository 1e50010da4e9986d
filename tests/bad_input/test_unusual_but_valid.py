"""Unusual but valid input works, and the platform receives the right values."""

from __future__ import annotations

import gzip
import json
import os
from datetime import date
from decimal import Decimal

import pytest

from tests.bad_input.files import parquet
from tests.bad_input.world import VALID_ARGUMENTS, operator_classes

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FILES: dict[str, tuple[str, bytes, list[str]]] = {
    "a byte order mark": ("r.jsonl", BYTE_ORDER_MARK + b'{"prompt": "a"}\n', ["a"]),
    "a byte order mark in CSV": ("r.csv", BYTE_ORDER_MARK + b"prompt\na\n", ["a"]),
    "a byte order mark in quotes": ("r.csv", BYTE_ORDER_MARK + b'"prompt",id\n"a, b",1\n', ["a, b"]),
    "a byte order mark in gzip": ("r.csv.gz", gzip.compress(BYTE_ORDER_MARK + b"prompt\na\n"), ["a"]),
    "CRLF": ("r.jsonl", b'{"prompt": "a"}\r\n{"prompt": "b"}\r\n', ["a", "b"]),
    "CRLF in CSV": ("r.csv", b"prompt,id\r\na,1\r\nb,2\r\n", ["a", "b"]),
    "LF and CRLF": ("r.csv", b"prompt,id\r\na,1\nb,2\r\n", ["a", "b"]),
    "no line break at the end": ("r.jsonl", b'{"prompt": "a"}\n{"prompt": "b"}', ["a", "b"]),
    "no line break at the end of CSV": ("r.csv", b"prompt\na\nb", ["a", "b"]),
    "blank lines": ("r.jsonl", b'\n{"prompt": "a"}\n \n\n{"prompt": "b"}\n\n', ["a", "b"]),
    "blanks around objects": ("r.jsonl", b' \t{"prompt": "a"} \n', ["a"]),
    "gzip": ("r.jsonl.gz", gzip.compress(b'{"prompt": "a"}\n'), ["a"]),
    "two gzip members": (
        "r.jsonl.gz",
        gzip.compress(b'{"prompt": "a"}\n') + gzip.compress(b'{"prompt": "b"}\n'),
        ["a", "b"],
    ),
    "an upper-case suffix": ("R.JSONL", b'{"prompt": "a"}\n', ["a"]),
    "lines that are strings": ("r.jsonl", b'"a"\n"b"\n', ["a", "b"]),
    "a repeated key": ("r.jsonl", b'{"prompt": "a", "prompt": "b"}\n', ["b"]),
    "a repeated id": ("r.jsonl", b'{"id": 1, "prompt": "a"}\n{"id": 1, "prompt": "b"}\n', ["a", "b"]),
    "repeated rows": ("r.jsonl", b'{"prompt": "a"}\n{"prompt": "a"}\n', ["a", "a"]),
    "a line break in quotes": ("r.csv", b'prompt,id\n"a\nb",1\n', ["a\nb"]),
    "a carriage return in quotes": ("r.csv", b'prompt,id\n"a\rb",1\n', ["a\rb"]),
    "quotes in quotes": ("r.csv", b'prompt\n"a ""b"" c"\n', ['a "b" c']),
    "blanks around names": ("r.csv", b" prompt , id \na,1\n", ["a"]),
    "other line breaks of Unicode": (
        "r.csv",
        "prompt\na\u2028b\x85c\x0bd\n".encode(),
        ["a\u2028b\x85c\x0bd"],
    ),
    "an escaped NUL": ("r.jsonl", b'{"prompt": "a\\u0000b"}\n', ["a\0b"]),
    "a whole surrogate pair": ("r.jsonl", b'{"prompt": "\\ud83d\\ude00"}\n', ["\U0001f600"]),
    "numbers and booleans": (
        "r.jsonl",
        b'{"prompt": 7}\n{"prompt": 2.5}\n{"prompt": true}\n',
        ["7", "2.5", "true"],
    ),
    "a list and a mapping": (
        "r.jsonl",
        b'{"prompt": [1, "a"]}\n{"prompt": {"a": 1}}\n',
        ['[1,"a"]', '{"a":1}'],
    ),
    "tabs as delimiters": ("r.tsv", b"prompt\tid\na, b\t1\n", ["a, b"]),
    "Parquet with dates": ("r.parquet", parquet(["prompt"], [date(2026, 1, 2)]), ["2026-01-02"]),
    "Parquet with decimals": ("r.parquet", parquet(["prompt"], [Decimal("1.10")]), ["1.10"]),
    "Parquet with nested columns": ("r.parquet", parquet(["prompt"], [{"a": [1, 2]}]), ['{"a":[1,2]}']),
    "a large number in another column": (
        "r.jsonl",
        b'{"prompt": "a", "other": 1e999}\n'.replace(b"1e999", b"123456789012345678901234567890"),
        ["a"],
    ),
}


def outputs(world) -> list[object]:
    """Return the outputs of all rows. The platform repeats the prompts."""
    parts = sorted((world.folder / "out").glob("part-*.jsonl"))
    return [json.loads(line)["output"] for part in parts for line in part.read_text().split("\n")[:-1]]


@pytest.mark.parametrize("name", FILES)
def test_an_unusual_file_is_read_correctly(world, name):
    file_name, content, prompts = FILES[name]
    world.put(file_name, content)
    result = world.run(
        "BatchInferenceOperator", {"input": f"{{here}}/{file_name}", "endpoint": "completions"}
    )
    assert result["counts"]["ok"] == len(prompts)
    assert outputs(world) == prompts


@pytest.mark.long
def test_the_valid_arguments_of_every_operator_work(world):
    for operator in operator_classes():
        world.reset()
        world.note_files()
        output = {"output": f"{{here}}/{operator}"} if "output" in VALID_ARGUMENTS[operator] else {}
        world.run(operator, output)
        assert world.request_counts, operator


TEXTS = {
    "a number": (7, "7"),
    "a decimal number": (2.5, "2.5"),
    "a large number": (10**30, str(10**30)),
    "the word None": ("None", "None"),
    "the word true": ("true", "true"),
    "an emoji": ("\U0001f600", "\U0001f600"),
    "a line break": ("a\nb", "a\nb"),
    "braces": ("{a}", "{a}"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_an_unusual_value_from_a_template_is_sent_as_text(world, name):
    value, text = TEXTS[name]
    assert world.run("CompletionOperator", {"prompt": value})["output"] == text
    assert world.run("CompletionOperator", {"prompt": [value]})["outputs"] == [text]
    assert world.run("ChatOperator", {"messages": value})["output"] == text
    assert world.run("ChatOperator", {"messages": [{"role": "user", "content": value}]})["output"] == text


def test_a_number_as_input_is_one_text_for_operators_without_output(world):
    assert world.run("ClassifyOperator", {"input": 7, "output": None})["classes"]
    assert "output" in world.run("MemoryRagQueryOperator", {"input": 7, "output": None})
    assert world.run("EmbeddingOperator", {"input": 2.5, "output": None})["dimensions"] == 2
    (sent,) = world.platform.sent("/v1/embedding")
    assert sent["prompt"] == ["2.5"]


@pytest.mark.parametrize("output_type", [{"mood": "str"}, '{"mood": "str"}', {"mood": ("good", "bad")}])
@pytest.mark.parametrize("operator", ["BatchInferenceOperator", "CompletionOperator", "ChatOperator"])
def test_an_output_type_can_be_json_text(world, operator, output_type):
    task = world.make(operator, {"output_type": output_type})
    if operator == "BatchInferenceOperator":
        from airflow_provider_lamini.runs.answer_policy import parse_output_type

        assert parse_output_type(task.output_type) is not None
        return
    from airflow_provider_lamini.exceptions import AnswerError

    with pytest.raises(AnswerError):  # this platform repeats the prompt, which is not an object
        world.run(operator, {"output_type": output_type})
    assert len(world.platform.work) == 1


RENDERED = {
    "BatchInferenceOperator": {
        "chunk_size": " 2 ",
        "max_in_flight": "1",
        "row_retries": "0",
        "max_new_tokens": "8",
    },
    "ClassifyOperator": {"top_n": "2", "threshold": "0.0"},
    "TrainOperator": {
        "max_resumes": "1",
        "accept_partial": "True",
        "is_public": "no",
        "finetune_args": '{"max_steps": 1}',
    },
    "UploadDatasetOperator": {"is_public": "false", "force_new": "1"},
    "EvaluateClassifierOperator": {"request_timeout": "60", "thresholds": '{"accuracy": "0.1"}'},
    "JobSensor": {"job_id": 1, "accept_partial": "yes", "kind": "Tuning"},
    "ResumeJobOperator": {"job_id": 1, "timeout": "60", "poll_interval": "1.5"},
    "MemoryRagRefreshOperator": {"piece_size": "200", "text_suffixes": (".TXT",)},
    "MemoryRagBuildOperator": {"files": ["{docs}", "{docs}/*.md", "{docs}/../docs/page.md"]},
    "ClassifierTrainOperator": {
        "classes": '{"spam": "bad", "ham": "good"}',
        "examples": {"spam": ["one"], "ham": ["two"]},
    },
}


@pytest.mark.parametrize("operator", RENDERED)
def test_a_value_that_a_template_rendered_as_text_is_parsed(world, operator):
    world.note_files()
    world.run(operator, RENDERED[operator])
    assert world.platform.request_counts


def test_a_file_that_is_selected_three_times_is_sent_once(world):
    world.note_files()
    world.run("MemoryRagBuildOperator", RENDERED["MemoryRagBuildOperator"])
    (sent,) = world.platform.sent("/alpha/memory-rag/train")
    assert list(sent["files"]) == ["page.md"]


def test_empty_documents_among_others_are_sent(world):
    world.put("docs/empty.md")
    world.note_files()
    world.run("MemoryRagBuildOperator", {})
    (sent,) = world.platform.sent("/alpha/memory-rag/train")
    assert sorted(sent["files"]) == ["empty.md", "page.md"]


def test_a_sensor_accepts_a_model_name_with_slashes(world):
    world.platform.downloads["a/b"] = ["available"]
    assert world.run("JobSensor", {"kind": "model_download", "job_id": "a/b"})["state"] == "succeeded"


def test_an_output_folder_can_be_a_symbolic_link(world):
    (world.folder / "real").mkdir()
    (world.folder / "link").symlink_to("real")
    world.run("BatchInferenceOperator", {"output": "{here}/link/out", "endpoint": "completions"})
    assert (world.folder / "real" / "out" / "manifest.json").exists()


def test_a_relative_output_folder_can_contain_dots(world):
    world.run("BatchInferenceOperator", {"output": "../sibling", "endpoint": "completions"})
    assert (world.folder / "at" / "sibling" / "manifest.json").exists()


def test_values_from_rows_never_become_paths(world):
    rows = [{"prompt": "a", "id": "../../../outside"}, {"prompt": "b", "id": "/outside"}]
    world.note_files()
    world.run("BatchInferenceOperator", {"input": rows, "passthrough": ["id"], "endpoint": "completions"})
    assert {path.partition(os.sep)[0] for path in world.files() - world.files_before} == {"out"}
