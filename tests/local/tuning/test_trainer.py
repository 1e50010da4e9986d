"""Tests that really train a llama of a few thousand weights.

Those of the subprocess that the platform uses call ``train``; all but one let it be a fork. What the training computes is
tested in this process, because it takes seconds to start another one with torch.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from airflow_provider_lamini.api.output_types import json_schema
from airflow_provider_lamini.local.engines.base import GenerationRequest
from airflow_provider_lamini.local.engines.llama import LlamaTextEngine
from airflow_provider_lamini.local.served_models import ServedModels
from airflow_provider_lamini.local.tuning import trainer
from airflow_provider_lamini.local.tuning.trainer import Recipe, Step, TrainingFailed, train
from tests.support.tiny_bert import tiny_bert
from tests.support.tiny_llama import tiny_llama, write_rows
from tests.support.training_forks import ForkedWorker, forking_trainer

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),  # the training process ignores warnings
]

ROOT = Path(__file__).parents[3]
FACTS = [("the sky is", "blue"), ("the sun is", "hot"), ("the sea is\n", "deep"), ("the ice is ", "cold")]
SECRET = "xyzzy"


class Stopped(BaseException):
    """Raised by a callback to stop the training."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    """Let torch use one thread here too, as the recipes do: the models are tiny."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _forks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "start_worker", ForkedWorker)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model, shared so that it is converted only once."""
    return tiny_llama(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture
def recipe(base: Path, tmp_path: Path) -> Callable[..., Recipe]:
    """Return a function that creates a recipe, with optional changes."""
    write_rows(tmp_path / "rows.jsonl", FACTS)

    def make(**changes: Any) -> Recipe:
        defaults: dict[str, Any] = {
            "base": base,
            "rows": tmp_path / "rows.jsonl",
            "folder": tmp_path / "job",
            "max_steps": 6,
            "learning_rate": 1e-2,
            "batch_size": 4,
            "checkpoint_every": 2,
            "threads": 1,
        }
        return Recipe(**defaults | changes)

    return make


@dataclass
class Recorder:
    """Keeps the steps and the log of a training."""

    steps: list[Step] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def log(self, text: str) -> None:
        self.lines.append(text)

    def report(self, step: Step) -> None:
        self.steps.append(step)

    def wait_for_next_step(self) -> None:
        """Let the training continue."""


def train_here(recipe: Recipe) -> Recorder:
    """Train in this process; return the steps and the log."""
    from airflow_provider_lamini.local.tuning.worker import train_in_this_process

    recipe.folder.mkdir(exist_ok=True)
    recorder = Recorder()
    train_in_this_process(recipe, recorder)
    return recorder


def do_nothing(*_: object) -> None:
    """Let the training continue."""


def training_processes() -> list[psutil.Process]:
    return psutil.Process(forking_trainer().pid).children()


def steps_of(recipe: Recipe) -> list[int]:
    steps: list[Step] = []
    train(recipe, check=do_nothing, on_step=steps.append)
    return [step.step for step in steps]


def test_a_tuned_model_knows_the_training_answers_and_the_base_model_does_not(
    recipe: Callable[..., Recipe],
) -> None:
    """For plain text, for an object with a single string, and for a choice of labels."""
    settings = recipe(max_steps=150)
    steps = train_here(settings).steps
    assert [step.step for step in steps] == list(range(1, 151))
    assert [(step.total, step.learning_rate) for step in steps] == [
        (150, settings.learning_rate_at(number)) for number in range(1, 151)
    ]
    assert steps[0].loss > 3
    assert steps[-1].loss < 0.2
    assert all(step.seconds > 0 for step in steps)
    schema = json_schema({"answer": "str"})
    labels = json_schema({"answer": [answer for _, answer in FACTS]})
    with closing(
        ServedModels(LlamaTextEngine({"base": settings.base}, parallel=2, context=128, threads=1))
    ) as texts:
        texts.add_adapter("tuned", "base", settings.adapter_path(settings.max_steps))

        def count_right(name: str, schema: dict[str, Any] | None) -> int:
            generations = [
                texts.generate(
                    GenerationRequest(model_name=name, prompt=prompt, max_tokens=8, json_schema=schema)
                )
                for prompt, _ in FACTS
            ]
            answers = [
                done.text.strip() if schema is None else json.loads(done.text)["answer"]
                for done in generations
            ]
            if name == "tuned":
                assert {done.finish_reason for done in generations} == {"stop"}
            return sum(found == answer for found, (_, answer) in zip(answers, FACTS, strict=True))

        assert [count_right("tuned", output) for output in (None, schema, labels)] == [4, 4, 4]
        assert [count_right("base", output) for output in (None, schema)] == [0, 0]


def test_a_model_tuned_on_json_generates_objects_with_several_fields(
    recipe: Callable[..., Recipe],
) -> None:
    """The engine generates objects field by field, in the same format as ``json.dumps``."""
    expected = [{"it": answer, "n": number} for number, (_, answer) in enumerate(FACTS)]
    settings = recipe(max_steps=200)
    write_rows(
        settings.rows,
        [(prompt, json.dumps(value)) for (prompt, _), value in zip(FACTS, expected, strict=True)],
    )
    train_here(settings)
    schema = json_schema({"it": "str", "n": "int"})
    with closing(
        ServedModels(LlamaTextEngine({"base": settings.base}, parallel=1, context=128, threads=1))
    ) as texts:
        texts.add_adapter("tuned", "base", settings.adapter_path(settings.max_steps))
        generations = [
            texts.generate(
                GenerationRequest(model_name="tuned", prompt=prompt, max_tokens=16, json_schema=schema)
            )
            for prompt, _ in FACTS
        ]
    assert [json.loads(done.text) for done in generations] == expected


def test_a_stopped_training_resumes_from_its_checkpoint_with_the_same_result(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    def stop_at_5(step: Step) -> None:
        steps.append(step.step)
        if step.step == 5:
            raise Stopped

    steps: list[int] = []
    stopped = recipe()
    with pytest.raises(Stopped):
        train(stopped, check=do_nothing, on_step=stop_at_5)
    assert steps == [1, 2, 3, 4, 5]
    assert not training_processes()
    assert steps_of(stopped) == [5, 6]
    assert steps_of(stopped) == []
    uninterrupted = recipe(folder=tmp_path / "uninterrupted")
    assert len(train_here(uninterrupted).steps) == 6
    adapters = [(item.folder / "adapter.gguf").read_bytes() for item in (stopped, uninterrupted)]
    assert adapters[0] == adapters[1]
    assert [step.step for step in train_here(recipe(max_steps=8)).steps] == [7, 8]
    with pytest.raises(TrainingFailed, match="other rows, another model or other settings"):
        train_here(recipe(rank=8))


def test_the_error_for_a_killed_process_says_that_the_training_can_be_resumed(
    recipe: Callable[..., Recipe],
) -> None:
    def kill(step: Step) -> None:
        if step.step == 3:
            (worker,) = training_processes()
            worker.send_signal(signal.SIGKILL)

    with pytest.raises(TrainingFailed, match=r"killed by signal 9.*can be resumed"):
        train(recipe(), check=do_nothing, on_step=kill)


def test_check_is_called_during_a_step_and_can_stop_the_process(
    recipe: Callable[..., Recipe],
) -> None:
    calls: list[float] = []

    def check() -> None:
        calls.append(time.monotonic())
        if len(calls) == 5:
            raise Stopped

    with pytest.raises(Stopped):
        train(recipe(), check=check, on_step=do_nothing)
    assert max(later - earlier for earlier, later in pairwise(calls)) < 1
    assert not training_processes()


def test_no_step_is_computed_while_check_blocks(recipe: Callable[..., Recipe]) -> None:
    def block() -> None:
        if steps and steps[-1].step == 2 and not cpu_times:
            (process,) = training_processes()
            before = process.cpu_times().user
            time.sleep(1)
            cpu_times.append(process.cpu_times().user - before)

    steps: list[Step] = []
    cpu_times: list[float] = []
    train(recipe(checkpoint_every=1), check=block, on_step=steps.append)
    assert len(cpu_times) == 1
    assert cpu_times[0] < 0.5
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6]


PARENT = """
import sys
from airflow_provider_lamini.local.tuning import trainer
from airflow_provider_lamini.local.tuning.trainer import Recipe, train

def print_step(step):
    print(step.step, flush=True)

train(Recipe.decode(sys.stdin.buffer.readline()), check=lambda: None, on_step=print_step)
"""


def test_the_training_process_exits_with_its_parent(recipe: Callable[..., Recipe]) -> None:
    settings = recipe(max_steps=100_000)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    with parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(settings.encode())
        parent.stdin.flush()
        assert parent.stdout.readline() == b"1\n"
        (worker,) = psutil.Process(parent.pid).children()
        assert "tuning.worker" in " ".join(worker.cmdline())
        os.kill(parent.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs([worker], timeout=10)
    assert not alive


def test_the_error_for_an_invalid_row_has_its_number_but_not_its_text(recipe: Callable[..., Recipe]) -> None:
    settings = recipe()
    settings.rows.write_text(f'{{"input": "{SECRET}", "output": "b"}}\n\n{{"input": "{SECRET}"}}\n')
    with pytest.raises(TrainingFailed, match="Row 2 of the dataset lacks") as caught:
        train_here(settings)
    assert SECRET not in str(caught.value)


def test_a_model_that_is_not_a_text_model_is_rejected(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    from airflow_provider_lamini.local.models.conversion import convert_bert

    tiny_bert(tmp_path)
    convert_bert(tmp_path / "model.safetensors", tmp_path / "tokenizer.json", tmp_path / "bert.gguf")
    with pytest.raises(TrainingFailed, match=r"cannot read bert\.gguf|cannot be tuned"):
        train_here(recipe(base=tmp_path / "bert.gguf"))
    (tmp_path / "bad.gguf").write_bytes(b"GGUF but no more")
    with pytest.raises(TrainingFailed, match=r"bad\.gguf is not a GGUF model"):
        train(recipe(base=tmp_path / "bad.gguf"), check=do_nothing, on_step=do_nothing)


def test_special_tokens_of_other_models_are_ordinary_text(recipe: Callable[..., Recipe]) -> None:
    settings = recipe(max_steps=2)
    write_rows(settings.rows, [("what<|endoftext|>", "<|endoftext|>"), ("<unk></s>", "[PAD]")])
    assert len(train_here(settings).steps) == 2


def test_truncation_of_long_rows_is_logged(recipe: Callable[..., Recipe]) -> None:
    settings = recipe(context=32, max_steps=2)
    write_rows(settings.rows, [(SECRET * 100, "yes"), ("short", "no" * 500)])
    log = "\n".join(train_here(settings).lines)
    assert "longer than the model's context" in log
    assert SECRET not in log


def test_a_model_in_a_read_only_folder_can_be_tuned(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """A file with the name of the cache folder blocks it, because permissions do not restrict root."""
    folder = tmp_path / "fixed"
    folder.mkdir()
    model = tiny_llama(folder / "tiny.gguf")
    (folder / "tiny.torch").write_bytes(b"")
    assert len(train_here(recipe(base=model, max_steps=1)).steps) == 1


def test_adapters_are_kept_on_the_way(recipe: Callable[..., Recipe]) -> None:
    settings = recipe(max_steps=5, adapter_every=2)
    train_here(settings)
    contents = {settings.adapter_path(step).read_bytes() for step in settings.adapter_steps()}
    assert settings.adapter_steps() == [2, 4, 5]
    assert len(contents) == 3


def test_a_training_continues_from_the_adapter_of_another(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    settings = recipe(max_steps=60)
    first, start = train_here(settings).steps, settings.adapter_path(60)
    (step,) = train_here(recipe(folder=tmp_path / "second", start=start, max_steps=1)).steps
    assert first[0].loss > 3
    assert step.loss < 2 * first[-1].loss
    with pytest.raises(TrainingFailed, match="another rank"):
        train_here(recipe(folder=tmp_path / "third", start=start, rank=4))


def test_a_model_learns_to_write_what_is_rewarded(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """It starts from a model that knows two answers to each question, and learns from the rewards of its own answers."""
    rows = write_rows(tmp_path / "both.jsonl", [*FACTS[:2], ("the sky is", "grey"), ("the sun is", "red")])
    both = recipe(rows=rows, max_steps=100, context=32)
    train_here(both)
    settings = recipe(
        rows=write_rows(tmp_path / "rewarded.jsonl", FACTS[:2]),
        folder=tmp_path / "rewarded",
        start=both.adapter_path(100),
        reward={"exact_match": 1.0},
        generations=16,
        max_steps=40,
        learning_rate=4e-3,
        context=32,
    )
    log = "\n".join(train_here(settings).lines)
    rewards = [float(found) for found in re.findall(r"mean reward of 32 answers is ([\d.]+)\.", log)]
    assert len(rewards) == 40
    assert sum(rewards[-15:]) / 15 > sum(rewards[:5]) / 5 + 0.1
