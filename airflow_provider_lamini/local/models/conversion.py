"""Conversion of all-MiniLM-L6-v2 from safetensors to a GGUF file for llama.cpp, without torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import gguf
import numpy as np
import safetensors

from airflow_provider_lamini.local.models.files import UnreadableModel

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SPACE = "\u2581"
"""llama.cpp's prefix for a token that starts a word."""
HEADS = 12
CONTEXT = 512
LAYER_NORM_EPSILON = 1e-12
UNUSED = ("pooler.", "embeddings.position_ids")
FULL_PRECISION = ("position_embd", "token_types")


def read_safetensors(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read the arrays of a safetensors file.

    :param path: the file
    :return: arrays by name
    :raises UnreadableModel: it is not a safetensors file, or uses a type that NumPy does not have, such as BF16
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it cannot be iterated
    except (safetensors.SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableModel(f"{path.name} is not a supported safetensors file: {error}") from error


def read_vocabulary(tokenizer: Path) -> list[str]:
    """Return the word pieces of a ``tokenizer.json``, ordered by id.

    :raises UnreadableModel: it has no vocabulary with consecutive ids from 0
    """
    try:
        vocabulary: dict[str, int] = json.loads(tokenizer.read_bytes())["model"]["vocab"]
        pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnreadableModel(f"{tokenizer.name} has no vocabulary that can be read.") from error
    if not pieces or [vocabulary[piece] for piece in pieces] != list(range(len(pieces))):
        raise UnreadableModel(f"The vocabulary of {tokenizer.name} is empty, or its ids have gaps.")
    return pieces


def convert_bert(weights: Path, tokenizer: Path, target: Path) -> None:
    """Convert a sentence transformer with a BERT architecture to a GGUF file in half precision.

    :param weights: ``model.safetensors``
    :param tokenizer: ``tokenizer.json``
    :param target: the file to write
    :raises UnreadableModel: the files are not those of a BERT model
    """
    tensors = read_safetensors(weights)
    pieces = read_vocabulary(tokenizer)
    blocks = len({name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")})
    try:
        vocabulary_size, width = tensors["embeddings.word_embeddings.weight"].shape
        feed_forward = tensors["encoder.layer.0.intermediate.dense.weight"].shape[0]
        token_types = tensors["embeddings.token_type_embeddings.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise UnreadableModel(
            f"{weights.name} is not a BERT model: tensors of its embeddings or its first layer are missing."
        ) from error
    if vocabulary_size != len(pieces):
        raise UnreadableModel(f"{weights.name} and {tokenizer.name} have vocabularies of different sizes.")

    writer = gguf.GGUFWriter(target, "bert")
    writer.add_name(target.stem)
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(feed_forward)
    writer.add_block_count(blocks)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(LAYER_NORM_EPSILON)
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    _add_tokenizer(writer, pieces, token_types)
    _add_tensors(writer, tensors, blocks)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, pieces: list[str], token_types: int) -> None:
    def is_special(piece: str) -> bool:
        return piece.startswith("[") and piece.endswith("]") and len(piece) > 2  # noqa: PLR2004

    def to_llama(piece: str) -> str:
        if is_special(piece):
            return piece
        return piece.removeprefix("##") if piece.startswith("##") else SPACE + piece

    writer.add_tokenizer_model("bert")
    writer.add_token_list([to_llama(piece) for piece in pieces])
    kinds = [gguf.TokenType.CONTROL if is_special(piece) else gguf.TokenType.NORMAL for piece in pieces]
    writer.add_token_types(kinds)
    writer.add_token_type_count(token_types)
    writer.add_unk_token_id(pieces.index("[UNK]"))
    writer.add_sep_token_id(pieces.index("[SEP]"))
    writer.add_pad_token_id(pieces.index("[PAD]"))
    writer.add_mask_token_id(pieces.index("[MASK]"))
    writer.add_bos_token_id(pieces.index("[CLS]"))


def _add_tensors(writer: gguf.GGUFWriter, tensors: dict[str, NDArray[np.generic]], blocks: int) -> None:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, blocks)
    for original, array in tensors.items():
        if original.startswith(UNUSED):
            continue
        name = names.get_name(original, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise UnreadableModel(f"{original} is not a tensor of a BERT model.")
        is_full = array.ndim == 1 or name.startswith(FULL_PRECISION)
        writer.add_tensor(name, np.asarray(array, dtype=np.float32 if is_full else np.float16))
