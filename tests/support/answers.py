"""Reads an answer as the client would, without a platform."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Call, Json

T = TypeVar("T")

STATES = [
    "CREATED",
    "LOADING DATA",
    "TRAINING_MODEL",
    "partially completed",
    "timed_out",
    "CANCELED",
    "Brand New",
]
"""Words of states, as the platform writes them here and there; the last one is not known yet."""


def read(call: Call[T], answer: bytes | Json) -> T:
    """What a call makes of an answer.

    :param call: the call
    :param answer: its body, or what is JSON in it
    """
    return call.parse(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
