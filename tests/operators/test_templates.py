"""Texts without a template are data and stay as they are; a prompt may be a file of the Dag folder."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from airflow.providers.common.compat.sdk import DAG

from tests.bad_input.world import VALID_ARGUMENTS, operator_classes

TEXTS = [
    "3.10", "+48100200300", "1e5", "123_456", "0x1F", "[1, 2]", "True", "None", "007", "1_000", "{'a': 1}",
    "'quoted'", " padded ", "a line\n", "a\r\nb", "", "{body}", "% off", "NaN", "0b11", "1,2", "\u0664", "...", "()",
]  # fmt: skip
"""Texts that Python could read as something else, or that Jinja would change."""
TAKERS = [
    name
    for name, arguments in VALID_ARGUMENTS.items()
    if "input" in arguments or name in ("CompletionOperator", "ChatOperator")
]


def rendered(operator, native=True, params=None, searchpath=(), **arguments):
    """Return an operator after Airflow has rendered its arguments."""
    with DAG(
        "d",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        render_template_as_native_obj=native,
        template_searchpath=[str(path) for path in searchpath],
    ) as dag:
        task = operator_classes()[operator](task_id="t", **{**VALID_ARGUMENTS[operator], **arguments})
    task.resolve_template_files()
    task.render_template_fields({"dag": dag, "params": params or {}, "ds": "2026-01-02"})
    return task


def argument(operator):
    return {"CompletionOperator": "prompt", "ChatOperator": "messages"}.get(operator, "input")


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("operator", TAKERS)
def test_texts_without_a_template_stay_as_they_are(operator, native):
    name = argument(operator)
    for value in (TEXTS, [{"input": text, "output": text} for text in TEXTS], [tuple(TEXTS)]):
        assert getattr(rendered(operator, native, **{name: value}), name) == value


@pytest.mark.parametrize("native", [True, False])
def test_texts_with_a_template_are_rendered(native):
    task = rendered(
        "BatchInferenceOperator",
        native,
        input=["{{ ds }}", "{% if 1 %}a{% endif %}", "a{# b #}"],
        prompt="{{ ds }}: {x}",
    )
    assert task.input == ["2026-01-02", "a", "a"]
    assert task.prompt == "2026-01-02: {x}"


def test_a_list_from_a_template_is_still_native():
    assert rendered("BatchInferenceOperator", input="{{ params.rows }}", params={"rows": ["1.0"]}).input == [
        "1.0"
    ]


@pytest.mark.parametrize(
    "template", ["{{ params.texts }}", "{{ params.texts | tojson }}", "{{ params.texts | list }}"]
)
@pytest.mark.parametrize("operator", TAKERS)
def test_a_list_that_a_template_renders_keeps_its_texts(operator, template):
    name = argument(operator)
    assert getattr(rendered(operator, params={"texts": TEXTS}, **{name: template}), name) == TEXTS


DATA = [*(text for text in TEXTS if not text.startswith(("[", "{", "("))), "(3.10)", "('a')", "{1, 2}"]
"""Texts that are neither a list, a tuple nor a mapping."""


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("operator", TAKERS)
def test_texts_that_templates_render_in_a_list_stay_as_they_are(operator, native):
    name = argument(operator)
    templates = [f"{{{{ params.texts[{number}] }}}}" for number in range(len(DATA))]
    value = [*templates, tuple(templates), {"input": templates[0], "id": {"n": templates}}]
    task = rendered(operator, native, params={"texts": DATA}, **{name: value})
    assert getattr(task, name) == [*DATA, tuple(DATA), {"input": DATA[0], "id": {"n": DATA}}]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("text", DATA)
def test_a_text_that_a_template_renders_stays_as_it_is(text, native):
    task = rendered("CompletionOperator", native, prompt="{{ params.a }}", params={"a": text})
    assert task.prompt == text


def test_what_is_no_text_stays_native():
    values = {"number": 7, "row": {"prompt": "3.10"}, "nothing": None, "rows": "[1, 2]"}
    task = rendered(
        "BatchInferenceOperator",
        input=[
            "{{ params.number }}",
            "{{ params.row }}",
            "{{ params.nothing }}",
            "{{ params.rows }}",
            "{% if 0 %}{% endif %}",
        ],
        max_rows="{{ params.text }}",
        sql_parameters={"n": "{{ params.text }}"},
        params=values | {"text": "10"},
    )
    assert task.input == [7, {"prompt": "3.10"}, None, [1, 2], None]
    assert (task.max_rows, task.sql_parameters) == (10, {"n": 10})


def test_texts_of_a_chat_and_of_column_names_stay_as_they_are():
    content = [{"role": "user", "content": "{{ params.a }}"}]
    chat = rendered(
        "ChatOperator",
        messages=content,
        system="{{ params.a }}",
        stop=["{{ params.a }}"],
        params={"a": "3.10"},
    )
    assert (chat.messages, chat.system, chat.stop) == (
        [{"role": "user", "content": "3.10"}],
        "3.10",
        ["3.10"],
    )
    batch = rendered(
        "BatchInferenceOperator",
        prompt="{{ params.a }}",
        passthrough=["{{ params.a }}"],
        params={"a": "3.10"},
    )
    assert (batch.prompt, batch.passthrough) == ("3.10", ["3.10"])


def test_a_template_that_fails_says_so_as_always():
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError, match="no attribute 'b'"):
        rendered("BatchInferenceOperator", input=["{{ params.a.b.c }}"], params={"a": {}})


@pytest.mark.parametrize("suffix", ["txt", "j2", "md", "jinja2"])
@pytest.mark.parametrize(
    ("operator", "field"),
    [
        *(
            (name, "prompt")
            for name in VALID_ARGUMENTS
            if "prompt" in operator_classes()[name].template_fields
        ),
        ("UploadDatasetOperator", "answer"),
        ("ChatOperator", "system"),
    ],
)
def test_a_prompt_may_be_a_file(tmp_path, operator, field, suffix):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / f"p.{suffix}").write_text("On {{ ds }}, summarize {body}.\nBriefly.\n")
    task = rendered(operator, searchpath=[tmp_path], **{field: f"prompts/p.{suffix}"})
    assert getattr(task, field) == "On 2026-01-02, summarize {body}.\nBriefly."


def test_an_input_that_ends_like_a_prompt_file_is_not_read(tmp_path):
    (tmp_path / "p.txt").write_text("content")
    task = rendered(
        "BatchInferenceOperator",
        searchpath=[tmp_path],
        input="p.txt",
        prompt="a.txt",
        output="/out/{{ ds }}/p.txt",
        passthrough=["p.txt"],
    )
    assert (task.input, task.prompt, task.output_folder, task.passthrough) == (
        "p.txt", "a.txt", "/out/2026-01-02/p.txt", ["p.txt"]
    )  # fmt: skip


def test_a_prompt_of_a_mapped_task_may_be_a_file(tmp_path):
    (tmp_path / "p.j2").write_text("{{ ds }} {x}")
    task = rendered("BatchInferenceOperator", searchpath=[tmp_path], prompt="later")
    task.prompt = "p.j2"  # a mapped task is made when it runs, after the Dag's files were read
    task.render_template_fields({"params": {}, "ds": "2026-01-02"})
    assert task.prompt == "2026-01-02 {x}"
