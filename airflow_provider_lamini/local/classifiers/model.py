"""A trained classifier, and the file that it is kept in."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from airflow_provider_lamini.local.classifiers.regression import Weights, softmax

FORMAT: Final = "airflow-provider-lamini classifier 1"


class UnreadableModelError(Exception):
    """What was given is no classifier of this platform. The message says why."""


class LearnedClass(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A class as a model knows it.

    :param name: its name
    :param description: what belongs to it
    :param examples: how many examples of it the model was trained on
    """

    name: str
    description: str
    examples: int


class ClassifierModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A trained classifier.

    :param format: which format of file this is
    :param project: name of its project
    :param embedding_model: the model whose vectors it reads
    :param classes: its classes; the place of one is its id
    :param slopes: one row per class
    :param offsets: one number per class
    :param sharpness: what logits are multiplied with, for honest probabilities
    :param accuracy: share of examples whose class was found while they were held out, None where none were
    :param created: seconds since the epoch
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
        """How likely each class is.

        :param vectors: one row per text
        :returns: one row per text, one number per class, which add up to 1
        """
        weights = Weights(np.asarray(self.slopes), np.asarray(self.offsets))
        found: list[list[float]] = softmax(weights.logits(vectors) * self.sharpness).tolist()
        return found


def dump(model: ClassifierModel) -> bytes:
    """A model as a file."""
    return msgspec.json.encode(model)


def load(content: bytes) -> ClassifierModel:
    """A model from a file.

    :param content: the file
    :raises UnreadableModelError: it is none, or damaged
    """
    try:
        model = msgspec.json.decode(content, type=ClassifierModel)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableModelError(f"It is no classifier of a local platform: {error}") from None
    count, width = len(model.classes), len(model.slopes[0]) if model.slopes else 0
    fits = len(model.slopes) == len(model.offsets) == count > 1 and width > 0
    numbers = [*model.offsets, model.sharpness, *(number for row in model.slopes for number in row)]
    if model.format != FORMAT or not fits or any(len(row) != width for row in model.slopes):
        raise UnreadableModelError("It is no classifier of a local platform: its parts do not fit together.")
    if not np.isfinite(numbers).all() or model.sharpness <= 0:
        raise UnreadableModelError(
            "It is no classifier of a local platform: it holds numbers without meaning."
        )
    return model
