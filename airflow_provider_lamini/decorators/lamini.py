"""The TaskFlow decorators ``@task.lamini_...``. Dags use them by these names; Airflow finds them in the metadata."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DecoratedOperator

from airflow_provider_lamini.decorators.base import FunctionRows, call_function, fields_without, function_task
from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
from airflow_provider_lamini.operators.classify import LaminiClassifyOperator
from airflow_provider_lamini.operators.completion import MAX_PROMPTS, LaminiCompletionOperator
from airflow_provider_lamini.operators.embedding import LaminiEmbeddingOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.providers.common.compat.sdk import Context, TaskDecorator


class LaminiBatchInferenceTask(FunctionRows, LaminiBatchInferenceOperator):
    """``@task.lamini_batch_inference``."""

    custom_operator_name = "@task.lamini_batch_inference"
    template_fields: Sequence[str] = fields_without(LaminiBatchInferenceOperator, "input")


class LaminiClassifyTask(FunctionRows, LaminiClassifyOperator):
    """``@task.lamini_classify``."""

    custom_operator_name = "@task.lamini_classify"
    template_fields: Sequence[str] = fields_without(LaminiClassifyOperator, "input")


class LaminiEmbedTask(FunctionRows, LaminiEmbeddingOperator):
    """``@task.lamini_embed``."""

    custom_operator_name = "@task.lamini_embed"
    template_fields: Sequence[str] = fields_without(LaminiEmbeddingOperator, "input")


class LaminiCompletionTask(DecoratedOperator, LaminiCompletionOperator):
    """``@task.lamini_completion``."""

    custom_operator_name = "@task.lamini_completion"
    template_fields: Sequence[str] = fields_without(LaminiCompletionOperator, "prompt")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(prompt="", **kwargs)  # the function gives it

    def execute(self, context: Context) -> dict[str, object]:
        """Call the function, send its prompts, and return the outputs."""
        return LaminiCompletionOperator.execute(self, context)

    def prompts(self, context: Context) -> object:
        """What the function returns."""
        prompts = call_function(self, context)
        return list(islice(prompts, MAX_PROMPTS + 1)) if isinstance(prompts, Iterator) else prompts


def batch_inference_task(
    python_callable: Callable[..., object] | None = None, **kwargs: Any
) -> TaskDecorator:
    """Let a function return the prompts or rows of a batch inference: ``@task.lamini_batch_inference``.

    :param python_callable: returns or yields texts or mappings
    :param kwargs: arguments of ``LaminiBatchInferenceOperator`` except ``input``, and of any task
    """
    return function_task(python_callable, LaminiBatchInferenceTask, **kwargs)


def classify_task(python_callable: Callable[..., object] | None = None, **kwargs: Any) -> TaskDecorator:
    """Let a function return the texts or rows to classify: ``@task.lamini_classify``.

    :param python_callable: returns or yields texts or mappings; without ``output``, at most 100, or one text
    :param kwargs: arguments of ``LaminiClassifyOperator`` except ``input``, and of any task
    """
    return function_task(python_callable, LaminiClassifyTask, **kwargs)


def embed_task(python_callable: Callable[..., object] | None = None, **kwargs: Any) -> TaskDecorator:
    """Let a function return the texts or rows to turn into vectors: ``@task.lamini_embed``.

    :param python_callable: returns or yields texts or mappings; without ``output``, at most 16, or one text
    :param kwargs: arguments of ``LaminiEmbeddingOperator`` except ``input``, and of any task
    """
    return function_task(python_callable, LaminiEmbedTask, **kwargs)


def completion_task(python_callable: Callable[..., object] | None = None, **kwargs: Any) -> TaskDecorator:
    """Let a function return the prompt, or a list of at most 100: ``@task.lamini_completion``.

    :param python_callable: returns a text or a list of texts
    :param kwargs: arguments of ``LaminiCompletionOperator`` except ``prompt``, and of any task
    """
    return function_task(python_callable, LaminiCompletionTask, **kwargs)
