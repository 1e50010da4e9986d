"""Trained classifiers: their file format, and the ranked classes of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NotRequired, TypedDict

import msgspec
import numpy as np

from airflow_provider_lamini.local.classifiers.regression import Weights, softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT: Final = "airflow-provider-lamini classifier 1"


class UnreadableModelError(Exception):
    """A file is not a classifier of the local platform. The message says why."""


class LearnedClass(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A class of a trained model.

    :param name: name of the class
    :param description: description of the class
    :param examples: number of examples that the model was trained on
    """

    name: str
    description: str
    examples: int


class TrainedClassifier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A trained classifier.

    :param format: name and version of the file format
    :param project: name of the project
    :param embedding_model: the model that computes the input vectors
    :param classes: the classes; the index of a class is its id
    :param slopes: coefficients, one row per class
    :param offsets: intercepts, one per class
    :param sharpness: inverse temperature that calibrates the probabilities; logits are multiplied by it
    :param accuracy: accuracy on held-out examples; ``None`` if no examples were held out
    :param created: Unix timestamp
    """

    format: str
    project: str
    embedding_model: str
    classes: list[LearnedClass]
    slopes: list[list[float]]
    offsets: list[float]
    sharpness: float
    accuracy: float | None
    created: float

    def probabilities(self, vectors: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[list[float]]:
        """Compute the probability of every class.

        :param vectors: one row per text
        :return: one row per text with one probability per class; each row adds up to 1
        """
        rows: list[list[float]] = softmax(self._logits(vectors)).tolist()
        return rows

    def logits(self, vectors: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[list[float]]:
        """Compute the logit of every class; their softmax are the probabilities.

        :param vectors: one row per text
        :return: one row per text with one logit per class
        """
        rows: list[list[float]] = self._logits(vectors).tolist()
        return rows

    def _logits(
        self, vectors: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        weights = Weights(np.asarray(self.slopes), np.asarray(self.offsets))
        return weights.logits(vectors) * self.sharpness


_DECODER = msgspec.json.Decoder(TrainedClassifier)


def dump(model: TrainedClassifier) -> bytes:
    """Serialize a model to the content of a file."""
    return msgspec.json.encode(model)


def load(content: bytes) -> TrainedClassifier:
    """Load a model from the content of a file.

    :param content: content of the file
    :raises UnreadableModelError: the file is damaged, or not a classifier of the local platform
    """
    try:
        model = _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableModelError(f"Not a classifier of the local platform: {error}") from None
    count, width = len(model.classes), len(model.slopes[0]) if model.slopes else 0
    is_consistent = len(model.slopes) == len(model.offsets) == count > 1 and width > 0
    numbers = [*model.offsets, model.sharpness, *(number for row in model.slopes for number in row)]
    if model.format != FORMAT or not is_consistent or any(len(row) != width for row in model.slopes):
        raise UnreadableModelError("Not a classifier of the local platform: its parts are inconsistent.")
    if not np.isfinite(numbers).all() or model.sharpness <= 0:
        raise UnreadableModelError("Not a classifier of the local platform: it contains invalid numbers.")
    return model


class ClassMetadata(TypedDict):
    """Description of a class and its number of training examples."""

    description: str
    examples: int


class ScoredClass(TypedDict):
    """A class with its probability, as the platform's API returns it."""

    class_id: int
    class_name: str
    prob: float
    metadata: NotRequired[ClassMetadata]


def rank_classes(
    model: TrainedClassifier,
    probabilities: Sequence[float],
    *,
    top_n: int | None = None,
    threshold: float | None = None,
    metadata: bool = False,
) -> list[ScoredClass]:
    """Return the classes of one text, the most likely first.

    :param model: the classifier
    :param probabilities: probability of every class
    :param top_n: maximum number of classes
    :param threshold: minimum probability of a class
    :param metadata: include the metadata of each class
    """
    ranking = sorted(range(len(probabilities)), key=lambda index: (-probabilities[index], index))[:top_n]
    ranked: list[ScoredClass] = []
    for index in ranking:
        if threshold is not None and probabilities[index] < threshold:
            break
        known = model.classes[index]
        scored: ScoredClass = {
            "class_id": index,
            "class_name": known.name,
            "prob": probabilities[index],
        }
        if metadata:
            scored["metadata"] = {"description": known.description, "examples": known.examples}
        ranked.append(scored)
    return ranked
