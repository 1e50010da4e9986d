"""Sorting texts with a trained classifier while a client waits."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from airflow_provider_lamini.local.classifiers.features import features
from airflow_provider_lamini.local.classifiers.training import BATCH_SIZE
from airflow_provider_lamini.local.routes.common import work_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import Request

    from airflow_provider_lamini.local.classifiers.model import ClassifierModel
    from airflow_provider_lamini.local.platform import Platform


async def classify_texts(
    platform: Platform, model: ClassifierModel, texts: Sequence[str], request: Request
) -> list[list[float]]:
    """How likely each class is, per text.

    :param platform: makes the vectors
    :param model: the classifier
    :param texts: the texts
    :param request: the client's request; nothing more is begun once the client has gone
    :returns: per text one number per class
    """
    name = model.embedding_model
    platform.inference.check_embedding_model(name)
    parts = [texts[start : start + BATCH_SIZE] for start in range(0, len(texts), BATCH_SIZE)]
    found = await work_on(
        parts,
        lambda part: model.probabilities(features(part, lambda some: platform.inference.embed(some, name))),
        platform.vector_pool,
        request,
        name=f"Texts, part of {BATCH_SIZE} number",
    )
    return list(chain.from_iterable(found))
