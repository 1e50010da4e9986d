"""Group relative policy optimization: the model samples answers, and learns from how their rewards compare.

Several answers are sampled for each row. An answer's weight is its reward's distance from the mean of its group, in
standard deviations. The model learns each answer by its weight, once, so that the policy that learns is the one that
has sampled; there is no penalty for the distance to the base model.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch

from airflow_provider_lamini.local.test_functions import weighted_score
from airflow_provider_lamini.local.tuning.examples import Example, prompt_and_completion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_lamini.local.tuning.examples import Examples

ANSWER_TOKENS: Final = 48
"""Maximum number of tokens of a sampled answer."""


class Codec(Protocol):
    """Converts between texts and tokens."""

    @property
    def eos_token(self) -> int:
        """The token that ends an answer."""

    def encode(self, text: str, *, first: bool) -> list[int]:
        """Return the tokens of a text."""

    def decode(self, tokens: list[int]) -> str:
        """Return the text of some tokens, without special ones."""


class Sampler:
    """Samples answers with the model that is being trained.

    :param model: the model
    :param codec: converts between texts and tokens
    :param context: maximum tokens of a prompt and its answer
    :param autocast: returns a context manager for computations with the model
    """

    def __init__(self, model: Any, codec: Codec, context: int, autocast: Callable[[], Any]) -> None:
        self._model = model
        self._codec = codec
        self._answer_tokens = min(ANSWER_TOKENS, context // 2)
        self._prompt_tokens = context - self._answer_tokens
        self._autocast = autocast

    def sample(self, prompt: str, count: int) -> list[tuple[Example, str]]:
        """Return answers to a prompt, each as tokens and as text.

        :param prompt: the prompt
        :param count: number of answers
        """
        stripped, _ = prompt_and_completion(prompt, "x")
        tokens = self._codec.encode(stripped, first=True)[-self._prompt_tokens :]
        tokens = tokens or [self._codec.eos_token]  # the model needs something to continue
        with torch.no_grad(), self._autocast():
            sequences = self._model.generate(
                input_ids=torch.tensor([tokens]),
                attention_mask=torch.ones((1, len(tokens)), dtype=torch.long),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=self._answer_tokens,
                num_return_sequences=count,
                eos_token_id=self._codec.eos_token,
                pad_token_id=self._codec.eos_token,
                use_cache=True,
            )
        answers = [self._until_end(row[len(tokens) :]) for row in sequences.tolist()]
        return [
            (Example([*tokens, *answer], len(tokens), truncated=False), self._codec.decode(answer).strip())
            for answer in answers
        ]

    def _until_end(self, tokens: list[int]) -> list[int]:
        """Return the tokens up to the one that ends the answer, which is included."""
        if self._codec.eos_token in tokens:
            return tokens[: tokens.index(self._codec.eos_token) + 1]
        return tokens


class RewardedExamples:
    """Sampled answers to the rows of a file, weighted by their rewards.

    :param examples: the rows
    :param sampler: samples the answers
    :param reward: test function to weight
    :param count: answers per row
    :param log: takes a log line
    """

    def __init__(
        self,
        examples: Examples,
        sampler: Sampler,
        reward: dict[str, float],
        count: int,
        log: Callable[[str], None],
    ) -> None:
        self._examples = examples
        self._sampler = sampler
        self._reward = reward
        self._count = count
        self._log = log

    def batch(self, indexes: list[int], seed: int) -> list[Example]:
        """Sample answers to the rows at some indexes.

        :param indexes: the rows
        :param seed: decides the samples
        """
        torch.manual_seed(seed)
        batch: list[Example] = []
        rewards: list[float] = []
        for prompt, target in self._examples.rows(indexes):
            answers = self._sampler.sample(prompt, self._count)
            group = [weighted_score(self._reward, text, target) for _, text in answers]
            rewards += group
            batch += [
                replace(example, weight=weight)
                for (example, _), weight in zip(answers, advantages(group), strict=True)
            ]
        self._log(f"The mean reward of {len(rewards)} answers is {fmean(rewards):.3f}.")
        return _balanced(batch)


def _balanced(batch: list[Example]) -> list[Example]:
    """Let each answer count the same, however long it is; otherwise long wrong answers would outweigh all others."""
    lengths = [len(example.tokens) - example.prompt_length for example in batch]
    mean = fmean(lengths)
    return [
        replace(example, weight=example.weight * mean / length)
        for example, length in zip(batch, lengths, strict=True)
    ]


def advantages(rewards: Sequence[float]) -> list[float]:
    """Return how far each reward of a group is from their mean, in standard deviations; 0 if all are equal."""
    mean, deviation = fmean(rewards), pstdev(rewards)
    return [(reward - mean) / deviation if deviation else 0.0 for reward in rewards]
