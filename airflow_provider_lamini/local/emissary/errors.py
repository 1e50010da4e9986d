"""Errors of the Emissary API."""

from __future__ import annotations

from airflow_provider_lamini.local.errors import ApiError


class ObjectNotFoundError(ApiError):
    """Nothing of this kind has this id or name.

    :param title: the kind, for example ``project``
    :param name: the id or name
    """

    def __init__(self, title: str, name: str) -> None:
        super().__init__(404, f"{title.capitalize()} {name!r} not found.")


class InvalidInputError(ApiError):
    """The request cannot be fulfilled."""

    def __init__(self, detail: str) -> None:
        super().__init__(400, detail)
