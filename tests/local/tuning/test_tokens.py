"""Tests that training and llama.cpp split texts into the same tokens."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.engines.llama_server import LlamaServer
from airflow_provider_lamini.local.models.store import ModelStore
from airflow_provider_lamini.local.tuning.examples import encode_row, prompt_and_completion
from tests.support.demo import EXAMPLES
from tests.support.tiny_llama import tiny_llama

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CONTEXT = 2048
EDGE_CASES = [
    ("", "x"),
    ("12345 67.89 €", "1000000"),
    ("two  blanks\tand a tab\n\n\n", "  leading blanks"),
    ("Zoë's naïve café — 東京 🎧🏽", "ﬁ\u00a0x\u200b"),
    ("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", "Hi<|im_end|>"),
    ("a<|endoftext|>b </s><unk>[PAD]", "<|endoftext|>"),
    ("def f(x):\n    return x ** 2  # ok\r\n", "don't can't WE'LL"),
]


def texts() -> list[tuple[str, str]]:
    """Return prompts and answers: tickets with categories, questions with answers, and edge cases."""
    lines = (EXAMPLES / "data" / "tickets_examples.jsonl").read_text(encoding="utf-8").splitlines()
    tickets = [json.loads(line) for line in lines]
    facts = (EXAMPLES / "data" / "invented_facts.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        *(
            (f"Ticket: {ticket['subject']}. {ticket['body']}\nCategory:", ticket["category"])
            for ticket in tickets
        ),
        *((f"Question: {fact['question']}\nAnswer:", fact["answer"]) for fact in map(json.loads, facts)),
        *EDGE_CASES,
    ]


def assert_agree(model: Path, fallback_parent: Path) -> None:
    """Compare the tokens of every prompt as it is served, and of every row as it is trained on."""
    from airflow_provider_lamini.local.tuning.base_model import unpack_model
    from airflow_provider_lamini.local.tuning.lora import BaseTokenizer

    folder, info = unpack_model(model, fallback_parent, print)
    tokenizer = BaseTokenizer(folder, info)
    with closing(LlamaServer(model, parallel=1, context=CONTEXT, threads=1)) as server:

        def read(text: str, *, first: bool) -> list[int]:
            response = server._post("/tokenize", {"content": text, "add_special": first})
            return [int(token) for token in response["tokens"]]

        for prompt, answer in texts():
            example = encode_row(prompt, answer, tokenizer, CONTEXT)
            assert tokenizer.encode(prompt, first=True) == read(prompt, first=True), prompt
            stripped, completion = prompt_and_completion(prompt, answer)
            served = read(stripped, first=True) if stripped else []
            assert example.tokens[: example.prompt_length] == served, prompt
            written = read(completion, first=not served)
            assert example.tokens[example.prompt_length :] == [*written, tokenizer.eos_token], answer


def test_the_tokens_of_a_tiny_model_match_those_of_llama_cpp(tmp_path: Path) -> None:
    assert_agree(tiny_llama(tmp_path / "tiny.gguf"), tmp_path)


@pytest.mark.models
@pytest.mark.long
def test_the_tokens_of_the_real_model_match_those_of_llama_cpp(tmp_path: Path) -> None:
    assert_agree(ModelStore().pull(MODEL).path, tmp_path)
