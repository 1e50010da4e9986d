"""What training reads of a text and what llama.cpp reads of it are the same tokens."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.engines.llama_server import LlamaServer
from airflow_provider_lamini.local.models.store import ModelStore
from airflow_provider_lamini.local.tuning.examples import example_of, present
from tests.support.demo import EXAMPLES
from tests.support.tiny_llama import tiny_llama

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CONTEXT = 2048
ODD = [
    ("", "x"),
    ("12345 67.89 €", "1000000"),
    ("two  blanks\tand a tab\n\n\n", "  leading blanks"),
    ("Zoë's naïve café — 東京 🎧🏽", "ﬁ\u00a0x\u200b"),
    ("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", "Hi<|im_end|>"),
    ("a<|endoftext|>b </s><unk>[PAD]", "<|endoftext|>"),
    ("def f(x):\n    return x ** 2  # ok\r\n", "don't can't WE'LL"),
]


def texts() -> list[tuple[str, str]]:
    """Tickets with their categories, questions with their answers, and what no ticket holds."""
    lines = (EXAMPLES / "data" / "tickets_examples.jsonl").read_text(encoding="utf-8").splitlines()
    tickets = [json.loads(line) for line in lines]
    facts = (EXAMPLES / "data" / "invented_facts.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        *((f"Ticket: {one['subject']}. {one['body']}\nCategory:", one["category"]) for one in tickets),
        *((f"Question: {one['question']}\nAnswer:", one["answer"]) for one in map(json.loads, facts)),
        *ODD,
    ]


def assert_agree(model: Path, spare: Path) -> None:
    """Compare each prompt as it is served, and each row as it is learnt."""
    from airflow_provider_lamini.local.tuning.lora import Tokenizer
    from airflow_provider_lamini.local.tuning.weights import unpacked

    folder, about = unpacked(model, spare, print)
    tokenizer = Tokenizer(folder, about)
    with closing(LlamaServer(model, parallel=1, context=CONTEXT, threads=1)) as server:

        def read(text: str, *, first: bool) -> list[int]:
            answer = server._ask("/tokenize", {"content": text, "add_special": first})
            return [int(token) for token in answer["tokens"]]

        for prompt, answer in texts():
            learnt = example_of(prompt, answer, tokenizer, CONTEXT)
            assert tokenizer.split(prompt, first=True) == read(prompt, first=True), prompt
            begun, rest = present(prompt, answer)
            served = read(begun, first=True) if begun else []
            assert learnt.tokens[: learnt.prompt] == served, prompt
            written = read(rest, first=not served)
            assert learnt.tokens[learnt.prompt :] == [*written, tokenizer.end], answer


def test_a_tiny_model_learns_the_tokens_that_llama_cpp_reads(tmp_path: Path) -> None:
    assert_agree(tiny_llama(tmp_path / "tiny.gguf"), tmp_path)


@pytest.mark.models
def test_the_local_model_learns_the_tokens_that_llama_cpp_reads(tmp_path: Path) -> None:
    assert_agree(ModelStore().pull(MODEL).path, tmp_path)
