"""Training for real, of a llama of a few thousand weights, in the process that a platform starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from airflow_provider_lamini.api.output_types import json_schema
from airflow_provider_lamini.local.engines.base import GenerationRequest
from airflow_provider_lamini.local.engines.llama import LlamaTextEngine
from airflow_provider_lamini.local.served import ServedTexts
from airflow_provider_lamini.local.tuning.trainer import Recipe, Step, TrainingFailed, train
from tests.support.tiny_bert import tiny_bert
from tests.support.tiny_llama import tiny_llama, write_rows

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[3]
FACTS = [("the sky is", "blue"), ("the sun is", "hot"), ("the sea is\n", "deep"), ("the ice is ", "cold")]
SECRET = "xyzzy"


class Ended(BaseException):
    """The job has to end now."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model; what torch reads of it is made once."""
    return tiny_llama(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture
def recipe(base: Path, tmp_path: Path) -> Callable[..., Recipe]:
    """Make a recipe, with changes."""
    write_rows(tmp_path / "rows.jsonl", FACTS)

    def make(**changes: Any) -> Recipe:
        usual: dict[str, Any] = {
            "base": base,
            "rows": tmp_path / "rows.jsonl",
            "folder": tmp_path / "job",
            "max_steps": 6,
            "learning_rate": 1e-2,
            "batch_size": 4,
            "checkpoint_every": 2,
            "threads": 1,
        }
        return Recipe(**usual | changes)

    return make


def nothing(*_: object) -> None:
    """Let the training go on."""


def children() -> list[psutil.Process]:
    return [
        one for one in psutil.Process().children(recursive=True) if "tuning.worker" in " ".join(one.cmdline())
    ]


def steps_of(recipe: Recipe) -> list[int]:
    steps: list[Step] = []
    train(recipe, check=nothing, on_step=steps.append)
    return [step.step for step in steps]


def test_a_trained_model_answers_what_it_was_taught_and_the_base_model_does_not(
    recipe: Callable[..., Recipe],
) -> None:
    """As a bare prompt, as an object of one text, and as a choice."""
    steps: list[Step] = []
    given = recipe(max_steps=150)
    adapter = train(given, check=nothing, on_step=steps.append)
    assert [step.step for step in steps] == list(range(1, 151))
    assert [(step.total, step.learning_rate) for step in steps] == [
        (150, given.rate_of(number)) for number in range(1, 151)
    ]
    assert steps[0].loss > 3
    assert steps[-1].loss < 0.2
    assert all(step.seconds > 0 for step in steps)
    schema = json_schema({"answer": "str"})
    labels = json_schema({"answer": [answer for _, answer in FACTS]})
    with closing(
        ServedTexts(LlamaTextEngine({"base": given.base}, parallel=2, context=128, threads=1))
    ) as texts:
        texts.adapt("tuned", "base", adapter)

        def right(name: str, schema: dict[str, Any] | None) -> int:
            told = [
                texts.generate(
                    GenerationRequest(model_name=name, prompt=prompt, max_tokens=8, json_schema=schema)
                )
                for prompt, _ in FACTS
            ]
            said = [one.text.strip() if schema is None else json.loads(one.text)["answer"] for one in told]
            if name == "tuned":
                assert {one.finish_reason for one in told} == {"stop"}
            return sum(one == answer for one, (_, answer) in zip(said, FACTS, strict=True))

        assert [right("tuned", one) for one in (None, schema, labels)] == [4, 4, 4]
        assert [right("base", one) for one in (None, schema)] == [0, 0]


def test_a_model_that_was_taught_objects_writes_objects_of_several_fields(
    recipe: Callable[..., Recipe],
) -> None:
    """As ``json.dumps`` writes them, which is how the engine asks for them: field by field."""
    wanted = [{"it": answer, "n": number} for number, (_, answer) in enumerate(FACTS)]
    given = recipe(max_steps=200)
    write_rows(
        given.rows, [(prompt, json.dumps(told)) for (prompt, _), told in zip(FACTS, wanted, strict=True)]
    )
    adapter = train(given, check=nothing, on_step=nothing)
    schema = json_schema({"it": "str", "n": "int"})
    with closing(
        ServedTexts(LlamaTextEngine({"base": given.base}, parallel=1, context=128, threads=1))
    ) as texts:
        texts.adapt("tuned", "base", adapter)
        told = [
            texts.generate(
                GenerationRequest(model_name="tuned", prompt=prompt, max_tokens=16, json_schema=schema)
            )
            for prompt, _ in FACTS
        ]
    assert [json.loads(one.text) for one in told] == wanted


def test_a_training_that_was_stopped_goes_on_from_its_checkpoint_to_the_same_end(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    def stop_at_5(step: Step) -> None:
        told.append(step.step)
        if step.step == 5:
            raise Ended

    told: list[int] = []
    stopped = recipe()
    with pytest.raises(Ended):
        train(stopped, check=nothing, on_step=stop_at_5)
    assert told == [1, 2, 3, 4, 5]
    assert not children()
    assert steps_of(stopped) == [5, 6]
    assert steps_of(stopped) == []
    whole = recipe(folder=tmp_path / "whole")
    assert steps_of(whole) == [1, 2, 3, 4, 5, 6]
    adapters = [(one.folder / "adapter.gguf").read_bytes() for one in (stopped, whole)]
    assert adapters[0] == adapters[1]
    assert steps_of(recipe(max_steps=8)) == [7, 8]
    with pytest.raises(TrainingFailed, match="other rows, another model or other settings"):
        steps_of(recipe(rank=8))


def test_a_killed_process_is_told_and_its_training_goes_on_later(recipe: Callable[..., Recipe]) -> None:
    def kill(step: Step) -> None:
        if step.step == 3:
            (worker,) = children()
            worker.send_signal(signal.SIGKILL)

    with pytest.raises(TrainingFailed, match=r"killed by signal 9.*can be resumed"):
        train(recipe(), check=nothing, on_step=kill)


def test_check_is_asked_while_no_step_comes_and_the_process_ends_with_it(
    recipe: Callable[..., Recipe],
) -> None:
    asked: list[float] = []

    def check() -> None:
        asked.append(time.monotonic())
        if len(asked) == 5:
            raise Ended

    with pytest.raises(Ended):
        train(recipe(), check=check, on_step=nothing)
    assert max(later - one for one, later in pairwise(asked)) < 1
    assert not children()


def test_while_check_waits_no_step_is_done(recipe: Callable[..., Recipe]) -> None:
    def hold() -> None:
        if told and told[-1].step == 2 and not held:
            before = [one.cpu_times().user for one in children()]
            time.sleep(1)
            held.extend(one.cpu_times().user - was for one, was in zip(children(), before, strict=True))

    told: list[Step] = []
    held: list[float] = []
    train(recipe(checkpoint_every=1), check=hold, on_step=told.append)
    assert len(held) == 1
    assert held[0] < 0.5
    assert [step.step for step in told] == [1, 2, 3, 4, 5, 6]


PARENT = """
import sys
from airflow_provider_lamini.local.tuning.trainer import Recipe, train

def tell(step):
    print(step.step, flush=True)

train(Recipe.decode(sys.stdin.buffer.readline()), check=lambda: None, on_step=tell)
"""


def test_the_process_does_not_outlive_the_one_that_started_it(recipe: Callable[..., Recipe]) -> None:
    given = recipe(max_steps=100_000)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    with parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(given.encode())
        parent.stdin.flush()
        assert parent.stdout.readline() == b"1\n"
        (worker,) = children()
        os.kill(parent.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs([worker], timeout=10)
    assert not alive


def test_a_row_that_cannot_be_learnt_is_named_without_its_text(recipe: Callable[..., Recipe]) -> None:
    given = recipe()
    given.rows.write_text(f'{{"input": "{SECRET}", "output": "b"}}\n\n{{"input": "{SECRET}"}}\n')
    with pytest.raises(TrainingFailed, match="Row 2 of the dataset has no") as caught:
        train(given, check=nothing, on_step=nothing)
    assert SECRET not in str(caught.value)


def test_a_model_that_is_no_text_model_is_refused(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    from airflow_provider_lamini.local.models.conversion import convert_bert

    tiny_bert(tmp_path)
    convert_bert(tmp_path / "model.safetensors", tmp_path / "tokenizer.json", tmp_path / "bert.gguf")
    with pytest.raises(TrainingFailed, match=r"cannot read bert\.gguf|cannot be tuned"):
        train(recipe(base=tmp_path / "bert.gguf"), check=nothing, on_step=nothing)
    (tmp_path / "bad.gguf").write_bytes(b"GGUF but no more")
    with pytest.raises(TrainingFailed, match=r"bad\.gguf is no GGUF model"):
        train(recipe(base=tmp_path / "bad.gguf"), check=nothing, on_step=nothing)


def test_a_row_with_another_models_special_token_is_learnt_as_text(recipe: Callable[..., Recipe]) -> None:
    given = recipe(max_steps=2)
    write_rows(given.rows, [("what<|endoftext|>", "<|endoftext|>"), ("<unk></s>", "[PAD]")])
    assert steps_of(given) == [1, 2]


def test_long_rows_are_cut_and_the_log_says_so(
    recipe: Callable[..., Recipe], caplog: pytest.LogCaptureFixture
) -> None:
    given = recipe(context=32, max_steps=2)
    write_rows(given.rows, [(SECRET * 100, "yes"), ("short", "no" * 500)])
    with caplog.at_level("INFO"):
        assert steps_of(given) == [1, 2]
    assert "longer than the model's context" in caplog.text
    assert SECRET not in caplog.text


def test_a_model_in_a_folder_that_cannot_be_written_is_trained_too(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """The folder's name is taken by a file, which stops the administrator too."""
    folder = tmp_path / "fixed"
    folder.mkdir()
    model = tiny_llama(folder / "tiny.gguf")
    (folder / "tiny.torch").write_bytes(b"")
    assert steps_of(recipe(base=model, max_steps=1)) == [1]
