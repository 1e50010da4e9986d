"""Rows of a training as tokens, in batches; needs no torch."""

from __future__ import annotations

import json
import random
from array import array
from dataclasses import dataclass
from itertools import islice
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class RowsUnusable(Exception):  # noqa: N818 - says what is wrong
    """Nothing can be learnt from the rows. The message names a row by its number, never by its text."""


class Splitter(Protocol):
    """Splits texts into tokens as the engine does."""

    @property
    def end(self) -> int:
        """The token that ends an answer."""

    def split(self, text: str, *, first: bool) -> list[int]:
        """Return a text's tokens.

        :param first: whether the text begins the model's input
        """


@dataclass(frozen=True, slots=True)
class Example:
    """One row as the model reads it.

    :param tokens: prompt, answer and end
    :param prompt: how many of them are the prompt's: nothing is learnt from these
    :param is_cut: whether the row was longer than the context
    """

    tokens: list[int]
    prompt: int
    is_cut: bool


def present(prompt: str, answer: str) -> tuple[str, str]:
    """Return what the model reads, and what it is to write after it.

    A prompt is read as it is. What a model writes after a word begins with a space; a space that ends a prompt belongs
    to the token of the word after it.

    :param prompt: a row's input
    :param answer: its output
    """
    begun = prompt.rstrip(" ")
    gap = " " if begun and not begun.endswith(("\n", "\t")) and not answer[:1].isspace() else ""
    return begun, gap + answer


def example_of(prompt: str, answer: str, splitter: Splitter, context: int) -> Example:
    """Split a row into tokens, cut to the context.

    Of an answer that is too long the end is cut, so that it has none; of a prompt the beginning, so that what is left
    of the context, at least half, is the prompt's last part.

    :param prompt: the row's input
    :param answer: its output
    :param splitter: splits texts
    :param context: most tokens of the row
    """
    begun, rest = present(prompt, answer)
    asked = splitter.split(begun, first=True)
    told = [*splitter.split(rest, first=not asked), splitter.end]
    if len(asked) + len(told) <= context:
        return Example(asked + told, len(asked), is_cut=False)
    told = told[: max(context - len(asked), context // 2)]
    asked = asked[max(0, len(asked) + len(told) - context) :]
    return Example(asked + told, len(asked), is_cut=True)


class Examples:
    """The rows of a file, read when they are needed.

    :param path: JSON Lines with the texts ``input`` and ``output``
    :param splitter: splits texts
    :param context: most tokens of a row
    :raises RowsUnusable: the file holds no row
    """

    def __init__(self, path: Path, splitter: Splitter, context: int) -> None:
        self._path = path
        self._splitter = splitter
        self._context = context
        self._places = array("Q")
        place = 0
        with path.open("rb") as file:
            for line in file:
                if line.strip():
                    self._places.append(place)
                place += len(line)
        if not self._places:
            raise RowsUnusable("The dataset holds no row.")

    def __len__(self) -> int:
        return len(self._places)

    def batch(self, numbers: list[int]) -> list[Example]:
        """Return rows by their numbers from 0 on.

        :raises RowsUnusable: one is no object with two texts
        """
        with self._path.open("rb") as file:
            return [self._read(file, number) for number in numbers]

    def _read(self, file: IO[bytes], number: int) -> Example:
        file.seek(self._places[number])
        try:
            row = json.loads(file.readline())
            prompt, answer = row["input"], row["output"]
        except (ValueError, LookupError, TypeError):
            prompt = answer = None
        if not isinstance(prompt, str) or not isinstance(answer, str):
            raise RowsUnusable(f"Row {number + 1} of the dataset has no two texts 'input' and 'output'.")
        return example_of(prompt, answer, self._splitter, self._context)


def batches(rows: int, size: int, seed: int, begin: int) -> Iterator[list[int]]:
    """Yield the rows of each step without end, every row once before any comes again.

    What a step reads depends on the seed and its number alone: a training that goes on reads what it would have read.

    :param rows: how many rows there are
    :param size: rows per step; all rows where there are fewer
    :param seed: decides the order
    :param begin: steps that were done before
    """
    size = min(size, rows)
    epoch, skipped = divmod(begin * size, rows)
    order = islice(_in_order(rows, seed, epoch), skipped, None)
    while True:
        yield list(islice(order, size))


def _in_order(rows: int, seed: int, epoch: int) -> Iterator[int]:
    while True:
        order = array("Q", range(rows))
        random.Random(f"{seed}/{epoch}").shuffle(order)
        yield from order
        epoch += 1


def pieces(examples: list[Example], tokens: int) -> list[list[Example]]:
    """Cut a batch into pieces that are computed one after the other, so that memory is bounded.

    :param examples: the batch
    :param tokens: most tokens of a piece, filling included; an example that is longer is a piece of its own
    """
    cut: list[list[Example]] = []
    for example in sorted(examples, key=lambda one: len(one.tokens)):
        # They come by length, so that this one is the longest of its piece.
        if cut and (len(cut[-1]) + 1) * len(example.tokens) <= tokens:
            cut[-1].append(example)
        else:
            cut.append([example])
    return cut
