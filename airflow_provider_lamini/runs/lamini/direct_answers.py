"""Having a few prompts or conversations answered while the task runs, by the first model that is available."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_lamini.hooks.lamini import LaminiHook
from airflow_provider_lamini.platforms.lamini.endpoints import Chat, DirectCompletions
from airflow_provider_lamini.rows.answers.prices import cost_of
from airflow_provider_lamini.runs.arguments import whole_number
from airflow_provider_lamini.runs.fallback import ask_with_fallback, parse_routes, route_value
from airflow_provider_lamini.runs.inline import (
    output_value,
    report_answers,
    require_outputs,
    send_all,
    total_tokens,
)
from airflow_provider_lamini.runs.lamini.inference import parse_inference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.platforms.lamini.endpoints import Inference
    from airflow_provider_lamini.rows.counts import Counts
    from airflow_provider_lamini.runs.fallback import Route
    from airflow_provider_lamini.runs.outcome import Log

T = TypeVar("T")


def parse_answering(
    endpoint: str,
    fields: Mapping[str, object],
    *,
    check: object,
    lamini_conn_id: object,
    fallback_model: object,
    fallback_conn_id: object,
    max_in_flight: object,
    log: Log,
    counted: Callable[[Counts], None],
) -> Answering:
    """Validate who answers, and how.

    :param endpoint: the endpoint's name, as `parse_inference` takes it
    :param fields: other arguments of `parse_inference`, by name
    :param check: judges an output
    :param lamini_conn_id: the connection to the platform
    :param fallback_model: other models; see `parse_routes`
    :param fallback_conn_id: other connections
    :param max_in_flight: maximum number of concurrent requests
    :param log: the task's log
    :param counted: takes the numbers of answers by outcome, also if the task then fails
    :raises InvalidArgumentError: if an argument is wrong
    :raises InvalidConnectionError: if a connection is invalid
    """
    inference = parse_inference(endpoint, check=check, **fields)
    routes = parse_routes(
        LaminiHook,
        model_name=inference.model_name,
        conn_id=("lamini_conn_id", lamini_conn_id),
        fallback_model=fallback_model,
        fallback_conn_id=fallback_conn_id,
    )
    at_once = whole_number("max_in_flight", max_in_flight, minimum=1)
    return Answering(inference=inference, routes=routes, at_once=at_once, log=log, counted=counted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """Who answers, and how.

    :param inference: what the model does; each route has its own model
    :param routes: who is asked, in order
    :param at_once: maximum number of concurrent requests
    :param log: the task's log
    :param counted: takes the numbers of answers by outcome, also if the task then fails
    """

    inference: Inference
    routes: list[Route]
    at_once: int
    log: Log
    counted: Callable[[Counts], None]

    def answer_prompts(self, prompts: Sequence[str], *, single: bool) -> dict[str, object]:
        """Have prompts answered.

        :param prompts: the prompts
        :param single: whether the task has one prompt, not a list
        :return: the model and the outputs
        :raises AnswerError: if a prompt has no usable answer
        """
        route, responses = self._send(
            lambda inference: [DirectCompletions(inference).ask([prompt]) for prompt in prompts]
        )
        rows = [row for response in responses for row in response]
        self.counted(report_answers(route.settings.platform, rows))
        require_outputs(rows)
        return {**route_value(self.routes, route), **output_value(rows, single=single)}

    def answer_conversations(
        self, conversations: Sequence[list[dict[str, str]]], *, single: bool
    ) -> dict[str, object]:
        """Have conversations answered.

        :param conversations: the conversations, each a list of messages
        :param single: whether the task has one conversation, not a list
        :return: the model, the outputs, the tokens that were used, and what they cost, if it is known
        :raises AnswerError: if a conversation has no usable answer
        """
        route, replies = self._send(
            lambda inference: [Chat(inference).reply(conversation) for conversation in conversations]
        )
        rows, usages = [reply.row for reply in replies], [reply.usage for reply in replies]
        self.counted(report_answers(route.settings.platform, rows, usages))
        require_outputs(rows)
        cost = cost_of(route.prices, route.model_name, usages)
        return {
            **route_value(self.routes, route),
            **output_value(rows, single=single),
            "tokens": total_tokens(usages),
            **({} if cost is None else {"cost": cost}),
        }

    def _send(self, calls: Callable[[Inference], list[Call[T]]]) -> tuple[Route, list[T]]:
        """Send calls to the first route that is available.

        :param calls: makes the calls for a model
        """

        def ask(route: Route) -> list[T]:
            own = replace(self.inference, model_name=route.model_name)
            return send_all(route.settings, calls(own), at_once=self.at_once, log=self.log)

        return ask_with_fallback(self.routes, ask, self.log)
