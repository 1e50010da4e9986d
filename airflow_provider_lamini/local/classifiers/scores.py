"""The classes of a text in the order of their likelihood, as the platform answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.local.classifiers.model import ClassifierModel


class ClassMetadata(TypedDict):
    """What is known of a class."""

    description: str
    examples: int


class ScoredClass(TypedDict):
    """A class and how likely it is."""

    class_id: int
    class_name: str
    prob: float
    metadata: NotRequired[ClassMetadata]


def best_first(
    model: ClassifierModel,
    likely: Sequence[float],
    *,
    top_n: int | None = None,
    threshold: float | None = None,
    metadata: bool = False,
) -> list[ScoredClass]:
    """The classes of one text, the likeliest first.

    :param model: the classifier
    :param likely: how likely each class is
    :param top_n: so many at most
    :param threshold: only classes that are at least so likely
    :param metadata: with what is known of each class
    """
    order = sorted(range(len(likely)), key=lambda place: (-likely[place], place))[:top_n]
    found: list[ScoredClass] = []
    for place in order:
        if threshold is not None and likely[place] < threshold:
            break
        known = model.classes[place]
        scored: ScoredClass = {"class_id": place, "class_name": known.name, "prob": likely[place]}
        if metadata:
            scored["metadata"] = {"description": known.description, "examples": known.examples}
        found.append(scored)
    return found
