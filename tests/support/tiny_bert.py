"""A BERT in numpy: made up in small for tests, and the forward pass that any BERT's vectors are held against."""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

HEADS = 12
EPSILON = 1e-12
WORDS = [
    "the",
    "parcel",
    "is",
    "late",
    "where",
    "my",
    "invoice",
    "was",
    "paid",
    "twice",
    "please",
    "refund",
    "you",
]
_NAMES = {"float32": "F32", "float16": "F16", "int64": "I64"}

Arrays = dict[str, "NDArray[np.float32]"]


def write_safetensors(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write arrays in the safetensors format."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    blobs: list[bytes] = []
    offset = 0
    for name, array in arrays.items():
        blob = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": _NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        blobs.append(blob)
        offset += len(blob)
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"".join(blobs))


def tiny_bert(folder: Path, width: int = 96, layers: int = 2) -> Arrays:
    """Write a small BERT with random weights as ``model.safetensors`` and ``tokenizer.json``.

    :param folder: where to write
    :param width: size of a vector, a multiple of 12
    :param layers: number of layers
    :return: its weights by their original names
    """
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", "##ed", ".", "?"]
    random = np.random.default_rng(7)

    def some(*shape: int) -> NDArray[np.float32]:
        return random.normal(0, 0.2, shape).astype(np.float32)

    def norm(name: str) -> Arrays:
        return {f"{name}.weight": 1 + some(width), f"{name}.bias": some(width)}

    def dense(name: str, outputs: int, inputs: int) -> Arrays:
        return {f"{name}.weight": some(outputs, inputs), f"{name}.bias": some(outputs)}

    arrays: Arrays = {
        "embeddings.word_embeddings.weight": some(len(pieces), width),
        "embeddings.position_embeddings.weight": some(512, width),
        "embeddings.token_type_embeddings.weight": some(2, width),
        **norm("embeddings.LayerNorm"),
        **dense("pooler.dense", width, width),
    }
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value"):
            arrays |= dense(f"{at}.{name}", width, width)
        arrays |= dense(f"{at}.attention.output.dense", width, width)
        arrays |= norm(f"{at}.attention.output.LayerNorm")
        arrays |= dense(f"{at}.intermediate.dense", 4 * width, width)
        arrays |= dense(f"{at}.output.dense", width, 4 * width)
        arrays |= norm(f"{at}.output.LayerNorm")
    write_safetensors(
        folder / "model.safetensors",
        {"embeddings.position_ids": np.arange(512, dtype=np.int64)[None], **arrays},
    )
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(pieces)))
    return arrays


def _tokenizer(pieces: list[str]) -> dict[str, object]:
    special = [{"id": piece, "ids": [pieces.index(piece)], "tokens": [piece]} for piece in ("[CLS]", "[SEP]")]
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    frame = [
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    ]
    return {
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": None,
        "added_tokens": [{"id": place, "content": piece, **added} for place, piece in enumerate(pieces[:5])],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": frame,
            "pair": frame,
            "special_tokens": {token["id"]: token for token in special},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {piece: place for place, piece in enumerate(pieces)},
        },
    }


def forward(arrays: Arrays, ids: list[int]) -> NDArray[np.float32]:
    """The vector of a text: BERT's layers, the mean over its tokens, length 1.

    :param arrays: weights by their original names
    :param ids: the text's token ids, with the special ones
    """

    def norm(x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        centred = x - x.mean(-1, keepdims=True)
        scaled: NDArray[np.float32] = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
        return scaled * arrays[f"{name}.weight"] + arrays[f"{name}.bias"]

    def dense(x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        return x @ arrays[f"{name}.weight"].T + arrays[f"{name}.bias"]

    erf = np.vectorize(math.erf, otypes=[np.float32])
    layers = len({name.split(".")[2] for name in arrays if name.startswith("encoder.layer.")})
    x = arrays["embeddings.word_embeddings.weight"][ids]
    x = x + arrays["embeddings.position_embeddings.weight"][: len(ids)]
    x = x + arrays["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        q, k, v = (
            dense(x, f"{at}.attention.self.{name}").reshape(len(ids), HEADS, -1).transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = (weights @ v).transpose(1, 0, 2).reshape(len(ids), -1)
        x = norm(x + dense(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
        inner = dense(x, f"{at}.intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        x = norm(x + dense(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    mean: NDArray[np.float32] = x.mean(0)
    length: np.float32 = np.linalg.norm(mean).astype(np.float32)
    return mean / length
