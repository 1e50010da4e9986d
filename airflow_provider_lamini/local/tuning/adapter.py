"""Writes a LoRA as a GGUF adapter, as llama.cpp loads it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import gguf
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

TARGETS: Final = ("v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The layers that are adapted. Not the queries' and keys': llama.cpp keeps those in another order."""


class LayersUnknown(Exception):  # noqa: N818 - says what is wrong
    """llama.cpp has no name for a layer of the model, so that it cannot be adapted."""


def layer_names(architecture: str, blocks: int, modules: list[str]) -> dict[str, str]:
    """Return llama.cpp's names of a model's layers.

    :param architecture: what the model's GGUF file calls its kind
    :param blocks: how many blocks it has
    :param modules: the layers' names in torch
    :raises LayersUnknown: llama.cpp knows no such kind, or no such layer of it
    """
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    if architecture not in kinds:
        raise LayersUnknown(f"Models of the kind {architecture!r} cannot be tuned here.")
    known = gguf.get_tensor_name_map(kinds[architecture], blocks)
    names = {module: known.get_name(module) for module in modules}
    unknown = [module for module, name in names.items() if name is None]
    if unknown or not names:
        raise LayersUnknown(f"Models of the kind {architecture!r} cannot be tuned here: their layers differ.")
    return {module: name for module, name in names.items() if name is not None}


def write_adapter(
    path: Path,
    architecture: str,
    alpha: float,
    layers: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> None:
    """Write an adapter; the file appears whole or not at all.

    :param path: the file
    :param architecture: what the base model's GGUF file calls its kind
    :param alpha: weight of the LoRA, divided by its rank
    :param layers: llama.cpp's name of each layer, with its A of shape (rank, inputs) and B of shape (outputs, rank)
    """
    unfinished = path.with_suffix(".unfinished")
    writer = gguf.GGUFWriter(unfinished, architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, (inner, outer) in layers.items():
        writer.add_tensor(f"{name}.weight.lora_a", inner.astype(np.float16))
        writer.add_tensor(f"{name}.weight.lora_b", outer.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)
