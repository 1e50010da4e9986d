"""Base models for training: converts a GGUF file once to a folder that transformers loads, and caches the folder."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import gguf
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from airflow_provider_lamini.local.tuning.adapter import UnsupportedModel

if TYPE_CHECKING:
    from collections.abc import Callable

INFO_FILE: Final = "base.json"
TOKENIZER: Final = "tokenizer.json"
MAX_HALF: Final = 65504.0
TOKENIZERS_WITH_BOS: Final = ("llama-bpe", "llama3", "llama-v3", "tekken")
"""Tokenizers that add a BOS token by default, if the file does not say otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModelInfo:
    """Metadata of a GGUF file that the folder for transformers would otherwise lack.

    :param size: size of the GGUF file in bytes
    :param modified_ns: its modification time in nanoseconds
    :param architecture: the architecture named in the file
    :param bos_token: the token that every input starts with; ``None`` if there is none
    :param eos_token: the token that ends an answer
    """

    size: int
    modified_ns: int
    architecture: str
    bos_token: int | None
    eos_token: int


def unpack_model(base: Path, fallback_parent: Path, log: Callable[[str], None]) -> tuple[Path, BaseModelInfo]:
    """Return a folder that transformers can load a model from; create it the first time.

    Reading a GGUF file with transformers takes about ten times as long as reading the folder, which needs two bytes
    per weight.

    :param base: the GGUF file
    :param fallback_parent: parent of the folder if nothing can be written beside the file
    :param log: takes a log line
    :raises UnsupportedModel: the file cannot be read
    """
    stat = base.stat()
    for parent in (base.parent, fallback_parent):
        folder = parent / f"{base.stem}.torch"
        info = _load_info(folder)
        if info is not None and (info.size, info.modified_ns) == (stat.st_size, stat.st_mtime_ns):
            return folder, info
    log("Converting the base model for training; the result is cached for later jobs.")
    info = _read_info(base, stat.st_size, stat.st_mtime_ns)
    try:
        return _create_folder(base, base.parent, info), info
    except OSError:
        return _create_folder(base, fallback_parent, info), info


def _create_folder(base: Path, parent: Path, info: BaseModelInfo) -> Path:
    """Create the folder for transformers atomically."""
    folder = parent / f"{base.stem}.torch"
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=parent) as scratch:
        new = Path(scratch, "new")
        new.mkdir()
        _convert(base, new)
        (new / INFO_FILE).write_text(json.dumps(asdict(info)))
        if folder.is_dir():
            folder.rename(Path(scratch, "replaced"))
        try:
            new.rename(folder)
        except OSError:
            # Another process may have created the same folder in the meantime.
            if _load_info(folder) != info:
                raise
    return folder


def _load_info(folder: Path) -> BaseModelInfo | None:
    try:
        return BaseModelInfo(**json.loads((folder / INFO_FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _read_info(base: Path, size: int, modified_ns: int) -> BaseModelInfo:
    try:
        reader = gguf.GGUFReader(base)
        fields = reader.fields
        architecture = str(fields["general.architecture"].contents())
        add_bos = fields.get("tokenizer.ggml.add_bos_token")
        if add_bos is not None:
            has_bos = bool(add_bos.contents())
        else:
            model, pre_tokenizer = fields["tokenizer.ggml.model"], fields.get("tokenizer.ggml.pre")
            has_bos = model.contents() == "llama" or (
                pre_tokenizer is not None and pre_tokenizer.contents() in TOKENIZERS_WITH_BOS
            )
        bos, eos = (
            None if field is None else int(field.contents())
            for field in (fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos"))
        )
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise UnsupportedModel(
            f"{base.name} is not a GGUF model that can be tuned: {type(error).__name__}."
        ) from None
    if eos is None:
        raise UnsupportedModel(f"{base.name} cannot be tuned: it has no EOS token. Tune another model.")
    return BaseModelInfo(
        size=size,
        modified_ns=modified_ns,
        architecture=architecture,
        bos_token=bos if has_bos else None,
        eos_token=eos,
    )


def _convert(base: Path, folder: Path) -> None:
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.parent, gguf_file=base.name)
        model: Any = AutoModelForCausalLM.from_pretrained(
            base.parent, gguf_file=base.name, dtype=torch.float32
        )
    except (ValueError, KeyError, NotImplementedError, TypeError, AttributeError) as error:
        raise UnsupportedModel(
            f"transformers cannot read {base.name}: {type(error).__name__}. Tune another model."
        ) from None
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    arrays = {name: _to_half(array) for name, array in model.state_dict().items() if name not in tied}
    # The weights are no longer quantized, so they must not be loaded as such.
    del model.config.quantization_config
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _remove_unknown_tokens(
        folder / TOKENIZER, vocabulary_size=int(model.get_input_embeddings().num_embeddings)
    )


def _remove_unknown_tokens(file: Path, vocabulary_size: int) -> None:
    """Remove added tokens that the model does not have from its tokenizer.

    transformers adds tokens that are common for an architecture, such as ``<|endoftext|>``. A model without that token
    reads it as ordinary text, and so does llama.cpp.

    :param file: the tokenizer file
    :param vocabulary_size: number of tokens that the model has
    """
    tokenizer = json.loads(file.read_bytes())
    tokenizer["added_tokens"] = [
        token for token in tokenizer["added_tokens"] if token["id"] < vocabulary_size
    ]
    file.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


def _to_half(array: Any) -> Any:
    """Convert a matrix to half precision if its values fit; leave vectors as they are."""
    fits = array.ndim > 1 and bool(array.abs().max() <= MAX_HALF)
    return (array.half() if fits else array).contiguous()
