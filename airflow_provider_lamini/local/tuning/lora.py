"""The LoRA itself: a model, its optimizer, one step at a time, and what a checkpoint holds."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import peft
import tokenizers
import torch
from transformers import AutoModelForCausalLM

from airflow_provider_lamini.local.tuning.adapter import TARGETS, LayersUnknown, layer_names, write_adapter
from airflow_provider_lamini.local.tuning.base_model import TOKENIZER, unpacked
from airflow_provider_lamini.local.tuning.examples import Example, Examples, batches, pieces
from airflow_provider_lamini.local.tuning.trainer import CHECKPOINT, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.local.tuning.base_model import About

LARGEST_GRADIENT: Final = 1.0
PIECE_TOKENS: Final = 2048
"""Tokens computed at once, filling included: they decide how much memory is needed."""
IGNORED: Final = -100
HALF_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""What a CPU that computes in bfloat16 says of itself; others only imitate it, slowly."""
PREFIX: Final = "base_model.model."


class CheckpointUnusable(Exception):  # noqa: N818 - says what is wrong
    """The folder holds the checkpoint of another training."""


class Diverged(Exception):  # noqa: N818 - says what happened
    """The loss is no number any more."""


class Training:
    """A LoRA in training.

    :param recipe: what to train; where its folder has a checkpoint, the training stands where that was written
    :param log: takes a line for a person
    :raises BaseUnusable: the model cannot be trained
    :raises LayersUnknown: the model's layers cannot be adapted
    :raises RowsUnusable: there is no row
    :raises CheckpointUnusable: the checkpoint is another training's
    """

    def __init__(self, recipe: Recipe, log: Callable[[str], None]) -> None:
        self._recipe = recipe
        self._log = log
        folder, self._about = unpacked(recipe.base, recipe.folder, log)
        tokenizer = Tokenizer(folder, self._about)
        dtype = torch.bfloat16 if computes_in_half() else torch.float32
        base: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        context = min(recipe.context, int(getattr(base.config, "max_position_embeddings", recipe.context)))
        self._examples = Examples(recipe.rows, tokenizer, context)
        self._cut = 0
        self._names = _layer_names(self._about.architecture, base)
        torch.manual_seed(recipe.seed)
        config = peft.LoraConfig(
            r=recipe.rank, lora_alpha=recipe.alpha, target_modules=list(TARGETS), bias="none"
        )
        base.config.use_cache = False
        self._model: Any = peft.get_peft_model(base, config)
        self._model.train()
        self._weights = {
            name: weight for name, weight in self._model.named_parameters() if weight.requires_grad
        }
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=recipe.learning_rate, weight_decay=0.0)
        self._half = dtype is torch.bfloat16
        self._fingerprint = recipe.fingerprint()
        self.step = 0
        self._load(recipe.folder / CHECKPOINT)
        self._batches = batches(len(self._examples), recipe.batch_size, recipe.seed, self.step)

    def advance(self) -> float:
        """Do one step.

        :returns: mean loss of the answers' tokens, before the step
        :raises RowsUnusable: a row is no object with two texts
        :raises Diverged: the loss is no number any more
        """
        batch = self._examples.batch(next(self._batches))
        self._note_cut(batch)
        learnt = max(1, sum(len(example.tokens) - max(1, example.prompt) for example in batch))
        total = 0.0
        for piece in pieces(batch, PIECE_TOKENS):
            loss = self._loss(piece) / learnt
            loss.backward()
            total += float(loss.detach())
        if not math.isfinite(total):
            raise Diverged(f"The loss became infinite at step {self.step + 1}: try a smaller learning rate.")
        torch.nn.utils.clip_grad_norm_(self._weights.values(), LARGEST_GRADIENT)
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.rate_of(self.step + 1)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        return total

    def save(self, path: Path) -> None:
        """Write all that the training needs to go on; the file appears whole or not at all."""
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("wb") as file:
            torch.save(
                {
                    "fingerprint": self._fingerprint,
                    "step": self.step,
                    "weights": {name: weight.detach() for name, weight in self._weights.items()},
                    "optimizer": self._optimizer.state_dict(),
                },
                file,
            )
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)

    def write_adapter(self, path: Path) -> None:
        """Write the LoRA as llama.cpp loads it."""
        layers = {
            name: (self._array(module, "lora_A"), self._array(module, "lora_B"))
            for module, name in self._names.items()
        }
        write_adapter(path, self._about.architecture, self._recipe.alpha, layers)

    def _array(self, module: str, part: str) -> Any:
        return self._weights[f"{PREFIX}{module}.{part}.default.weight"].detach().float().numpy()

    def _load(self, path: Path) -> None:
        if not path.is_file():
            return
        kept = torch.load(path, weights_only=True)
        if kept["fingerprint"] != self._fingerprint:
            raise CheckpointUnusable(
                "The checkpoint belongs to a training of other rows, another model or other settings: "
                "start a new job."
            )
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(kept["weights"][name])
        self._optimizer.load_state_dict(kept["optimizer"])
        self.step = int(kept["step"])

    def _note_cut(self, batch: list[Example]) -> None:
        cut = sum(example.is_cut for example in batch)
        if cut and not self._cut:
            self._log("Some rows are longer than the model's context and are cut.")
        self._cut += cut

    def _loss(self, piece: list[Example]) -> Any:
        """Sum of the loss of the answers' tokens."""
        longest = max(len(example.tokens) for example in piece)
        tokens = torch.zeros((len(piece), longest), dtype=torch.long)
        wanted = torch.full((len(piece), longest), IGNORED)
        for row, example in enumerate(piece):
            length = len(example.tokens)
            tokens[row, :length] = torch.tensor(example.tokens)
            wanted[row, example.prompt : length] = tokens[row, example.prompt : length]
        # No mask is needed for the filling: it comes last, and no token looks ahead.
        base = self._model.get_base_model()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._half):
            seen = base.get_decoder()(input_ids=tokens).last_hidden_state
            is_learnt = wanted[:, 1:] != IGNORED
            # Only where something is learnt: the vocabulary is a good part of so small a model.
            logits = base.get_output_embeddings()(seen[:, :-1][is_learnt])
        return torch.nn.functional.cross_entropy(logits.float(), wanted[:, 1:][is_learnt], reduction="sum")


class Tokenizer:
    """Splits texts as llama.cpp does: a text that is a token of the model's own, such as a marker of its chat, is that token.

    :param folder: where the model lies
    :param about: what its file says of it
    """

    def __init__(self, folder: Path, about: About) -> None:
        # Not transformers' own, which adds tokens that the model does not have.
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
        self.end = about.end
        self._first = [] if about.begin is None else [about.begin]

    def split(self, text: str, *, first: bool) -> list[int]:
        """Return a text's tokens."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids if text else []
        return [*self._first, *ids] if first else list(ids)


def computes_in_half() -> bool:
    """Return whether this CPU computes faster in bfloat16."""
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False
    return not HALF_FLAGS.isdisjoint(words)


def _layer_names(architecture: str, base: Any) -> dict[str, str]:
    modules = [name for name, _ in base.named_modules() if name.rpartition(".")[2] in TARGETS]
    if not modules:
        raise LayersUnknown(f"Models of the kind {architecture!r} cannot be tuned here: their layers differ.")
    return layer_names(architecture, int(base.config.num_hidden_layers), modules)
