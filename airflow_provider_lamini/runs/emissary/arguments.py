"""Validating the arguments that only Emissary's operators have."""

from __future__ import annotations

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.runs.arguments import identifier, model_or_id, shown


def job_reference(name: str, value: object) -> str:
    """The id of a job that belongs to a project: ``project/id``.

    :param name: the argument, for the message
    :param value: what an operator returned as ``job_id``
    :raises InvalidArgumentError: if it is anything else
    """
    found = model_or_id(name, value)
    project_id, slash, item_id = found.partition("/")
    if not slash:
        raise InvalidArgumentError(
            f"{name} must be project/id, such as ms-12345/tr-12345, not {shown(found)}."
        )
    return f"{identifier(name, project_id)}/{identifier(name, item_id)}"
