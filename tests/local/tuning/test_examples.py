"""What of a row the model reads and learns, and which rows a step takes; none of it needs torch."""

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

from airflow_provider_lamini.local.tuning.adapter import LayersUnknown, layer_names, write_adapter
from airflow_provider_lamini.local.tuning.examples import (
    Example,
    Examples,
    RowsUnusable,
    batches,
    example_of,
    pieces,
    present,
)
from airflow_provider_lamini.local.tuning.trainer import Recipe
from tests.support.tiny_llama import write_rows

SECRET = "xyzzy"


class Letters:
    """Splits texts into letters."""

    end = 0

    def split(self, text: str, *, first: bool) -> list[int]:
        return [1] * first + [ord(letter) for letter in text]


@pytest.mark.parametrize(
    ("prompt", "answer", "presented"),
    [
        ("Category:", "billing", ("Category:", " billing")),
        ("Category: ", "billing", ("Category:", " billing")),
        ("Category:\n", "billing", ("Category:\n", "billing")),
        ("Category:", " billing", ("Category:", " billing")),
        ("", "billing", ("", "billing")),
    ],
)
def test_an_answer_follows_its_prompt_as_a_word_follows_another(
    prompt: str, answer: str, presented: tuple[str, str]
) -> None:
    assert present(prompt, answer) == presented


def test_only_the_answer_and_its_end_are_learnt() -> None:
    example = example_of("ab\n", "c", Letters(), 10)
    assert example == Example([1, 97, 98, 10, 99, 0], 4, is_cut=False)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(2, 30))
def test_a_row_is_never_longer_than_the_context_and_keeps_what_is_nearest(
    prompt: int, answer: int, context: int
) -> None:
    asked, told = "p" * prompt + "\n", "a" * answer
    example = example_of(asked, told, Letters(), context)
    assert 0 < len(example.tokens) <= context
    assert example.is_cut == (prompt + answer + 3 > context)
    assert example.prompt < len(example.tokens)
    assert set(example.tokens[example.prompt :]) <= {ord("a"), 0}
    if example.prompt:
        assert example.tokens[example.prompt - 1] == ord("\n")


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 3), st.integers(0, 20))
def test_every_row_comes_once_before_any_comes_again(rows: int, size: int, seed: int, begin: int) -> None:
    taken = min(size, rows)
    steps = list(islice(batches(rows, size, seed, 0), 40))
    assert {len(step) for step in steps} == {taken}
    flat = list(chain.from_iterable(steps))
    for start in range(0, len(flat) - rows + 1, rows):
        assert sorted(flat[start : start + rows]) == list(range(rows))
    later = list(islice(batches(rows, size, seed, begin), 40 - begin))
    assert later == steps[begin:]


def test_another_seed_gives_another_order() -> None:
    assert next(batches(50, 10, 0, 0)) != next(batches(50, 10, 1, 0))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20), st.integers(1, 100))
def test_no_piece_of_a_batch_is_larger_than_it_may_be(lengths: list[int], limit: int) -> None:
    batch = [Example([7] * length, 0, is_cut=False) for length in lengths]
    cut = pieces(batch, limit)
    assert sorted(len(one.tokens) for piece in cut for one in piece) == sorted(lengths)
    for piece in cut:
        assert len(piece) == 1 or len(piece) * max(len(one.tokens) for one in piece) <= limit


def test_rows_are_read_by_their_numbers_past_empty_lines(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [(letter, "x") for letter in "abc"])
    path.write_text(path.read_text().replace("\n", "\n\n"))
    examples = Examples(path, Letters(), 20)
    assert len(examples) == 3
    assert [one.tokens[1] for one in examples.batch([2, 0])] == [ord("c"), ord("a")]


@pytest.mark.parametrize(
    "row",
    [SECRET, json.dumps([SECRET]), json.dumps({"input": SECRET}), json.dumps({"input": SECRET, "output": 1})],
)
def test_rows_that_cannot_be_learnt_are_named_without_their_text(tmp_path: Path, row: str) -> None:
    (tmp_path / "rows").write_text(f"\n{row}\n")
    with pytest.raises(RowsUnusable, match=r"^Row 1 of the dataset has no two texts") as caught:
        Examples(tmp_path / "rows", Letters(), 20).batch([0])
    assert SECRET not in str(caught.value)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("\n \n")
    with pytest.raises(RowsUnusable, match="holds no row"):
        Examples(tmp_path / "rows", Letters(), 20)


def test_layers_get_the_names_that_llama_cpp_gives_them() -> None:
    modules = ["model.layers.3.self_attn.v_proj", "model.layers.0.mlp.down_proj"]
    for kind in ("llama", "qwen2", "qwen3", "gemma2"):
        names = layer_names(kind, 4, modules)
        assert list(names.values()) == ["blk.3.attn_v", "blk.0.ffn_down"]
    for kind, layers in (("nothing", modules), ("llama", ["model.layers.9.self_attn.v_proj"]), ("llama", [])):
        with pytest.raises(LayersUnknown, match="cannot be tuned here"):
            layer_names(kind, 4, layers)


def test_an_adapter_says_what_llama_cpp_asks_of_it(tmp_path: Path) -> None:
    inner, outer = np.ones((2, 6), dtype=np.float32), np.full((4, 2), 0.5, dtype=np.float32)
    write_adapter(tmp_path / "x.gguf", "llama", 32.0, {"blk.0.attn_v": (inner, outer)})
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    fields = {name: reader.fields[name].contents() for name in reader.fields}
    assert fields["general.type"] == "adapter"
    assert fields["adapter.type"] == "lora"
    assert fields["adapter.lora.alpha"] == 32.0
    arrays = {tensor.name: tensor.data for tensor in reader.tensors}
    np.testing.assert_array_equal(arrays["blk.0.attn_v.weight.lora_a"], inner)
    np.testing.assert_array_equal(arrays["blk.0.attn_v.weight.lora_b"], outer)
    assert [path.name for path in tmp_path.iterdir()] == ["x.gguf"]


def test_a_recipe_comes_back_as_it_was_written(tmp_path: Path) -> None:
    recipe = Recipe(base=tmp_path / "a", rows=tmp_path / "b", folder=tmp_path / "c", alpha=8.0, threads=2)
    assert Recipe.decode(recipe.encode()) == recipe


@pytest.mark.parametrize("wrong", [{"max_steps": 0}, {"rank": 0}, {"learning_rate": 0.0}, {"context": 1}])
def test_a_recipe_that_cannot_work_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Recipe(base=Path("a"), rows=Path("b"), folder=Path("c"), **wrong)


WITHOUT_TORCH = """
import sys
sys.path.insert(0, sys.argv[1])
from airflow_provider_lamini.local.tuning.trainer import Unavailable, check_available
try:
    check_available()
except Unavailable as error:
    print(error)
"""


def test_an_installation_that_cannot_train_says_what_to_install() -> None:
    """In a Python that sees no installed package."""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", WITHOUT_TORCH, root],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Tuning needs torch, transformers, peft" in done.stdout
    assert "pip install 'airflow-provider-lamini[train]'" in done.stdout
