"""The GGUF adapter file that llama.cpp loads, and llama.cpp's names for the adapted layers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import gguf
import numpy as np

from airflow_provider_lamini.local.tuning.trainer import TrainingFailed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

TARGETS: Final = ("v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The layers that are adapted. Queries and keys are not, because llama.cpp stores their rows in a different order."""


class UnsupportedModel(TrainingFailed):
    """The model cannot be tuned: its file, its architecture or one of its layers is not supported."""


def layer_names(architecture: str, blocks: int, modules: list[str]) -> dict[str, str]:
    """Map the names of layers in torch to their names in llama.cpp.

    :param architecture: the architecture named in the model's GGUF file
    :param blocks: number of transformer blocks
    :param modules: names of the layers in torch
    :raises UnsupportedModel: llama.cpp does not know the architecture or one of the layers
    """
    architectures = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    if architecture not in architectures:
        raise UnsupportedModel(f"Models with the architecture {architecture!r} cannot be tuned.")
    known = gguf.get_tensor_name_map(architectures[architecture], blocks)
    names = {module: known.get_name(module) for module in modules}
    unknown = [module for module, name in names.items() if name is None]
    if unknown or not names:
        raise UnsupportedModel(
            f"Models with the architecture {architecture!r} cannot be tuned: their layers are not supported."
        )
    return {module: name for module, name in names.items() if name is not None}


def read_adapter(path: Path) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Read an adapter file.

    :param path: the file
    :return: layer name in llama.cpp to the matrices A and B, as :func:`write_adapter` takes them
    :raises UnsupportedModel: it is not a complete adapter file
    """
    try:
        tensors = {
            tensor.name: np.array(tensor.data, dtype=np.float32) for tensor in gguf.GGUFReader(path).tensors
        }
        names = [name.removesuffix(".weight.lora_a") for name in tensors if name.endswith(".weight.lora_a")]
        return {name: (tensors[f"{name}.weight.lora_a"], tensors[f"{name}.weight.lora_b"]) for name in names}
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise UnsupportedModel(
            f"The adapter to continue from cannot be read: {type(error).__name__}."
        ) from None


def write_adapter(
    path: Path,
    architecture: str,
    alpha: float,
    layers: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> None:
    """Write an adapter file atomically.

    :param path: the file
    :param architecture: the architecture named in the base model's GGUF file
    :param alpha: LoRA alpha; llama.cpp divides it by the rank
    :param layers: layer name in llama.cpp to matrix A of shape (rank, inputs) and B of shape (outputs, rank)
    """
    unfinished = path.with_suffix(".unfinished")
    writer = gguf.GGUFWriter(unfinished, architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, (matrix_a, matrix_b) in layers.items():
        writer.add_tensor(f"{name}.weight.lora_a", matrix_a.astype(np.float16))
        writer.add_tensor(f"{name}.weight.lora_b", matrix_b.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)
