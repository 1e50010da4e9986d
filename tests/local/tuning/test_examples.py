"""Tests for training examples, batches, adapter files and recipes; none of them needs torch."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain, islice
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.local.tuning.adapter import UnsupportedModel, layer_names, write_adapter
from airflow_provider_lamini.local.tuning.examples import (
    Example,
    Examples,
    InvalidRows,
    batches,
    encode_row,
    micro_batches,
    prompt_and_completion,
)
from airflow_provider_lamini.local.tuning.trainer import Recipe
from tests.support.tiny_llama import write_rows

SECRET = "xyzzy"


class Letters:
    """Tokenizer with one token per character."""

    eos_token = 0

    def encode(self, text: str, *, first: bool) -> list[int]:
        return [1] * first + [ord(letter) for letter in text]


@pytest.mark.parametrize(
    ("prompt", "answer", "expected"),
    [
        ("Category:", "billing", ("Category:", " billing")),
        ("Category: ", "billing", ("Category:", " billing")),
        ("Category:\n", "billing", ("Category:\n", "billing")),
        ("Category:", " billing", ("Category:", " billing")),
        ("", "billing", ("", "billing")),
    ],
)
def test_one_space_separates_the_prompt_from_the_answer(
    prompt: str, answer: str, expected: tuple[str, str]
) -> None:
    assert prompt_and_completion(prompt, answer) == expected


def test_an_example_ends_with_the_eos_token() -> None:
    example = encode_row("ab\n", "c", Letters(), 10)
    assert example == Example([1, 97, 98, 10, 99, 0], 4, truncated=False)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(2, 30))
def test_a_long_row_is_truncated_and_keeps_the_text_around_the_prompts_end(
    prompt: int, answer: int, context: int
) -> None:
    example = encode_row("p" * prompt + "\n", "a" * answer, Letters(), context)
    assert 0 < len(example.tokens) <= context
    assert example.truncated == (prompt + answer + 3 > context)
    assert example.prompt_length < len(example.tokens)
    assert set(example.tokens[example.prompt_length :]) <= {ord("a"), 0}
    if example.prompt_length:
        assert example.tokens[example.prompt_length - 1] == ord("\n")


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 3), st.integers(0, 20))
def test_each_epoch_has_every_row_once_and_a_resumed_training_sees_the_same_batches(
    rows: int, size: int, seed: int, first_step: int
) -> None:
    steps = list(islice(batches(rows, size, seed, 0), 40))
    assert {len(step) for step in steps} == {min(size, rows)}
    flat = list(chain.from_iterable(steps))
    for start in range(0, len(flat) - rows + 1, rows):
        assert sorted(flat[start : start + rows]) == list(range(rows))
    resumed = list(islice(batches(rows, size, seed, first_step), 40 - first_step))
    assert resumed == steps[first_step:]


def test_the_order_depends_on_the_seed() -> None:
    assert next(batches(50, 10, 0, 0)) != next(batches(50, 10, 1, 0))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20), st.integers(1, 100))
def test_micro_batches_are_bounded_in_tokens(lengths: list[int], limit: int) -> None:
    batch = [Example([7] * length, 0, truncated=False) for length in lengths]
    result = micro_batches(batch, limit)
    assert sorted(len(example.tokens) for part in result for example in part) == sorted(lengths)
    for part in result:
        assert len(part) == 1 or len(part) * max(len(example.tokens) for example in part) <= limit


def test_empty_lines_are_not_counted_as_rows(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [(letter, "x") for letter in "abc"])
    path.write_text(path.read_text().replace("\n", "\n\n"))
    examples = Examples(path, Letters(), 20)
    assert len(examples) == 3
    assert [example.tokens[1] for example in examples.batch([2, 0])] == [ord("c"), ord("a")]


@pytest.mark.parametrize(
    "row",
    [SECRET, json.dumps([SECRET]), json.dumps({"input": SECRET}), json.dumps({"input": SECRET, "output": 1})],
)
def test_the_error_for_an_invalid_row_has_its_number_but_not_its_text(tmp_path: Path, row: str) -> None:
    (tmp_path / "rows").write_text(f"\n{row}\n")
    with pytest.raises(InvalidRows, match=r"^Row 1 of the dataset lacks the strings") as caught:
        Examples(tmp_path / "rows", Letters(), 20).batch([0])
    assert SECRET not in str(caught.value)


def test_a_file_without_rows_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("\n \n")
    with pytest.raises(InvalidRows, match="has no rows"):
        Examples(tmp_path / "rows", Letters(), 20)


def test_layer_names_are_mapped_to_those_of_llama_cpp() -> None:
    modules = ["model.layers.3.self_attn.v_proj", "model.layers.0.mlp.down_proj"]
    for architecture in ("llama", "qwen2", "qwen3", "gemma2"):
        names = layer_names(architecture, 4, modules)
        assert list(names.values()) == ["blk.3.attn_v", "blk.0.ffn_down"]
    for architecture, layers in (
        ("nothing", modules),
        ("llama", ["model.layers.9.self_attn.v_proj"]),
        ("llama", []),
    ):
        with pytest.raises(UnsupportedModel, match="cannot be tuned"):
            layer_names(architecture, 4, layers)


def test_an_adapter_file_has_the_metadata_that_llama_cpp_requires(tmp_path: Path) -> None:
    matrix_a, matrix_b = np.ones((2, 6), dtype=np.float32), np.full((4, 2), 0.5, dtype=np.float32)
    write_adapter(tmp_path / "x.gguf", "llama", 32.0, {"blk.0.attn_v": (matrix_a, matrix_b)})
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    fields = {name: reader.fields[name].contents() for name in reader.fields}
    assert fields["general.type"] == "adapter"
    assert fields["adapter.type"] == "lora"
    assert fields["adapter.lora.alpha"] == 32.0
    arrays = {tensor.name: tensor.data for tensor in reader.tensors}
    np.testing.assert_array_equal(arrays["blk.0.attn_v.weight.lora_a"], matrix_a)
    np.testing.assert_array_equal(arrays["blk.0.attn_v.weight.lora_b"], matrix_b)
    assert [path.name for path in tmp_path.iterdir()] == ["x.gguf"]


def test_a_recipe_survives_encoding_and_decoding(tmp_path: Path) -> None:
    recipe = Recipe(base=tmp_path / "a", rows=tmp_path / "b", folder=tmp_path / "c", alpha=8.0, threads=2)
    assert Recipe.decode(recipe.encode()) == recipe


@pytest.mark.parametrize("invalid", [{"max_steps": 0}, {"rank": 0}, {"learning_rate": 0.0}, {"context": 1}])
def test_an_invalid_recipe_is_rejected(invalid: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Recipe(base=Path("a"), rows=Path("b"), folder=Path("c"), **invalid)


WITHOUT_TORCH = """
import sys
sys.path.insert(0, sys.argv[1])
from airflow_provider_lamini.local.tuning.trainer import TrainingUnavailable, check_available
try:
    check_available()
except TrainingUnavailable as error:
    print(error)
"""


def test_an_installation_that_cannot_train_says_what_to_install() -> None:
    """Runs in a Python interpreter without installed packages."""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", WITHOUT_TORCH, root],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith(
        "Run pip install 'airflow-provider-lamini[train]' where the local platform runs."
    )
    assert "without torch, transformers, peft" in done.stdout
