"""LoRA training with torch: one optimizer step at a time, checkpoints, and export of the adapter."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import peft
import tokenizers
import torch
from peft.helpers import disable_input_dtype_casting
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from airflow_provider_lamini.local.tuning.adapter import (
    TARGETS,
    UnsupportedModel,
    layer_names,
    read_adapter,
    write_adapter,
)
from airflow_provider_lamini.local.tuning.base_model import TOKENIZER, unpack_model
from airflow_provider_lamini.local.tuning.examples import Example, Examples, batches, micro_batches
from airflow_provider_lamini.local.tuning.rewards import RewardedExamples, Sampler
from airflow_provider_lamini.local.tuning.trainer import CHECKPOINT, Recipe, TrainingFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.local.tuning.base_model import BaseModelInfo

MAX_GRADIENT_NORM: Final = 1.0
MICRO_BATCH_TOKENS: Final = 2048
"""Maximum tokens per forward pass, padding included; determines how much memory training needs."""
IGNORED: Final = -100
BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""CPU flags for native bfloat16; other CPUs emulate it slowly."""
PREFIX: Final = "base_model.model."
FAST_ATTENTION: Final = "sdpa"
FLOAT_ATTENTION: Final = "sdpa_in_float32"


class CheckpointMismatch(TrainingFailed):
    """The folder contains a checkpoint of another training."""


class Diverged(TrainingFailed):
    """The loss is no longer a finite number."""


class LoraTraining:
    """A LoRA training, at the step of the last checkpoint in the recipe's folder if there is one.

    :param recipe: what to train, and how
    :param log: takes a log line
    :raises UnsupportedModel: the model cannot be trained
    :raises InvalidRows: there are no rows
    :raises CheckpointMismatch: the checkpoint belongs to another training
    """

    def __init__(self, recipe: Recipe, log: Callable[[str], None]) -> None:
        self._recipe = recipe
        self._log = log
        folder, self._info = unpack_model(recipe.base, recipe.folder, log)
        tokenizer = BaseTokenizer(folder, self._info)
        dtype = torch.bfloat16 if has_native_bf16() else torch.float32
        base: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        if base.config._attn_implementation == FAST_ATTENTION:  # noqa: SLF001 - it has no public name
            base.set_attn_implementation(FLOAT_ATTENTION)
        context = min(recipe.context, int(getattr(base.config, "max_position_embeddings", recipe.context)))
        examples = Examples(recipe.rows, tokenizer, context)
        self._truncated = 0
        self._names = _layer_names(self._info.architecture, base)
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
        self._is_bf16 = dtype is torch.bfloat16
        if recipe.start is not None:
            self._start_from(recipe.start)
        self._batch: Callable[[int, list[int]], list[Example]] = lambda _, indexes: examples.batch(indexes)
        if recipe.reward is not None:
            sampler = Sampler(self._model, tokenizer, context, autocast=self._autocast)
            rewarded = RewardedExamples(examples, sampler, recipe.reward, recipe.generations, log)
            self._batch = lambda step, indexes: rewarded.batch(indexes, seed=recipe.seed + step)
        self._fingerprint = recipe.fingerprint()
        self.step = 0
        self._load(recipe.folder / CHECKPOINT)
        self._batches = batches(len(examples), recipe.batch_size, recipe.seed, self.step)

    def advance(self) -> float:
        """Do one step.

        :return: mean loss per answer token, before the step
        :raises InvalidRows: a row is not an object with two strings
        :raises Diverged: the loss is no longer a finite number
        """
        batch = self._batch(self.step, next(self._batches))
        self._log_truncation(batch)
        answer_tokens = max(1, sum(len(example.tokens) - max(1, example.prompt_length) for example in batch))
        total = 0.0
        for micro_batch in micro_batches(batch, MICRO_BATCH_TOKENS):
            loss = self._loss(micro_batch) / answer_tokens
            loss.backward()
            total += float(loss.detach())
        if not math.isfinite(total):
            raise Diverged(
                f"The loss is not finite at step {self.step + 1}; try again with a smaller learning rate."
            )
        torch.nn.utils.clip_grad_norm_(self._weights.values(), MAX_GRADIENT_NORM)
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.learning_rate_at(self.step + 1)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        return total

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically."""
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
        """Export the LoRA as an adapter file for llama.cpp."""
        layers = {
            name: (self._array(module, "lora_A"), self._array(module, "lora_B"))
            for module, name in self._names.items()
        }
        write_adapter(path, self._info.architecture, self._recipe.alpha, layers)

    def _start_from(self, path: Path) -> None:
        layers = read_adapter(path)
        with torch.no_grad():
            for module, name in self._names.items():
                for part, matrix in zip(("lora_A", "lora_B"), layers.get(name, ()), strict=False):
                    weight = self._weights[f"{PREFIX}{module}.{part}.default.weight"]
                    if tuple(weight.shape) != matrix.shape:
                        raise UnsupportedModel("The adapter to continue from has another rank.")
                    weight.copy_(torch.from_numpy(matrix))

    def _autocast(self) -> Any:
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._is_bf16)

    def _array(self, module: str, part: str) -> Any:
        return self._weights[f"{PREFIX}{module}.{part}.default.weight"].detach().float().numpy()

    def _load(self, path: Path) -> None:
        if not path.is_file():
            return
        checkpoint = torch.load(path, weights_only=True)
        if checkpoint["fingerprint"] != self._fingerprint:
            raise CheckpointMismatch(
                "The checkpoint belongs to a training with other rows, another model or other settings: "
                "start a new job."
            )
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(checkpoint["weights"][name])
        self._optimizer.load_state_dict(checkpoint["optimizer"])
        self.step = int(checkpoint["step"])

    def _log_truncation(self, batch: list[Example]) -> None:
        truncated = sum(example.truncated for example in batch)
        if truncated and not self._truncated:
            self._log("Some rows are longer than the model's context and are truncated.")
        self._truncated += truncated

    def _loss(self, micro_batch: list[Example]) -> Any:
        """Return the weighted sum of the losses of all answer tokens."""
        longest = max(len(example.tokens) for example in micro_batch)
        tokens = torch.zeros((len(micro_batch), longest), dtype=torch.long)
        labels = torch.full((len(micro_batch), longest), IGNORED)
        for row, example in enumerate(micro_batch):
            length = len(example.tokens)
            tokens[row, :length] = torch.tensor(example.tokens)
            labels[row, example.prompt_length : length] = tokens[row, example.prompt_length : length]
        # Padding needs no attention mask: it is at the end, and attention is causal.
        base = self._model.get_base_model()
        with disable_input_dtype_casting(self._model), self._autocast():  # autocast converts what needs it
            hidden = base.get_decoder()(input_ids=tokens).last_hidden_state
            is_answer = labels[:, 1:] != IGNORED
            # Compute logits only for answer tokens: the output layer is a large part of a small model.
            logits = base.get_output_embeddings()(hidden[:, :-1][is_answer])
        losses = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][is_answer], reduction="none")
        weights = torch.tensor([example.weight for example in micro_batch])[:, None].expand_as(is_answer)
        return (losses * weights[is_answer]).sum()


class BaseTokenizer:
    """Tokenizer of the base model. Like llama.cpp, it parses special tokens of the model in any text.

    :param folder: folder of the unpacked model
    :param info: metadata of the model
    """

    def __init__(self, folder: Path, info: BaseModelInfo) -> None:
        # The tokenizer of transformers would add tokens that the model does not have.
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
        self.eos_token = info.eos_token
        self._bos = [] if info.bos_token is None else [info.bos_token]

    def encode(self, text: str, *, first: bool) -> list[int]:
        """Return the tokens of a text, after the BOS token if the text comes first."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids if text else []
        return [*self._bos, *ids] if first else list(ids)

    def decode(self, tokens: list[int]) -> str:
        """Return the text of some tokens, without special ones."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


def _attend_in_float32(
    module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any
) -> tuple[Any, None]:
    """Compute the attention of transformers in single precision.

    In bfloat16 torch takes three times as long to go back through it, for rows of some hundred tokens.
    """
    with torch.autocast("cpu", enabled=False):
        output, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), mask, **options)
    return output.to(query.dtype), None


AttentionInterface.register(FLOAT_ATTENTION, _attend_in_float32)
AttentionMaskInterface.register(FLOAT_ATTENTION, sdpa_mask)


def has_native_bf16() -> bool:
    """Return whether this CPU computes in bfloat16 natively."""
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False
    return not BF16_FLAGS.isdisjoint(words)


def _layer_names(architecture: str, base: Any) -> dict[str, str]:
    modules = [name for name, _ in base.named_modules() if name.rpartition(".")[2] in TARGETS]
    if not modules:
        raise UnsupportedModel(
            f"Models with the architecture {architecture!r} cannot be tuned: their layers are not supported."
        )
    return layer_names(architecture, int(base.config.num_hidden_layers), modules)
