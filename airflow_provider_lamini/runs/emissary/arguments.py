"""The arguments that only Emissary's operators have: ids of jobs, and what a deployment generates for each row."""

from __future__ import annotations

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.platforms.emissary.endpoints import SAMPLING
from airflow_provider_lamini.rows.generation import Generation
from airflow_provider_lamini.rows.prompts.conversation import ChatLimits
from airflow_provider_lamini.runs.answer_policy import parse_answer_policy
from airflow_provider_lamini.runs.arguments import identifier, model_or_id, shown
from airflow_provider_lamini.runs.row_requests import RequestForm, constant_system, generation_parameter


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


_PER_ROW = frozenset({*SAMPLING, "max_new_tokens", "model_name"})

FORMS = {
    "completions": RequestForm(path="/v1/completions", per_row=_PER_ROW),
    "chat": RequestForm(
        path="/v1/chat/completions",
        chat=True,
        per_row=_PER_ROW | {"system"},
        limits=ChatLimits(roles=("system", "user", "assistant"), parameters={*SAMPLING, "max_new_tokens"}),
    ),
}
"""What a request of each endpoint may hold."""


def parse_generation(
    *,
    model_name: object,
    output_type: object,
    strict_output: object,
    check: object,
    fail_on_length: object,
    accept_answers: object,
    max_new_tokens: object,
    system: object,
    reasoning: object = "drop",
    **sampling: object,
) -> Generation:
    """Validate the arguments that say what a model does with each row.

    :param model_name: a deployment's name, or a base model that supports inference without one
    :param output_type: the shape of each output; ``None`` for plain text
    :param strict_output: whether an output must be the object's JSON and nothing else
    :param check: judges each output
    :param fail_on_length: whether a row fails whose output was cut at the token limit
    :param accept_answers: reasons for which a row does not fail
    :param max_new_tokens: maximum number of generated tokens per row; ``None`` for the platform's default
    :param system: the system prompt; ``None`` for none
    :param reasoning: ``keep`` or ``drop`` what a model has thought
    :param sampling: ``temperature``, ``top_p`` and ``top_k``; ``None`` for the platform's default
    :raises InvalidArgumentError: if one is wrong
    """
    parameters = {name: generation_parameter(name, value) for name, value in sampling.items()}
    tokens = generation_parameter("max_new_tokens", max_new_tokens)
    return Generation(
        model_name=str(generation_parameter("model_name", model_name)),
        answers=parse_answer_policy(
            output_type,
            strict_output,
            check,
            fail_on_length,
            accept_answers,
            flat_only=None,
            reasoning=reasoning,
        ),
        max_new_tokens=tokens if isinstance(tokens, int) else None,
        system=constant_system(system),
        parameters={name: value for name, value in parameters.items() if value is not None},
    )
