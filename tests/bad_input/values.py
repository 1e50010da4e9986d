"""Invalid values for numbers, names, folders, and the arguments that operators share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from tests.bad_input.world import SECRET

Values = Mapping[str, list[object]]
"""Maps an argument to invalid values."""

NAN, INFINITY = float("nan"), float("inf")
LONE_SURROGATE = "\ud800"
"""Half of a surrogate pair: a valid ``str`` that cannot be encoded."""
NUMBERS: list[object] = [True, NAN, INFINITY, "None", "", "true", [1], "9" * 5000]
"""Not a number."""
COUNTS: list[object] = [*NUMBERS, 1.5, "2.0", -1, 10**30, b"1"]
"""Not a count."""
NAMES: list[object] = [
    "",
    " ",
    None,
    7,
    True,
    ["m"],
    {"m": 1},
    b"m",
    "None",
    "a\0b",
    "a\nb",
    LONE_SURROGATE,
    "m" * 501,
]
"""Not a name."""
OPTIONAL_NAMES = [value for value in NAMES if value is not None]
IDS: list[object] = [*OPTIONAL_NAMES, None, 2.5, "a/b", "../1", "..", ".", "a b", "a\\b"]
IDS.remove(7)
CONN_IDS: list[object] = ["", 7, ["c"], "None", "a\nb"]
FLAGS: list[object] = ["maybe", 2, "None?", [True], {}, NAN]
MAPPINGS: list[object] = [
    7,
    [],
    ["a"],
    "a",
    "[]",
    "[" * 20_000,
    '{"a": 1, "a": 2}',
    '{"a": NaN}',
    {1: "a"},
    {"a": NAN},
    {"a": {1, 2}},
    {"a": object()},
    {"a": LONE_SURROGATE},
    {LONE_SURROGATE: "a"},
    {"a": b"a"},
]
"""Not a mapping that JSON can represent."""
FOLDERS: list[object] = [
    "",
    " ",
    7,
    True,
    b"out",
    ["out"],
    "None",
    "a\0b",
    "a\nb",
    LONE_SURROGATE,
    "x" * 300,
    "x/" * 3000,
    "~nobody-of-this-name/out",
    "{here}/file/out",
    "{here}/file",
    "zz://bucket/out",
    "s3://[bucket/out",
    "s3://bucket/../out",
]
"""Not a writable folder."""
INPUTS: list[object] = [
    "",
    " ",
    None,
    7,
    True,
    b"rows",
    {"prompt": "a"},
    {"a"},
    "None",
    f"{SECRET} {SECRET}",
    "a\0b",
    LONE_SURROGATE,
    "~nobody-of-this-name/rows.jsonl",
    f"{'x' * 300}.jsonl",
    "s3://[bucket/rows.jsonl",
    "zz://bucket/rows.jsonl",
    "/no/such/place/rows.jsonl",
    "../../../no/such/place/rows.csv",
    "{here}",
    "{here}/file",
    "{here}/*.jsonl",
    "{here}/**x/*.jsonl",
    [None],
    [SECRET, True],
    [[SECRET, 7]],
    [SECRET, [SECRET]],
    [[SECRET, SECRET], [SECRET, SECRET]],
    [(SECRET, 7)],
    ["{here}/file", SECRET],
    ["a/day1.jsonl", "a/day2.jsonl"],
    ["s3://bucket/a.jsonl", SECRET],
    [{"prompt": SECRET}, "s3://bucket/a.jsonl"],
    [{1: SECRET}],
    [{"prompt": NAN}],
    [{"prompt": {SECRET}}],
    [{"prompt": f"{SECRET}{LONE_SURROGATE}"}],
    [{"prompt": [object()]}],
]
"""Not a valid input."""

JOB: Values = {
    "poll_interval": [*NUMBERS, 0, -1, 1e300, "1e10"],
    "timeout": [*NUMBERS, 0, "-5", timedelta(0), timedelta(-1), 10**30],
    "lamini_conn_id": CONN_IDS,
    "deferrable": FLAGS,
    "cancel_on_kill": FLAGS,
}
SINGLE: Values = {
    "state_path": FOLDERS,
    "on_changed_input": ["", "None", "keep", True, ["fail"]],
    "on_unknown_submission": ["", "None", "maybe", 0],
    "force_new": FLAGS,
    "wait": FLAGS,
    "on_timeout": ["", "None", "stop", True],
}
BAD_ROWS: Values = {
    "on_bad_row": ["", "warn", None, True],
    "max_failed_rows": [-1, "many", 1.5, "101%", True, [1], NAN, "1e-999999999", "9" * 5000, "-1%", INFINITY],
}
LIMITED: Values = {
    "limit_rows": [*COUNTS, 0],
    "max_rows": [*COUNTS, 0],
    "max_input_chars": [*COUNTS, 0, 1],
    "dry_run": FLAGS,
}
CHUNKED: Values = {
    "input": INPUTS,
    "output": FOLDERS,
    "prompt": ["", " ", None, 7, ["prompt"], "{nothing}", "nothing", "{prompt} {nothing}"],
    "max_prompt_chars": [*COUNTS, 0, 1, "1"],
    "passthrough": ["id", [""], [3], [None], ["index"], ["error"], ["id", "id"], {"id": 1}, ["nothing"], 7],
    "chunk_size": [*COUNTS, 0],
    "max_in_flight": [*COUNTS, 0],
    "row_retries": COUNTS,
    **BAD_ROWS,
    "on_other_run": ["", "overwrite", None, True],
    "on_changed_input": ["", "cancel", None, True],
    "on_unknown_submission": ["", "maybe", None],
    "input_conn_id": CONN_IDS,
    "output_conn_id": CONN_IDS,
}
OUTPUT_TYPES: list[object] = [
    *MAPPINGS,
    {},
    {"mood": "text"},
    {"mood": []},
    {"mood": ["a", 1]},
    {"mood": ["a", "a"]},
    {"mood": None},
    {"": "str"},
    "str",
]
THRESHOLDS: list[object] = [
    *MAPPINGS[:8],
    {"exact_match": NAN},
    {"exact_match": "high"},
    {"exact_match": True},
]
THRESHOLDS += [{"exact_match": 10**400}, {"exact_match": [0.5]}]
GATES: list[object] = ["", "None", "stop", None, True]
PAIRS: list[object] = [
    [],
    ["only a text"],
    [{"input": "a"}],
    [{"input": "a", "output": None}],
    [{"input": " ", "output": "a"}],
    [{"input": "a", "output": ""}],
]
"""Rows that are not a dataset."""
TEMPLATES: list[object] = ["", None, 7, ["a"], "{nothing}", "nothing"]
