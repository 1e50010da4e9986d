"""The same input gives the same output in each mode of an operator and on each storage."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.storage.locate import locate
from tests.bad_input.files import parquet
from tests.support.object_store import object_store  # noqa: F401 - a fixture
from tests.support.tasks import WAITING, run_to_end

ROWS = [{"id": number, "text": text} for number, text in enumerate("abcde")]
KEEP = {"on_bad_row": "error", "max_failed_rows": "90%"}


def lines(*rows, encoding="utf-8"):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(encoding)


FORMS = {
    "an array on one line": ({"r.json": json.dumps(ROWS).encode()}, "r.json", {}),
    "an array on many lines, bad rows": (
        {"r.json": json.dumps([ROWS[0], {"id": 1}, *ROWS[2:], {"id": 7, "text": " "}], indent=1).encode()},
        "r.json",
        KEEP,
    ),
    "objects that span lines, a bad one": (
        {"r.json": b"".join(json.dumps(row, indent=1).encode() for row in [ROWS[0], {"id": 1}, *ROWS[2:]])},
        "r.json",
        KEEP,
    ),
    "UTF-16 and a file without rows": (
        {"1.jsonl": b"", "2.jsonl": lines({"id": "ż", "text": "ó"}, *ROWS, encoding="utf-16")},
        "*.jsonl",
        {},
    ),
    "broken lines": ({"r.jsonl": b"{\n" + lines(*ROWS) + b'{"id": NaN, "text": 1}\n{"id'}, "r.jsonl", KEEP),
    "all files below a folder": (
        {"x/dt=1/r.csv": b"id;text\n1;a\n2;\n3;NULL\n", "x/dt=2/r.csv": b"text,id\nd,4\n", "x/_old/r.csv": b"?"},
        "x/**",
        KEEP | {"passthrough": ["id", "dt"]},
    ),
    "Parquet": (
        {"r.parquet": parquet(["text", "id"], [[("k", 0.1)], [("k", None)], None], pa.map_(pa.string(), pa.float32()))},
        "r.parquet",
        KEEP,
    ),
}  # fmt: skip
MODES = {
    "chat": {"endpoint": "chat"},
    "jobs in the worker": {"deferrable": False, "poll_interval": 0.1},
    "deferred jobs": WAITING,
}


def outcome(world, base, form, name, mode):
    """Run a task to its end, and return its output and counts."""
    files, pattern, arguments = FORMS[form]
    for path, content in files.items():
        store, where = locate(f"{base}/in/{path}")
        store.write(where, content, durable=False)
    output = f"{base}/out {name}"
    more = {"prompt": "{text}", "passthrough": ["id"], "chunk_size": 2, **arguments, **mode}
    make = lambda: world.make(  # noqa: E731
        "BatchInferenceOperator", {"input": f"{base}/in/{pattern}", "output": output, **more}
    )
    counts = run_to_end(make).result["counts"]
    return list(read_outputs(output)), counts


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS)
def test_the_same_rows_are_answered_in_each_mode_and_on_each_storage(world, object_store, form):  # noqa: F811, ARG001
    base = str(Path(world.folder))
    rows, counts = outcome(world, base, form, "expected", {"endpoint": "completions"})
    assert counts["ok"] >= 2
    for name, mode in MODES.items():
        assert outcome(world, base, form, name, mode) == (rows, counts)
    assert outcome(world, "memory://bucket", form, "stored", MODES["deferred jobs"]) == (rows, counts)
