"""Emissary's endpoints for rows: each row is one request."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, cast

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.platforms.emissary.api import deployments, engines, inference
from airflow_provider_lamini.platforms.emissary.kinds import DEPLOY_AGAIN, DEPLOYMENT, ENGINE, state_of
from airflow_provider_lamini.rows.answers.judging import (
    Answer,
    RowResult,
    ended_by,
    judge,
    meaning_of,
    ranked_classes,
)
from airflow_provider_lamini.rows.prompts.row_request import (
    RowRequest,
    decode_pair,
    decode_request,
    with_system,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.api.call import Call, Json
    from airflow_provider_lamini.platforms.emissary.api.deployments import DeploymentSummary
    from airflow_provider_lamini.platforms.emissary.api.inference import (
        ChatCompletionObject,
        Classification,
        CompletionObject,
        EmbeddingComparison,
    )
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint
    from airflow_provider_lamini.rows.generation import Generation

SAMPLING = ("temperature", "top_p", "top_k")
"""The parameters of completions and chats that say how tokens are sampled."""


class Completions:
    """``/v1/completions``.

    :param options: the options, the same for every row
    :param requests: whether the texts of the rows are requests (`RowRequest`) and not prompts
    """

    per_request = 1
    reports_tokens = True

    def __init__(self, options: Generation, *, requests: bool = False) -> None:
        self._options = options
        self._requests = requests

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        options, prompt = self._options, prompts[0]
        if self._requests:
            request = decode_request(prompt)
            options, prompt = options.for_row(request), request.prompt

        def parse(response: CompletionObject) -> list[RowResult]:
            choice = response.choices[0]
            reason = choice.finish_reason or "stop"
            answer = Answer(choice.text, reason, meaning_of(reason))
            row = judge(answer, options.answers)
            return [row._replace(usages=(response.usage,), model=options.model_name)]

        return inference.complete(
            model=options.model_name,
            prompt=prompt,
            max_completion_tokens=options.max_new_tokens,
            **_sampling(options),
        ).map(parse)


class Chat:
    """``/v1/chat/completions``: a row is one conversation; the model's chat template is applied.

    :param options: the options, the same for every row
    :param requests: whether the texts of the rows are requests (`RowRequest`) and not the user's messages
    """

    per_request = 1
    reports_tokens = True

    def __init__(self, options: Generation, *, requests: bool = False) -> None:
        self._options = options
        self._requests = requests

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        request = RowRequest([{"role": "user", "content": prompts[0]}])
        if self._requests:
            request = decode_request(prompts[0])
        options, messages = self._options.for_row(request), request.messages
        if options.system is not None:
            messages = with_system(messages, options.system)

        def parse(response: ChatCompletionObject) -> list[RowResult]:
            choice, said = response.choices[0], response.choices[0].message
            reason = choice.finish_reason or "stop"
            calls_tools = bool(said.tool_calls) and not (said.content or "").strip()
            end = ended_by(reason, refused=bool(said.refusal), calls_tools=calls_tools)
            answer = Answer(said.content, reason, end, said.thoughts)
            row = judge(answer, options.answers)
            return [row._replace(usages=(response.usage,), model=options.model_name)]

        return inference.chat(
            model=options.model_name,
            messages=messages,
            max_tokens=options.max_new_tokens,
            **_sampling(options),
        ).map(parse)


class Classify:
    """``/v1/classification``.

    :param model_name: a deployment's name
    :param data_format: ``logits`` or ``probs``
    """

    per_request = 1
    reports_tokens = True

    def __init__(self, model_name: str, data_format: str) -> None:
        self._model_name = model_name
        self._data_format = data_format
        self._measure = "prob" if data_format == "probs" else "logit"

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        def parse(response: Classification) -> list[RowResult]:
            output = ranked_classes(response.data[0].scores.items(), self._measure)
            return [RowResult(output, None, usages=(response.usage,), model=self._model_name)]

        return inference.classify(
            model=self._model_name, input=prompts[0], data_format=self._data_format
        ).map(parse)


class Compare:
    """``/v1/embeddings``: a row has two texts (`TextPairTemplate`), which are compared.

    :param model_name: a deployment's name, or a base model that supports inference without one
    :param measures: of ``cosine``, ``manhattan`` and ``euclidean``
    """

    per_request = 1
    reports_tokens = False

    def __init__(self, model_name: str, measures: Sequence[str]) -> None:
        self._model_name = model_name
        self._measures = tuple(measures)

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        text, target = decode_pair(prompts[0])

        def parse(comparison: EmbeddingComparison) -> list[RowResult]:
            scores = comparison.response
            found = {
                "cosine": scores.cosine_score,
                "manhattan": scores.manhattan_distance,
                "euclidean": scores.euclidean_distance,
            }
            missing = [name for name in self._measures if found[name] is None]
            if missing:
                raise ValueError(f"the comparison has no {', '.join(missing)}")
            output: dict[str, Json] = {name: found[name] for name in self._measures}
            return [RowResult(output, None)]

        return inference.compare(
            model=self._model_name,
            input=text,
            target=target,
            cosine="cosine" in self._measures,
            manhattan="manhattan" in self._measures,
            euclidean="euclidean" in self._measures,
        ).map(parse)


class Deployed:
    """An endpoint with a deployment, which may be parked or end while rows are sent.

    :param endpoint: the endpoint
    :param model_name: the deployment's name
    :param project_id: its project; not needed with an ``engine_id``
    :param engine_id: its engine; ``None`` if it has none of its own
    """

    def __init__(
        self, endpoint: DirectEndpoint, model_name: str, *, project_id: str | None, engine_id: str | None
    ) -> None:
        self.per_request = endpoint.per_request
        self.reports_tokens = endpoint.reports_tokens
        self._endpoint = endpoint
        self._model_name = model_name
        self._project_id = project_id
        self._engine_id = engine_id

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        return self._endpoint.ask(prompts)

    def outage(self) -> Call[str | None]:
        if self._engine_id is not None:
            name = f"Engine {self._engine_id}"
            return engines.engine(self._engine_id).map(
                lambda engine: _outage(name, state_of(ENGINE, engine.status), engine.status)
            )
        return deployments.list_all(str(self._project_id)).map(self._outage)

    def _outage(self, listed: Sequence[DeploymentSummary]) -> str | None:
        name = f"Deployment {self._model_name}"
        found = [item.status for item in listed if item.name == self._model_name]
        reasons = [_outage(name, state_of(DEPLOYMENT, word), word) for word in found]
        if not reasons:
            return f"{name} no longer exists: deploy the checkpoint again."
        return None if None in reasons else reasons[-1]


def _outage(name: str, state: JobState, word: str) -> str | None:
    """Why something with this state answers no row; ``None`` if it does, or if nobody knows."""
    if state in (JobState.SUCCEEDED, JobState.UNKNOWN):
        return None
    return f"{name} is {word}. {DEPLOY_AGAIN if state.ended else 'A retry wakes it, and waits for it.'}"


class _Sampling(TypedDict):
    temperature: float | None
    top_p: float | None
    top_k: int | None


def _sampling(options: Generation) -> _Sampling:
    return cast("_Sampling", {name: options.parameters.get(name) for name in SAMPLING})
