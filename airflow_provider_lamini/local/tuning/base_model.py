"""A local model as torch reads it, made from its GGUF file once and kept beside it."""

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

if TYPE_CHECKING:
    from collections.abc import Callable

ABOUT: Final = "base.json"
TOKENIZER: Final = "tokenizer.json"
LARGEST_HALF: Final = 65504.0
BEGINNING_TOKEN_KINDS: Final = ("llama-bpe", "llama3", "llama-v3", "tekken")
"""Ways to split text that begin with a token of their own, even where the file does not say so."""


class BaseUnusable(Exception):  # noqa: N818 - says what is wrong
    """The model cannot be trained here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the GGUF file says and torch's files do not.

    :param size: bytes of the GGUF file
    :param changed: its time of modification, nanoseconds
    :param architecture: what it calls the model's kind
    :param begin: the token that every input begins with; ``None`` where there is none
    :param end: the token that ends an answer
    """

    size: int
    changed: int
    architecture: str
    begin: int | None
    end: int


def unpacked(base: Path, spare: Path, log: Callable[[str], None]) -> tuple[Path, About]:
    """Return a folder that transformers can load a model from.

    Reading a GGUF file with transformers takes some ten times as long as reading what is kept here, at two bytes a
    weight, so that it is done once for each model.

    :param base: the GGUF file
    :param spare: folder to use where nothing can be written beside the file
    :param log: takes a line for a person
    :raises BaseUnusable: the file cannot be read
    """
    stat = base.stat()
    for parent in (base.parent, spare):
        folder = parent / f"{base.stem}.torch"
        about = _about(folder)
        if about is not None and (about.size, about.changed) == (stat.st_size, stat.st_mtime_ns):
            return folder, about
    log("Reading the model for the first time; what comes of it is kept for the next training.")
    about = _read_about(base, stat.st_size, stat.st_mtime_ns)
    try:
        return _keep(base, base.parent, about), about
    except OSError:
        return _keep(base, spare, about), about


def _keep(base: Path, parent: Path, about: About) -> Path:
    """Make the folder; it appears whole or not at all."""
    folder = parent / f"{base.stem}.torch"
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=parent) as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        _unpack(base, made)
        (made / ABOUT).write_text(json.dumps(asdict(about)))
        if folder.is_dir():
            folder.rename(Path(scratch, "replaced"))
        try:
            made.rename(folder)
        except OSError:
            # Another training may have just put the same there.
            if _about(folder) != about:
                raise
    return folder


def _about(folder: Path) -> About | None:
    try:
        return About(**json.loads((folder / ABOUT).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _read_about(base: Path, size: int, changed: int) -> About:
    try:
        reader = gguf.GGUFReader(base)
        fields = reader.fields
        architecture = str(fields["general.architecture"].contents())
        begins = fields.get("tokenizer.ggml.add_bos_token")
        if begins is not None:
            is_begun = bool(begins.contents())
        else:
            kind, way = fields["tokenizer.ggml.model"], fields.get("tokenizer.ggml.pre")
            is_begun = kind.contents() == "llama" or (
                way is not None and way.contents() in BEGINNING_TOKEN_KINDS
            )
        begin, end = (
            None if field is None else int(field.contents())
            for field in (fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos"))
        )
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise BaseUnusable(
            f"{base.name} is no GGUF model that can be tuned: {type(error).__name__}."
        ) from None
    if end is None:
        raise BaseUnusable(
            f"{base.name} cannot be tuned: it has no token that ends a text. Tune another model."
        )
    begin = begin if is_begun else None
    return About(size=size, changed=changed, architecture=architecture, begin=begin, end=end)


def _unpack(base: Path, folder: Path) -> None:
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.parent, gguf_file=base.name)
        model: Any = AutoModelForCausalLM.from_pretrained(
            base.parent, gguf_file=base.name, dtype=torch.float32
        )
    except (ValueError, KeyError, NotImplementedError, TypeError, AttributeError) as error:
        raise BaseUnusable(
            f"transformers cannot read {base.name}: {type(error).__name__}. Tune a model of another kind."
        ) from None
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    arrays = {name: _kept(array) for name, array in model.state_dict().items() if name not in tied}
    # It is no longer quantized, and is not to be read as if it were.
    del model.config.quantization_config
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _drop_unknown_tokens(folder / TOKENIZER, words=int(model.get_input_embeddings().num_embeddings))


def _drop_unknown_tokens(file: Path, words: int) -> None:
    """Take out the tokens that the model does not have.

    transformers adds some that models of a kind usually have, such as ``<|endoftext|>``. To a model without it, as to
    llama.cpp, that is a text like any other.

    :param file: the tokenizer
    :param words: how many tokens the model has
    """
    tokenizer = json.loads(file.read_bytes())
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["id"] < words]
    file.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


def _kept(array: Any) -> Any:
    fits = array.ndim > 1 and bool(array.abs().max() <= LARGEST_HALF)
    return (array.half() if fits else array).contiguous()
