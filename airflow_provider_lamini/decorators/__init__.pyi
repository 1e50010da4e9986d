# Types for the decorators of this provider. Airflow adds them to ``task`` when it runs, so no type checker finds them there.
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Required, TypeAlias, TypedDict, Unpack, overload

from airflow.sdk.bases.decorator import FParams, FReturn, Task, TaskDecorator
from airflow.sdk.definitions.decorators import TaskDecoratorCollection

from airflow_provider_lamini.api.call import Json
from airflow_provider_lamini.operators.batch_inference import OutputTypeArgument

__all__ = ["task"]

_Callback: TypeAlias = Callable[[Any], object] | Sequence[Callable[[Any], object]] | None

class _TaskArguments(TypedDict, total=False):
    task_id: str
    task_display_name: str | None
    multiple_outputs: bool
    owner: str
    email: str | Sequence[str] | None
    email_on_retry: bool
    email_on_failure: bool
    retries: int | None
    retry_delay: timedelta | float
    retry_exponential_backoff: float | bool
    max_retry_delay: timedelta | float | None
    retry_policy: Any
    start_date: datetime | None
    end_date: datetime | None
    depends_on_past: bool
    ignore_first_depends_on_past: bool
    wait_for_past_depends_before_skipping: bool
    wait_for_downstream: bool
    dag: Any
    params: Mapping[str, Any] | None
    default_args: dict[str, Any] | None
    priority_weight: int
    weight_rule: Any
    queue: str
    pool: str | None
    pool_slots: int
    sla: timedelta | None
    execution_timeout: timedelta | None
    on_execute_callback: _Callback
    on_failure_callback: _Callback
    on_success_callback: _Callback
    on_retry_callback: _Callback
    on_skipped_callback: _Callback
    pre_execute: Callable[[Any], object] | None
    post_execute: Callable[[Any, Any], object] | None
    trigger_rule: str
    resources: dict[str, Any] | None
    run_as_user: str | None
    map_index_template: str | None
    max_active_tis_per_dag: int | None
    max_active_tis_per_dagrun: int | None
    executor: str | None
    executor_config: dict[str, Any] | None
    do_xcom_push: bool
    inlets: Any
    outlets: Any
    task_group: Any
    doc: str | None
    doc_md: str | None
    doc_json: str | None
    doc_yaml: str | None
    doc_rst: str | None
    logger_name: str | None
    allow_nested_operators: bool
    render_template_as_native_obj: bool | None

class _RowArguments(_TaskArguments, total=False):
    prompt: str
    max_prompt_chars: int | str | None
    passthrough: Sequence[str]
    chunk_size: int | str
    max_in_flight: int | str
    row_retries: int | str
    on_bad_row: str
    reuse_from: str | None
    only_failed_of: str | None
    max_rows: int | str | None
    max_input_chars: int | str | None
    max_total_tokens: int | str | None
    limit_rows: int | str | None
    dry_run: bool | str
    max_failed_rows: float | str | None
    on_other_run: str
    on_changed_input: str
    on_unknown_submission: str
    columns: Sequence[str] | None
    output_conn_id: str | None
    deferrable: bool | None
    poll_interval: float | str
    timeout: float | str | timedelta
    cancel_on_kill: bool

class _GenerationArguments(TypedDict, total=False):
    output_type: OutputTypeArgument
    strict_output: bool | str
    check: Callable[[Json], object] | str | None
    fail_on_length: bool | str
    accept_answers: Sequence[str] | str
    max_new_tokens: int | str | None
    system: str | None
    temperature: float | str | None
    top_p: float | str | None

class _LaminiGenerationArguments(_GenerationArguments, total=False):
    model_name: Required[str]
    seed: int | str | None
    stop: str | Sequence[str] | None
    extra_body: Mapping[str, object] | str | None
    lamini_conn_id: str

class _RequestArguments(TypedDict, total=False):
    output: Required[str]
    endpoint: str
    messages: str | None
    last_answer: str
    reasoning: str
    row_usage: bool | str
    overrides: Mapping[str, str] | str | None

class _LaminiBatchInference(_RowArguments, _LaminiGenerationArguments, _RequestArguments, total=False): ...

class _LaminiClassify(_RowArguments, total=False):
    model_id: Required[str]
    output: str | None
    top_n: int | str | None
    threshold: float | str | None
    lamini_conn_id: str

class _LaminiEmbed(_RowArguments, total=False):
    output: str | None
    model_name: str | None
    output_format: str
    endpoint: str
    texts_per_request: int | str
    lamini_conn_id: str

class _LaminiCompletion(_TaskArguments, _LaminiGenerationArguments, total=False):
    max_in_flight: int | str
    fallback_model: str | Sequence[str] | None
    fallback_conn_id: str | Sequence[str] | None

class _EmissaryBatchInference(_RowArguments, _GenerationArguments, _RequestArguments, total=False):
    model_name: Required[str]
    project_id: str | None
    engine_id: str | None
    wake_timeout: float | str | timedelta
    top_k: int | str | None
    data_format: str
    target: str | None
    measures: Sequence[str]
    emissary_conn_id: str

class _Decorators(TaskDecoratorCollection):
    def lamini_batch_inference(self, **arguments: Unpack[_LaminiBatchInference]) -> TaskDecorator:
        """Let a function return or yield the prompts or rows of ``LaminiBatchInferenceOperator``."""

    def lamini_classify(self, **arguments: Unpack[_LaminiClassify]) -> TaskDecorator:
        """Let a function return or yield the texts or rows of ``LaminiClassifyOperator``."""

    @overload
    def lamini_embed(self, **arguments: Unpack[_LaminiEmbed]) -> TaskDecorator:
        """Let a function return or yield the texts or rows of ``LaminiEmbeddingOperator``."""

    @overload
    def lamini_embed(self, python_callable: Callable[FParams, FReturn]) -> Task[FParams, FReturn]: ...
    def lamini_completion(self, **arguments: Unpack[_LaminiCompletion]) -> TaskDecorator:
        """Let a function return the prompt, or a list of at most 100, of ``LaminiCompletionOperator``."""

    def emissary_batch_inference(self, **arguments: Unpack[_EmissaryBatchInference]) -> TaskDecorator:
        """Let a function return or yield the prompts or rows of ``EmissaryBatchInferenceOperator``."""

task: _Decorators
