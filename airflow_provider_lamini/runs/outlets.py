"""What all operators and sensors publish of a task: links to its files, its record, and the ``extra`` of its asset events."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_lamini.compat import shows_pages
from airflow_provider_lamini.links import StorageLink, XComLink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.providers.common.compat.sdk import BaseOperator, Context

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.runs.lineage import TaskLineage
    from airflow_provider_lamini.runs.task_record import TaskRecord

Execute = TypeVar("Execute", bound="Callable[..., Any]")

URIS = ("output", "manifest", "report", "scores", "predictions", "history", "report_html")
"""Fields of a result that may be the URI of a file or folder."""
WORDS = ("kind", "state", "status", "action", "name", "project", "base_model", "metric", "table")
"""Fields of a result that are a word or a name, besides those whose names end with ``_id`` or ``_name``."""
NUMBERS = (
    "checkpoint",
    "steps",
    "final_loss",
    "value",
    "passed",
    "dimensions",
    "new",
    "deleted",
    "cancelled",
)
"""Fields of a result that are a number or a flag, besides what is counted."""
MAX_TEXT = 2000
"""Maximum characters of a text; a longer one is left out."""
MAX_ITEMS = 100
"""Maximum number of ids in a list, and of numbers of each sort; more numbers are left out."""


def publishes(execute: Execute) -> Execute:
    """Decorator of ``execute`` and ``execute_complete``: publishes links, what the task's page needs, and asset events.

    What the Dag's author has put into an event's ``extra`` stays as it is.

    :param execute: the method; it returns a mapping
    """
    resumes = execute.__name__ != "execute"

    @functools.wraps(execute)
    def publishing(self: BaseOperator, context: Context, *args: Any, **kwargs: Any) -> Any:
        linked = any(isinstance(link, StorageLink) for link in self.operator_extra_links)
        if not resumes:
            _clear_links(self, context)
        if linked:
            _link(self, context, at_end=False)
        earlier = _earlier_record(self, context) if resumes else _record(self, context, None)
        try:
            result = execute(self, context, *args, **kwargs)
        except TaskDeferred:
            _record(self, context, earlier)
            raise
        except Exception:
            _record(self, context, earlier)
            if linked:
                _link(self, context, at_end=True)
            raise
        _record(self, context, earlier)
        if linked:
            _link(self, context, at_end=True)
        if self.outlets:
            _fill(self, context, result)
        return result

    return publishing  # type: ignore[return-value]


def _clear_links(operator: BaseOperator, context: Context) -> None:
    """Store an empty URL for each link: where a process ends, Airflow 3 looks them up, and logs an error if one is missing."""
    try:
        for link in operator.operator_extra_links:
            if isinstance(link, XComLink):
                context["ti"].xcom_push(key=link.xcom_key, value="")
    except Exception as error:  # noqa: BLE001 - a task must not fail for a link
        operator.log.warning("Could not prepare the links of this task: %s", error)


def _link(operator: BaseOperator, context: Context, *, at_end: bool) -> None:
    from airflow_provider_lamini.runs.storage_links import storage_urls

    try:
        for key, url in storage_urls(operator, context["ti"], at_end=at_end).items():
            context["ti"].xcom_push(key=key, value=url)
    except Exception as error:  # noqa: BLE001 - a task must not fail for a link
        operator.log.warning("Could not link to the task's files: %s", error)


def _record(operator: BaseOperator, context: Context, earlier: TaskRecord | None) -> TaskRecord | None:
    """Record what the task's page needs, unless there are no pages or nothing has changed."""
    from airflow_provider_lamini.runs.task_record import KEY, task_record

    if not shows_pages():
        return None
    try:
        record = task_record(operator, _platform(operator), earlier)
        if record != earlier:
            context["ti"].xcom_push(key=KEY, value=record.payload())
    except Exception as error:  # noqa: BLE001 - a task must not fail for its page
        operator.log.info("Could not record what the task's page in Airflow's UI shows: %s", error)
        return earlier
    return record


def _earlier_record(operator: BaseOperator, context: Context) -> TaskRecord | None:
    """What the process before has recorded of this try."""
    from airflow_provider_lamini.runs.task_record import KEY, TaskRecord

    if not shows_pages():
        return None
    try:
        return TaskRecord.from_payload(context["ti"].xcom_pull(key=KEY))
    except Exception as error:  # noqa: BLE001 - a task must not fail for its page
        operator.log.info("Could not read what an earlier process has recorded of this task: %s", error)
        return None


def _fill(operator: BaseOperator, context: Context, result: Mapping[str, object]) -> None:
    from airflow_provider_lamini.compat import outlet_extras
    from airflow_provider_lamini.runs.lineage import LineageFields, lineage_at_end

    try:
        fields = getattr(operator, "lineage_fields", None) or LineageFields(platform=_platform(operator))
        lineage = lineage_at_end(operator, fields, getattr(operator, "task_run", None), result)
        extra = event_extra(lineage, result)
        for known in outlet_extras(context, operator.outlets):
            known.update({name: value for name, value in extra.items() if name not in known})
    except Exception as error:  # noqa: BLE001 - the job is done and paid for: its task must not fail for this
        operator.log.warning("Could not add the ids and counts to this task's asset events: %s", error)


def _platform(operator: BaseOperator) -> str:
    """The platform of an operator that reports no lineage: the one whose connection it takes."""
    from airflow_provider_lamini.platforms import first_platform

    fields = (field for field in operator.template_fields if field.endswith("_conn_id"))
    return first_platform([field.removesuffix("_conn_id") for field in fields]) or ""


def event_extra(lineage: TaskLineage, result: Mapping[str, object]) -> dict[str, Json]:
    """Return the ``extra`` of an asset event.

    It holds no key, no prompt and no answer: of the result, only fields with ids, names, URIs, scores and numbers.

    :param lineage: what the task has done
    :param result: what the task returns
    """
    extra: dict[str, Json] = dict(_named(result))
    if lineage.platform:
        extra["platform"] = lineage.platform
    if lineage.model is not None:
        extra["model"] = lineage.model[:MAX_TEXT]
    if lineage.job_ids:
        extra["job_ids"] = [job_id[:MAX_TEXT] for job_id in lineage.job_ids[-MAX_ITEMS:]]
    for name, numbers in (
        ("counts", lineage.counts),
        ("usage", lineage.usage),
        ("metrics", result.get("metrics")),
    ):
        if found := _numbers(numbers):
            extra[name] = found
    return extra


def _named(result: Mapping[str, object]) -> Iterator[tuple[str, Json]]:
    from airflow_provider_lamini.rows.storage.uris import redacted_uri

    on_storage = "manifest" in result or "report" in result  # otherwise ``output`` is an answer
    for name, value in result.items():
        short = isinstance(value, str) and len(value) <= MAX_TEXT
        if name in URIS and short and (on_storage or name != "output"):
            yield name, redacted_uri(str(value))
        elif name in NUMBERS and isinstance(value, bool | int | float):
            yield name, value
        elif name in WORDS or name.endswith(("_id", "_name")):
            if isinstance(value, int):
                yield name, value
            elif short:
                yield name, str(value)
        elif name.endswith("_ids") and isinstance(value, list | tuple):
            yield name, [str(item)[:MAX_TEXT] for item in value[-MAX_ITEMS:]]


def _numbers(value: object) -> dict[str, Json]:
    """The numbers of a mapping, perhaps grouped by model; empty if there are too many, or a name is too long."""
    found: dict[str, Json] = {}
    for name, item in value.items() if isinstance(value, Mapping) else ():
        if isinstance(item, Mapping):
            found[str(name)] = _numbers(item)
        elif isinstance(item, int | float):
            found[str(name)] = item
    sizes = [len(item) if isinstance(item, Mapping) else 1 for item in found.values()]
    short = all(len(name) <= MAX_TEXT for name in found)
    return found if short and sum(sizes) <= MAX_ITEMS else {}
