"""Training examples: rows of a file as tokens, in batches and micro-batches. Needs no torch."""

from __future__ import annotations

import json
import random
from array import array
from dataclasses import dataclass
from itertools import islice
from typing import IO, TYPE_CHECKING, Protocol

from airflow_provider_lamini.local.tuning.trainer import TrainingFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class InvalidRows(TrainingFailed):
    """A row is invalid, or there are no rows. The message has the row's number, never its text."""


class Tokenizer(Protocol):
    """Splits texts into the same tokens as the engine."""

    @property
    def eos_token(self) -> int:
        """The token that ends an answer."""

    def encode(self, text: str, *, first: bool) -> list[int]:
        """Return the tokens of a text.

        :param text: the text
        :param first: whether the text starts the model's input, so that the BOS token is added
        """


@dataclass(frozen=True, slots=True)
class Example:
    """One row as tokens.

    :param tokens: tokens of the prompt and the answer, then the EOS token
    :param prompt_length: number of prompt tokens, which the loss ignores
    :param truncated: whether the row was longer than the context
    :param weight: how much the model learns to write the answer; if negative, to write something else
    """

    tokens: list[int]
    prompt_length: int
    truncated: bool
    weight: float = 1.0


def prompt_and_completion(prompt: str, answer: str) -> tuple[str, str]:
    """Return the text that the model reads, and the text that it learns to write.

    A word after the prompt starts with a space that belongs to the word's first token. Trailing spaces of the prompt
    are therefore removed, and one space is added to the answer where it is needed.

    :param prompt: input of a row
    :param answer: output of the row
    """
    stripped = prompt.rstrip(" ")
    space = " " if stripped and not stripped.endswith(("\n", "\t")) and not answer[:1].isspace() else ""
    return stripped, space + answer


def encode_row(prompt: str, answer: str, tokenizer: Tokenizer, context: int) -> Example:
    """Convert a row to tokens, truncated to the context.

    An answer that is too long loses its end, and with it the EOS token. A prompt that is too long loses its start.
    The answer may use at least half of the context.

    :param prompt: input of the row
    :param answer: output of the row
    :param tokenizer: converts texts to tokens
    :param context: maximum tokens per row
    """
    prompt, completion = prompt_and_completion(prompt, answer)
    prompt_tokens = tokenizer.encode(prompt, first=True)
    answer_tokens = [*tokenizer.encode(completion, first=not prompt_tokens), tokenizer.eos_token]
    if len(prompt_tokens) + len(answer_tokens) <= context:
        return Example(prompt_tokens + answer_tokens, len(prompt_tokens), truncated=False)
    answer_tokens = answer_tokens[: max(context - len(prompt_tokens), context // 2)]
    prompt_tokens = prompt_tokens[max(0, len(prompt_tokens) + len(answer_tokens) - context) :]
    return Example(prompt_tokens + answer_tokens, len(prompt_tokens), truncated=True)


class Examples:
    """The rows of a file, read on demand.

    :param path: JSON Lines file with the strings ``input`` and ``output``
    :param tokenizer: converts texts to tokens
    :param context: maximum tokens per row
    :raises InvalidRows: the file has no rows
    """

    def __init__(self, path: Path, tokenizer: Tokenizer, context: int) -> None:
        self._path = path
        self._tokenizer = tokenizer
        self._context = context
        self._offsets = array("Q")
        offset = 0
        with path.open("rb") as file:
            for line in file:
                if line.strip():
                    self._offsets.append(offset)
                offset += len(line)
        if not self._offsets:
            raise InvalidRows("The dataset has no rows.")

    def __len__(self) -> int:
        return len(self._offsets)

    def batch(self, indexes: list[int]) -> list[Example]:
        """Return the rows at some indexes.

        :raises InvalidRows: a row is not an object with two strings
        """
        return [encode_row(*row, self._tokenizer, self._context) for row in self.rows(indexes)]

    def rows(self, indexes: list[int]) -> list[tuple[str, str]]:
        """Return prompt and answer of the rows at some indexes.

        :raises InvalidRows: a row is not an object with two strings
        """
        with self._path.open("rb") as file:
            return [self._read(file, index) for index in indexes]

    def _read(self, file: IO[bytes], index: int) -> tuple[str, str]:
        file.seek(self._offsets[index])
        try:
            row = json.loads(file.readline())
            prompt, answer = row["input"], row["output"]
        except (ValueError, LookupError, TypeError):
            prompt = answer = None
        if not isinstance(prompt, str) or not isinstance(answer, str):
            raise InvalidRows(f"Row {index + 1} of the dataset lacks the strings 'input' and 'output'.")
        return prompt, answer


def batches(rows: int, size: int, seed: int, first_step: int) -> Iterator[list[int]]:
    """Yield the row indexes of each step, endlessly; each epoch has every row once, in a new order.

    The batch of a step depends only on the seed and the step, so a resumed training sees the same batches.

    :param rows: number of rows
    :param size: rows per step, capped at the number of rows
    :param seed: seed of the shuffles
    :param first_step: number of steps to skip, which were done before
    """
    size = min(size, rows)
    epoch, skipped = divmod(first_step * size, rows)
    order = islice(_shuffled_rows(rows, seed, epoch), skipped, None)
    while True:
        yield list(islice(order, size))


def _shuffled_rows(rows: int, seed: int, epoch: int) -> Iterator[int]:
    while True:
        order = array("Q", range(rows))
        random.Random(f"{seed}/{epoch}").shuffle(order)
        yield from order
        epoch += 1


def micro_batches(examples: list[Example], max_tokens: int) -> list[list[Example]]:
    """Split a batch into micro-batches, which bound the memory that a step needs.

    :param examples: the batch
    :param max_tokens: maximum tokens per micro-batch, padding included; a longer example gets its own micro-batch
    """
    result: list[list[Example]] = []
    for example in sorted(examples, key=lambda item: len(item.tokens)):
        # Sorted by length, so this example is the longest of its micro-batch.
        if result and (len(result[-1]) + 1) * len(example.tokens) <= max_tokens:
            result[-1].append(example)
        else:
            result.append([example])
    return result
