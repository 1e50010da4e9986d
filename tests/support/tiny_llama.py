"""A llama of a few thousand weights that both llama.cpp and transformers load, and adapters for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import gguf
import numpy as np

from airflow_provider_lamini.local.tuning.adapter import write_adapter  # noqa: TID251 - it makes files for the local platform

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

WIDTH = 64
LAYERS = 2
HEADS = 4
INNER = 128
CONTEXT = 256
END = "<|end|>"
SPECIAL = ("<|unknown|>", "<|begin|>", END)
MERGES = ("Ġ t", "h e", "Ġt he")
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
)


def byte_letters() -> list[str]:
    """The letter that byte-level tokenizers write for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def tiny_llama(path: Path, seed: int = 1) -> Path:
    """Write a llama with random weights, byte by byte the same for the same seed.

    :param path: the GGUF file to write
    :param seed: decides the weights
    :return: the file
    """
    random = np.random.default_rng(seed)

    def some(*shape: int) -> NDArray[np.float32]:
        return random.normal(0, 1 / np.sqrt(shape[-1]), shape).astype(np.float32)

    words = [*SPECIAL, *byte_letters(), *(merge.replace(" ", "") for merge in MERGES)]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(words) - len(SPECIAL))
    writer.add_token_types(kinds)
    writer.add_token_merges(list(MERGES))
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(value=False)
    writer.add_chat_template(TEMPLATE)
    writer.add_tensor("token_embd.weight", some(len(words), WIDTH))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    for layer in range(LAYERS):
        at = f"blk.{layer}"
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{at}.{name}.weight", np.ones(WIDTH, dtype=np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{at}.{name}.weight", some(WIDTH, WIDTH))
        for name in ("ffn_gate", "ffn_up"):
            writer.add_tensor(f"{at}.{name}.weight", some(INNER, WIDTH))
        writer.add_tensor(f"{at}.ffn_down.weight", some(WIDTH, INNER))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tiny_adapter(path: Path, seed: int, rank: int = 4) -> Path:
    """Write a LoRA of :func:`tiny_llama` with random weights, large enough to change every answer.

    :param path: the GGUF file to write
    :param seed: decides the weights
    :param rank: rank of its matrices
    :return: the file
    """
    random = np.random.default_rng(seed)
    shapes = {"attn_v": (WIDTH, WIDTH), "attn_output": (WIDTH, WIDTH), "ffn_down": (WIDTH, INNER)}
    layers = {
        f"blk.{layer}.{name}": (
            random.normal(0, 0.4, (rank, inputs)).astype(np.float32),
            random.normal(0, 0.4, (outputs, rank)).astype(np.float32),
        )
        for layer in range(LAYERS)
        for name, (outputs, inputs) in shapes.items()
    }
    write_adapter(path, "llama", float(rank), layers)
    return path


def write_rows(path: Path, rows: Iterable[tuple[str, str]]) -> Path:
    """Write rows as the trainer reads them.

    :param path: the file to write
    :param rows: input and output of each
    :return: the file
    """
    path.write_text("".join(json.dumps({"input": one, "output": other}) + "\n" for one, other in rows))
    return path
