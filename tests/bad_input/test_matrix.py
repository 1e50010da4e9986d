"""What people's rows and models' answers are like: every operator that reads rows, in place and deferred, on each storage.

Each test is run for each of `TASKS`: an operator with an endpoint in a mode. One input has all kinds of rows at once.

| situation | where it is |
| --- | --- |
| a list of paths or URIs is a list of files | the forms "files", "objects" |
| paths beside texts, and keys without a bucket | `test_what_would_be_sent_wrongly_is_refused` |
| hidden, half-written and marker files beside the rows | the forms "pattern of files", "pattern of objects" |
| an earlier run is an input: its parts, without failed rows and errors files | the forms "folder of a run", "result of a run" |
| texts that look like numbers, lists and booleans, in a Dag with native objects | `TEXTS`, in each form |
| a column whose name has blanks, brackets and a slash | `COLUMN`, in each form |
| null, NaT, the words of databases for it | `MISSING`, in each form |
| a blank cell | `MISSING`, in each form |
| names with `#`, `%`, `+` and blanks, of inputs and outputs | `FOLDER`, in each form |
| a brace that is nearly a column, or looks like a placeholder | `test_what_would_be_sent_wrongly_is_refused` |
| a conversation where a text is needed | `test_what_would_be_sent_wrongly_is_refused` |
| rows that hold whole conversations | `test_whole_conversations_are_sent` |
| refused, filtered and empty answers, calls of tools | `test_an_answer_is_an_output_or_has_the_reason_of_its_failure` |
| what a model thinks, and an answer that was cut off while it did | the same |
| an answer with half a surrogate pair, or NaN, among others | the same, and `test_a_damaged_vector_fails_its_row_alone` |
| an output type that may be a list or a word | `test_what_would_be_sent_wrongly_is_refused` |
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.failures import FailureReason
from airflow_provider_lamini.rows.storage.locate import locate
from tests.bad_input.files import READERS
from tests.bad_input.test_deferred_inputs import failures_of
from tests.bad_input.test_inputs import OPERATORS, columns_of, sent
from tests.support.object_store import object_store  # noqa: F401 - a fixture
from tests.support.tasks import WAITING, run_to_end

if TYPE_CHECKING:
    from collections.abc import Sequence

pd = pytest.importorskip("pandas")
pytestmark = pytest.mark.long

RECORD = {"state_path": "{here}/state"}
MODES = {
    " in place": {"deferrable": False, "poll_interval": 0.05, "timeout": 30},
    " deferred": WAITING | {"poll_interval": 0.05},
}
NO_MODE = ("UploadDatasetOperator", "EvaluateClassifierOperator")
"""Operators that wait for no job."""
HAVE_OUTPUT = (
    "BatchInferenceOperator",
    "EmbeddingOperator",
    "ClassifyOperator",
    "MemoryRagQueryOperator",
    "EvaluateOperator",
    "EmissaryBatchInferenceOperator",
)
"""Operators that leave their rows in a folder."""
HAVE_NO_RECORD = (*HAVE_OUTPUT, "EvaluateClassifierOperator")
"""Operators without a record of what they have submitted."""
ENDPOINTS = {
    **OPERATORS,
    "evaluate in jobs": ("EvaluateOperator", {"endpoint": "batch"}),
    "evaluate in a chat": ("EvaluateOperator", {"endpoint": "chat"}),
}
TASKS = {
    f"{endpoint}{mode}": (name, options | arguments | ({} if name in HAVE_NO_RECORD else RECORD))
    for endpoint, (name, options) in ENDPOINTS.items()
    if endpoint != "deferred"  # the same as batch, deferred
    for mode, arguments in ({"": {}} if name in NO_MODE else MODES).items()
}
"""The operators with their endpoints, in each mode."""
KEEP = {"on_bad_row": "error", "max_failed_rows": "90%"}
FOLDER = "team#1 100%+"
COLUMN = "Price (USD)/kg"
TEXTS = ["3.10", "+48100200300", "1e5", "123_456", "0x1F", "[1, 2]", "True", "007"]
MISSING = ["", " \u200b", "\\N", "NULL"]
PROMPT = f"{{{COLUMN}}} \\{{score:.2f\\}}"
STORED = ("objects", "pattern of objects", "result of a run")
FORMS = ("rows", "files", "pattern of files", "folder of a run", *STORED)
each_task = pytest.mark.parametrize("task", TASKS)


def location(world, stored: bool) -> str:
    """A folder with an unusual name."""
    return f"memory://bucket/{FOLDER}" if stored else str(Path(world.folder) / FOLDER)


def put(path: str, content: bytes) -> str:
    store, where = locate(path)
    store.write(where, content, durable=False)
    return path


def table(columns: list[str], values: Sequence[str]) -> bytes:
    """CSV with these values of the prompt's column."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([*columns, COLUMN])
    writer.writerows([*"x" * len(columns), value] for value in values)
    return file.getvalue().encode()


def table_rows(columns: list[str], values: Sequence[Any]) -> list[dict[str, Any]]:
    return [dict.fromkeys(columns, "x") | {COLUMN: value} for value in values]


def endpoint_of(task: str) -> str:
    """A task without its mode."""
    return task.removesuffix(" in place").removesuffix(" deferred")


def columns_for(task: str) -> list[str]:
    """The columns that an operator needs, of which the first is its text."""
    return columns_of(next(name for name in OPERATORS if OPERATORS[name][0] == TASKS[task][0]))


def make(world, task: str, value: object, **arguments):
    """Return a factory of the task, as Airflow renders it in a Dag with native objects."""
    name, options = TASKS[task]
    values = {READERS[name][0]: value, **options, **arguments}

    def rendered():
        with DAG("d", schedule=None, render_template_as_native_obj=True) as dag:
            operator = world.make(name, values)
        operator.render_template_fields({"dag": dag, "params": {}})
        return operator

    return rendered


def input_of(world, form: str, columns: list[str]) -> object:
    """Write the rows, and return the input that names them."""
    if form == "rows":
        return table_rows(columns, [*TEXTS, None, pd.NaT, "", " \u200b"])
    base = location(world, form in STORED)
    if "run" in form:
        keep = {**KEEP, "passthrough": [*({*columns} - {"output"}), COLUMN], "prompt": PROMPT}
        rows = table_rows(columns, [*TEXTS, *MISSING[:2]])
        result = world.run(
            "BatchInferenceOperator",
            {"input": rows, "output": f"{base}/first", "endpoint": "completions", **keep},
        )
        world.platform.bodies.clear()
        return result["output"] if form == "folder of a run" else result
    files = {"in 1.csv": [*TEXTS[:4], *MISSING], "in#2.csv": TEXTS[4:]}
    paths = [put(f"{base}/in/{name}", table(columns, values)) for name, values in files.items()]
    if "pattern" not in form:
        return paths
    for name in ("_temporary/0/in.csv", ".ipynb_checkpoints/in.csv", "day/_old.csv"):
        put(f"{base}/in/{name}", table(columns, ["wrong"]))
    put(f"{base}/in/_SUCCESS", b"")
    return f"{base}/in/**/*"


@each_task
@pytest.mark.parametrize("form", FORMS)
def test_each_row_is_sent_as_it_is_and_rows_without_a_value_are_left_out(world, object_store, task, form):  # noqa: F811, ARG001
    value = input_of(world, form, columns_for(task))
    output = f"{location(world, form in STORED)}/out"
    folder = {"output": output} if TASKS[task][0] in HAVE_OUTPUT else {}
    result = run_to_end(make(world, task, value, prompt=PROMPT, **KEEP, **folder)).result
    assert sent(world) == sorted(f"{text} {{score:.2f}}" for text in TEXTS)
    assert failures_of(result) == ({} if "run" in form else {"no_prompt": len(MISSING)})
    assert {**result, **folder} == result


OUTPUT_TYPES = (
    "BatchInferenceOperator",
    "MemoryRagQueryOperator",
    "EvaluateOperator",
    "EmissaryBatchInferenceOperator",
)
CONVERSATION = [{"role": "user", "content": "Hello"}]


@each_task
@pytest.mark.parametrize("place", ["rows", "files", "objects"])
def test_what_would_be_sent_wrongly_is_refused(world, object_store, task, place):  # noqa: F811, ARG001
    columns, name = columns_for(task), TASKS[task][0]
    folder = location(world, place == "objects")

    def rows(*values):
        if place == "rows":
            return table_rows(columns, values)
        return put(f"{folder}/in.csv", table(columns, values))

    def refused(value, message, prompt=PROMPT, **arguments):
        with pytest.raises(InvalidArgumentError, match=message):
            run_to_end(make(world, task, value, prompt=prompt, **arguments))

    refused([put(f"{folder}/a.csv", table(columns, ["a"])), "a text"], "1 of 2 items are files")
    refused(["day/a.csv", "day/b.csv"], "add the scheme and the bucket")
    refused(rows("a"), "Did you mean", f"{{{COLUMN}}} {{{COLUMN}:.2f}}")
    refused(rows("a"), "Did you mean", f"{{{COLUMN.lower()}}}")
    refused(rows("a", " "), "no value|empty")
    refused(rows("a", "NULL" if place != "rows" else pd.NaT), "has no value")
    refused(rows("a", json.dumps(CONVERSATION)), r"has a conversation\.", f"{{{COLUMN}}}")
    if name in OUTPUT_TYPES and TASKS[task][1].get("endpoint") not in ("classification", "embeddings"):
        refused(rows("a"), r"list\[str\]", output_type={"tags": ["str"]})
    assert world.work == {}


@pytest.mark.parametrize("place", ["rows", "files", "objects"])
@pytest.mark.parametrize("task", [task for task in TASKS if endpoint_of(task) in ("chat", "Emissary chat")])
def test_whole_conversations_are_sent(world, object_store, task, place):  # noqa: F811, ARG001
    rows = [
        {"talk": [{"role": "system", "content": "Be brief."}, *CONVERSATION]},
        {"talk": {"messages": CONVERSATION}},
    ]
    value: object = rows
    if place != "rows":
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        value = put(f"{location(world, place == 'objects')}/in.jsonl", content)
    run_to_end(make(world, task, value, prompt=None, messages="talk"))
    bodies = [body for platform in (world.platform, world.emissary) for _, body in platform.bodies]
    assert sorted(len(body["messages"]) for body in bodies) == [1, 2]
    assert [body["messages"][-1] for body in bodies] == CONVERSATION * 2


# What the platform gives for each prompt, and the output that the row then has, or the reason why it failed.
MESSAGE = {"role": "assistant", "content": None}
Answers = dict[str, tuple[Any, str | FailureReason]]
TEXT_ANSWERS: Answers = {
    "fine": ("fine", "fine"),
    "thinks": ("<think>hm</think>good", "good"),
    "thinks only": ("<think>hm", FailureReason.EMPTY),
    "nothing": ("", FailureReason.EMPTY),
    "half a pair": ("half \ud83d", FailureReason.UNDECODABLE),
    "no number": (float("nan"), FailureReason.UNDECODABLE),
    "null": (None, FailureReason.EMPTY),
}
CHAT_ANSWERS: Answers = {
    "declines": ({"message": MESSAGE | {"refusal": "No."}}, FailureReason.REFUSED),
    "filter": (
        {"message": MESSAGE | {"content": "a"}, "finish_reason": "content_filter"},
        FailureReason.FILTERED,
    ),
    "tool": (
        {"message": MESSAGE | {"tool_calls": [{"id": "1"}]}, "finish_reason": "tool_calls"},
        FailureReason.TOOL_CALLS,
    ),
    "thinks apart": (
        {"message": MESSAGE | {"reasoning_content": "hm"}, "finish_reason": "length"},
        FailureReason.EMPTY,
    ),
}
SPECIAL_ANSWERS: dict[str, Answers] = {
    "chat": CHAT_ANSWERS,
    "evaluate in a chat": CHAT_ANSWERS,
    "Emissary chat": CHAT_ANSWERS,
}
"""More answers of endpoints that can give them."""
ANSWERING = [
    task
    for task, (name, options) in TASKS.items()
    if name in OUTPUT_TYPES and options.get("endpoint") not in ("classification", "embeddings")
]


@pytest.mark.parametrize("place", ["disk", "store"])
@pytest.mark.parametrize("task", ANSWERING)
def test_an_answer_is_an_output_or_has_the_reason_of_its_failure(world, object_store, task, place):  # noqa: F811, ARG001
    answers = TEXT_ANSWERS | SPECIAL_ANSWERS.get(endpoint_of(task), {})
    given = {prompt: answer for prompt, (answer, _) in answers.items()}
    world.platform.answers.update(given)
    world.emissary.answers.update(given)
    folder = f"{location(world, place == 'store')}/out"
    rows = table_rows(columns_for(task), [*answers])
    keep = {"row_retries": 0, "max_failed_rows": "99%"}
    result = run_to_end(make(world, task, rows, prompt=COLUMN, output=folder, **keep)).result
    expected = [outcome for _, outcome in answers.values()]
    assert failures_of(result) == Counter(
        outcome for outcome in expected if isinstance(outcome, FailureReason)
    )
    run = f"{folder}/model" if "evaluate" in task else folder
    outputs = [None if isinstance(outcome, FailureReason) else outcome for outcome in expected]
    assert [row["output"] for row in read_outputs(run)] == outputs


@pytest.mark.parametrize("place", ["disk", "store"])
@pytest.mark.parametrize(
    "vector", [[1.0, float("nan")], None, [1.0, "half \ud83d"]], ids=["NaN", "null", "a text"]
)
@pytest.mark.parametrize("task", [task for task in TASKS if task.startswith("embedding")])
def test_a_damaged_vector_fails_its_row_alone(world, object_store, task, place, vector):  # noqa: F811, ARG001
    world.platform.answers["damaged"] = vector
    folder = f"{location(world, place == 'store')}/out"
    rows = table_rows(["prompt"], ["fine", "damaged"])
    keep = {"row_retries": 0, "max_failed_rows": 1}
    result = run_to_end(make(world, task, rows, prompt=COLUMN, output=folder, **keep)).result
    assert sum(failures_of(result).values()) == 1
    assert [row["embedding"] for row in read_outputs(folder)] == [[1.0, 0.0], None]
