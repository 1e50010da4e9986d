"""TaskFlow: the function of a task gives its rows or its prompt, once, and what it returns is data."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, BaseOperator, TaskDeferred

from airflow_provider_lamini import decorators
from airflow_provider_lamini.decorators import task
from airflow_provider_lamini.exceptions import InvalidArgumentError, TooManyFailedRowsError
from airflow_provider_lamini.get_provider_info import get_provider_info
from airflow_provider_lamini.results import read_outputs
from tests.support.platforms import posts, submissions
from tests.support.tasks import TI, WAITING, begin, resume, run_to_end
from tests.support.upstream import TEXT_MODEL, text_for, vector_for

NAMES = [entry["name"] for entry in get_provider_info()["task-decorators"]]


def made(decorator, function, *arguments, **options):
    """A factory of the task that a decorated function makes: each call parses the Dag again."""

    def make():
        with DAG("taskflow", schedule=None):
            return decorator(task_id="mine", **options)(function)(*arguments).operator

    return make


@pytest.fixture
def batch(out):
    """Returns a function that makes a factory of deferred batch inference tasks, in chunks of 10."""
    defaults = {"model_name": TEXT_MODEL, "output": str(out), "chunk_size": 10, "max_in_flight": 1, **WAITING}

    def factory(function, *arguments, **options):
        return made(task.lamini_batch_inference, function, *arguments, **defaults | options)

    return factory


ARGUMENTS = {
    "lamini_batch_inference": {"model_name": "m", "output": "o"},
    "lamini_classify": {"model_id": "c"},
    "lamini_completion": {"model_name": "m"},
    "lamini_embed": {},
    "emissary_batch_inference": {"model_name": "m", "output": "o"},
}
"""Minimal arguments of each decorator."""


def no_rows():
    return []


def operator_of(name):
    """The decorated class behind a decorator."""
    return type(made(getattr(task, name), no_rows, **ARGUMENTS[name])())


def outputs(rows):
    return [row["output"] for row in rows()]


def test_the_function_is_called_once_however_often_the_task_defers_and_is_retried(batch, platform, rows, out):
    calls = []

    def prompts(count):
        calls.append(count)
        return [f"prompt {number} of call {len(calls)}" for number in range(count)]

    make = batch(prompts, 25)
    deferral = begin(make)
    event = deferral.wait()
    with pytest.raises(TaskDeferred):
        resume(make, deferral, event)
    # That try dies while it waits for the second chunk.
    ended = run_to_end(make, TI.retried())
    assert calls == [25]
    assert outputs(rows) == [text_for(f"prompt {number} of call 1") for number in range(25)]
    assert submissions(platform) == 3
    assert ended.result["input"].startswith("the rows of the function prompts")
    assert not (out / "_work").exists()


@pytest.mark.usefixtures("platform")
def test_what_the_function_returns_is_neither_a_template_nor_a_path(batch, rows, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "not this"}\n')
    texts = ["{{ 1 / 0 }}", "{% if %}", str(tmp_path / "rows.jsonl"), "s3://bucket/key.jsonl", "3.10"]
    run_to_end(batch(lambda: texts))
    assert outputs(rows) == list(map(text_for, texts))


@pytest.mark.usefixtures("platform")
def test_the_function_may_yield_rows_and_use_the_context(batch, rows):
    def tickets(count, *, ti):
        for number in range(count):
            yield {"id": number, "body": f"{ti.run_id} {number}"}

    run_to_end(batch(tickets, 12, prompt="About {body}", passthrough=["id"]))
    assert [(row["id"], row["output"]) for row in rows()] == [
        (number, text_for(f"About {TI.run_id} {number}")) for number in range(12)
    ]


@pytest.mark.usefixtures("platform")
def test_the_function_may_return_a_table_or_records_with_columns(batch, rows, out):
    pandas = pytest.importorskip("pandas")
    run_to_end(batch(lambda: pandas.DataFrame({"prompt": ["a b", "c d"]})))
    assert outputs(rows) == ["b a", "d c"]
    records = [(1, "e f"), (2, "g h")]
    run_to_end(
        batch(lambda: iter(records), columns=["id", "prompt"], passthrough=["id"], output=f"{out}-2"),
    )
    assert (out.parent / "out-2" / "part-00000.jsonl").read_text().count('"id":') == 2


def test_a_cleared_task_whose_function_returns_other_rows_is_refused(batch, platform):
    answers = [["a b"], ["c d"]]
    make = batch(lambda: answers.pop(0))
    run_to_end(make)
    with pytest.raises(InvalidArgumentError, match="input"):
        run_to_end(make, TI.cleared())
    assert submissions(platform) == 1


def test_after_an_error_before_the_first_job_the_function_is_called_again(batch, platform, rows):
    answers = [["a b", None], ["c d"]]
    make = batch(lambda: answers.pop(0))
    with pytest.raises(
        InvalidArgumentError, match=r"row 1 \(the rows of the function <lambda>, line 2\) has no value"
    ):
        run_to_end(make)
    assert submissions(platform) == 0
    run_to_end(make, TI.retried())
    assert outputs(rows) == ["d c"]


@pytest.mark.usefixtures("platform")
def test_a_bad_row_can_be_kept_with_its_error(batch, rows):
    run_to_end(batch(lambda: iter(["a b", object(), "c d"]), on_bad_row="error", max_failed_rows=1))
    assert outputs(rows) == ["b a", None, "d c"]
    with pytest.raises((TooManyFailedRowsError, InvalidArgumentError)):
        run_to_end(batch(lambda: ["a b", None], on_bad_row="error"), TI.cleared())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "returned None"),
        ("s3://bucket/rows.jsonl", "returned a text"),
        ({"prompt": "a"}, "returned a dict"),
        (7, "returned an int"),
        (b"a", "returned bytes"),
        (True, "returned a bool"),
    ],
)
def test_a_function_that_returns_no_rows_is_refused(batch, platform, value, message):
    with pytest.raises(InvalidArgumentError, match=message):
        run_to_end(batch(lambda: value))
    assert posts(platform) == {}


@pytest.mark.usefixtures("platform")
def test_a_function_may_yield_tables(batch, out):
    """As pandas reads a large file in pieces."""
    pandas = pytest.importorskip("pandas")
    tables = [pandas.DataFrame({"prompt": ["a b"], "id": [1]}), pandas.DataFrame({"prompt": ["c d", "e f"]})]
    run_to_end(batch(lambda: iter(tables)))
    assert [row["output"] for row in read_outputs(str(out))] == ["b a", "d c", "f e"]


def test_the_function_may_skip_its_task(batch, platform):
    def skip():
        raise AirflowSkipException("nothing to do today")

    with pytest.raises(AirflowSkipException):
        run_to_end(batch(skip))
    assert posts(platform) == {}


def test_a_dry_run_counts_the_rows_of_the_function(batch, platform, out):
    found = run_to_end(batch(lambda: iter(["a", "b c"]), dry_run=True)).result
    assert (found["rows"], found["characters"]) == (2, 4)
    assert posts(platform) == {}
    assert not out.exists()


def test_a_function_and_a_query_exclude_each_other(batch):
    with pytest.raises(InvalidArgumentError, match="exclude each other"):
        run_to_end(batch(lambda: ["a"], input_sql="SELECT 1 ORDER BY 1", input_conn_id="db"))


def test_a_completion_sends_one_prompt_or_a_few(platform):
    def complete(value):
        return run_to_end(made(task.lamini_completion, lambda: value, model_name=TEXT_MODEL)).result

    assert complete("{{ a }} b")["output"] == text_for("{{ a }} b")
    assert complete(["a b", "c d"])["outputs"] == ["b a", "d c"]
    assert complete(iter(["a b"]))["outputs"] == ["b a"]
    with pytest.raises(InvalidArgumentError, match="1 to 100"):
        complete(iter(map(str, range(10**9))))
    with pytest.raises(InvalidArgumentError, match="prompt"):
        complete(None)
    assert posts(platform) == {"POST /v2/completions": 4}


def test_texts_of_a_function_become_vectors(platform, out):
    def embed(value, **options):
        return run_to_end(made(task.lamini_embed, lambda: value, **options)).result

    assert embed("data.csv")["embeddings"] == [pytest.approx(vector_for("data.csv"))]
    assert embed(iter(["a", "b"]))["embeddings"] == [pytest.approx(vector_for(text)) for text in "ab"]
    with pytest.raises(InvalidArgumentError, match="16 are allowed"):
        embed(map(str, range(10**9)))
    assert embed(["a", "b"], output=str(out), **WAITING)["counts"]["ok"] == 2
    assert posts(platform) == {"POST /v1/embedding": 2, "POST /v1/batch_embeddings": 1}


@pytest.mark.usefixtures("knowledge")
def test_texts_of_a_function_are_classified(out):
    def classify(value, **options):
        make = made(task.lamini_classify, lambda: value, model_id="model-c1", **options)
        return run_to_end(make).result

    assert classify("spam spam ham")["class"] == "spam"
    assert [one["class"] for one in classify(iter(["ham", "eggs"]))["outputs"]] == ["ham", "eggs"]
    assert classify([{"text": "ham"}], prompt="text", output=str(out))["counts"]["ok"] == 1


def test_rows_of_a_function_are_sent_to_a_deployment(emissary, out, rows):
    emissary.new("deployment", ("Deployed",), name="live")
    calls = []

    def prompts():
        calls.append(1)
        yield from ["a b", "c d"]

    make = made(
        task.emissary_batch_inference,
        prompts,
        model_name="live",
        output=str(out),
    )
    assert run_to_end(make).result["counts"]["ok"] == 2
    assert len(rows()) == len(calls) * 2 == 2


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("name", ["lamini_batch_inference", "emissary_batch_inference"])
def test_rows_of_a_function_have_their_tokens(emissary, out, rows, name):
    emissary.new("deployment", ("Deployed",), name=TEXT_MODEL)
    given = {"model_name": TEXT_MODEL, "output": str(out), "endpoint": "chat", "row_usage": True}
    run_to_end(made(getattr(task, name), lambda: ["a b", "c d"], **given))
    tokens = (2, 2, 4) if name.startswith("lamini") else (3, 2, 5)
    found = [
        (row["model"], row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) for row in rows()
    ]
    assert found == [(TEXT_MODEL, *tokens)] * 2


@pytest.mark.parametrize("name", NAMES)
def test_a_decorator_renders_everything_but_what_the_function_gives(name):
    path = next(each["class-name"] for each in get_provider_info()["task-decorators"] if each["name"] == name)
    module, _, function = path.rpartition(".")
    assert getattr(import_module(module), function).__doc__.startswith("Let a function return")
    arguments = ARGUMENTS[name]
    operator = made(getattr(task, name), no_rows, **arguments)()
    given = {"prompt"} if name == "lamini_completion" else {"input"}
    decorated = {field for base in type(operator).__mro__ for field in vars(base).get("template_fields", ())}
    assert set(operator.template_fields) == decorated - given
    assert {"op_args", "op_kwargs"} <= set(operator.template_fields)
    assert all(hasattr(operator, field) for field in operator.template_fields)
    assert (operator.multiple_outputs, operator.custom_operator_name) == (True, f"@task.{name}")
    with pytest.raises(TypeError, match="must be a plain one"):
        made(getattr(task, name), _coroutine, **arguments)()


async def _coroutine():
    return ["a"]


def test_default_args_and_an_override_reach_the_operator():
    with DAG("taskflow", schedule=None, default_args={"retries": 3, "deferrable": True}):

        @task.lamini_batch_inference(model_name="m", output="o")
        def prompts():
            return ["a"]

        first, second = prompts().operator, prompts.override(task_id="other", chunk_size=7)().operator
    assert (first.task_id, first.retries, first.deferrable, first.chunk_size) == ("prompts", 3, True, 1000)
    assert (second.task_id, second.retries, second.deferrable, second.chunk_size) == ("other", 3, True, 7)


def test_the_stub_has_the_arguments_of_the_operators_and_of_any_task():
    stub = Path(decorators.__file__).with_suffix(".pyi").read_text()
    classes = {node.name: node for node in ast.parse(stub).body if isinstance(node, ast.ClassDef)}

    def keys(name):
        node = classes[name]
        own = {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}
        bases = [base.id for base in node.bases if base.id in classes]
        return own.union(*map(keys, bases))

    of_any_task = set(inspect.signature(BaseOperator.__init__).parameters) - {"self", "kwargs"}
    assert of_any_task - {"task_concurrency"} <= keys("_TaskArguments")
    # A query is another input, and these say how to read files.
    left_out = {"input_sql", "sql_parameters", "input_conn_id", "input_format", "csv_options"}
    left_out |= {"failed_input_rows", "input"}
    for name in NAMES:
        typed = "_" + "".join(map(str.capitalize, name.split("_")))
        operator = operator_of(name)
        ours = {
            argument
            for base in operator.__mro__
            if base.__module__.startswith("airflow_provider_lamini.operators")
            for argument in inspect.signature(base.__init__).parameters
        }
        given = left_out if name != "lamini_completion" else {"prompt"}
        assert keys(typed) - keys("_TaskArguments") == ours - given - {
            "self",
            "kwargs",
            *keys("_TaskArguments"),
        }


def test_the_stub_names_each_decorator():
    stub = Path(decorators.__file__).with_suffix(".pyi").read_text()
    assert set(re.findall(r"def (\w+)\(self", stub)) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_test_runs_a_dag_in_which_it_is_mapped_in_both_ways(name):
    text = Path(__file__).with_name("taskflow_dags.py").read_text()
    (function,) = re.findall(rf"@task\.{name}(?:\(.*\))?\n    def (\w+)\(", text)
    assert re.search(rf"\b{function}\.expand\(", text)
    assert re.search(rf"\b{function}\.override\(.*\)\.expand_kwargs\(", text)
