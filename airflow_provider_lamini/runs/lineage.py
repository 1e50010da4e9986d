"""What a task reads, uses and writes, as plain data: for OpenLineage, and for Airflow's hook lineage."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from airflow_provider_lamini.rows.storage.data_names import Data, file_data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.hooks.base import PlatformHook
    from airflow_provider_lamini.rows.counts import Counts
    from airflow_provider_lamini.runs.outcome import Log
    from airflow_provider_lamini.runs.submission_record import RecordStore
    from airflow_provider_lamini.runs.task import TaskRun

log = logging.getLogger(__name__)

READ = {
    "input": "input_conn_id",
    "examples": "input_conn_id",
    "files": "files_conn_id",
    "results": "results_conn_id",
    "reuse_from": "output_conn_id",
    "only_failed_of": "output_conn_id",
}
"""Arguments with paths that an operator reads, each with the argument for its connection."""
WRITTEN = {"output_folder": "output_conn_id", "manifest": "manifest_conn_id"}
"""Arguments with paths that an operator writes, likewise."""
RUNS = ("input", "results", "reuse_from", "only_failed_of")
"""Of these arguments, those that may name an earlier run by its manifest; its folder is meant."""
MODELS = ("models", "classifiers", "deployments")
"""The sorts of objects of a platform that answer."""
NUMBERS = ("rows", "bytes", "examples", "loaded", "files", "added", "changed", "removed")
"""Fields of a result that say how much was sent or written."""
MAX_PATHS = 100
"""Maximum number of paths of one argument, and of job ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageFields:
    """Which arguments and results of an operator name objects of its platform.

    Paths and queries need no mention: they are in arguments with the same names everywhere.

    :param platform: the platform's name; empty for an operator that needs none
    :param uses: arguments that name objects of the platform, each with the sort of object, such as
        ``{"dataset_id": "datasets"}``
    :param makes: the same for fields of the result. A field that repeats an argument of ``uses`` is not made.
    :param tables: arguments that name tables written, each with the argument for the connection to the database
    :param defaults: arguments of ``uses``, each with what returns the name that the platform takes without it
    """

    platform: str
    uses: Mapping[str, str] = field(default_factory=dict)
    makes: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Callable[[], str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLineage:
    """What a task has read, used and written.

    :param platform: the platform's name
    :param url: its base URL; ``None`` if it is not known
    :param model: the model that the task uses
    :param inputs: what it reads
    :param outputs: what it writes
    :param made: ids and names of what it made on the platform, by the field of the result
    :param job_ids: the platform's ids of the jobs that this process knows
    :param counts: rows by outcome, or what else was counted
    :param usage: tokens, by the platform's name for them, and ``cost``, where they are known
    """

    platform: str
    url: str | None = None
    model: str | None = None
    inputs: tuple[Data, ...] = ()
    outputs: tuple[Data, ...] = ()
    made: Mapping[str, str] = field(default_factory=dict)
    job_ids: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)


def lineage_at_start(operator: object, fields: LineageFields) -> TaskLineage:
    """What the arguments say before the task begins. Nothing is looked up.

    :param operator: the operator, its templates rendered
    :param fields: what its arguments name
    """
    return TaskLineage(
        platform=fields.platform,
        model=_model(operator, fields),
        inputs=tuple(_paths(operator, READ)),
        outputs=tuple(_paths(operator, WRITTEN)),
    )


def lineage_at_end(
    operator: object, fields: LineageFields, task: TaskRun | None, result: Mapping[str, object] | None
) -> TaskLineage:
    """What a task has done in this try, also if an earlier process of it waited for the jobs.

    :param operator: the operator, its templates rendered
    :param fields: what its arguments and its result name
    :param task: this try; ``None`` for an operator that waits for no jobs
    :param result: what the task returns; ``None`` if it fails
    """
    found = result or {}
    answered = found.get("model")
    own_conn_id = _given(operator, f"{fields.platform}_conn_id")
    url = _platform_url(found["conn_id"] if found.get("fallback") else own_conn_id, fields, task)
    written: Mapping[str, Counts] = {} if task is None else task.written
    answered_rows: Counts | None = getattr(operator if task is None else task, "answered", None)
    counts = _counts(found, [*written.values(), *([] if answered_rows is None else [answered_rows])])
    usage = _usage(found, written)
    known = found if task is None else {**task.made, **found}
    made = {
        name: str(known[name])
        for name in fields.makes
        if known.get(name) and (name not in fields.uses or _used(operator, fields, name) != known[name])
    }
    fell_back = bool(found.get("fallback"))
    own = [
        Data(namespace=url_namespace(fields.platform, url), name=f"{sort}/{name}", sort=sort)
        for argument, sort in fields.uses.items()
        if (name := answered if fell_back and sort == "models" else _used(operator, fields, argument))
    ]
    making = [
        Data(
            namespace=url_namespace(fields.platform, url),
            name=f"{fields.makes[field_name]}/{name}",
            sort=fields.makes[field_name],
            rows=counts.get("rows") if fields.makes[field_name] == "datasets" else None,
        )
        for field_name, name in made.items()
    ]
    return TaskLineage(
        platform=fields.platform,
        url=url,
        model=answered if isinstance(answered, str) else _model(operator, fields),
        inputs=(*_paths(operator, READ), *_query(operator), *own),
        outputs=(*_paths(operator, WRITTEN, written), *_tables(operator, fields, found), *making),
        made=made,
        job_ids=_job_ids(found, task),
        counts=counts,
        usage=usage,
    )


class WaitingOperator(Protocol):
    """An operator that waits for jobs."""

    @property
    def log(self) -> Log:
        """The task's log."""
        ...

    def make_hook(self) -> PlatformHook:
        """The hook."""
        ...


def lineage_of_records(operator: WaitingOperator, fields: LineageFields, context: Context) -> TaskLineage:
    """What the records of a task say, if no process of ours has seen its end: its trigger has failed, or was killed.

    :param operator: the operator, its templates rendered
    :param fields: what its arguments name
    :param context: Airflow's context
    """
    from airflow_provider_lamini.rows.ledger.document import load
    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.runs.task import TaskRun

    with TaskRun(context, hook=operator.make_hook(), log=operator.log) as task:
        records: Callable[[TaskRun], RecordStore] | None = getattr(operator, "submission_records", None)
        if records is not None:
            submission = records(task).read()
            if submission is not None and submission.job_id is not None:
                task.job_ids[submission.job_id] = None
        elif output := _given(operator, "output_folder"):
            folder = OutputFolder(str(output), getattr(operator, "output_conn_id", None))
            document = load(folder)
            if document is not None:
                task.written[folder.location] = document.totals
                task.job_ids |= dict.fromkeys(job_id for chunk in document.open for job_id in chunk.job_ids)
        return lineage_at_end(operator, fields, task, None)


def url_namespace(platform: str, url: str | None) -> str:
    """The namespace of a platform's objects, such as ``acme://api.acme.example``.

    :param platform: the platform's name
    :param url: its base URL, if known
    """
    return f"{platform}://{(url or '').partition('://')[2]}"


def sql_data(conn_id: str, sql: str) -> tuple[list[Data], list[Data]]:
    """The tables that a statement reads and writes, found by OpenLineage's parser; nothing without OpenLineage.

    :param conn_id: the connection to the database
    :param sql: the statement
    """
    from airflow_provider_lamini.compat import is_openlineage_enabled

    if not is_openlineage_enabled():
        return [], []
    try:
        return _parsed_sql(conn_id, sql)
    except Exception as error:  # noqa: BLE001 - of any database; the other lineage is known all the same
        log.info("Could not tell the tables of the statement on connection %s: %s", conn_id, error)
        return [], []


def _parsed_sql(conn_id: str, sql: str) -> tuple[list[Data], list[Data]]:
    from airflow.providers.common.compat.sdk import BaseHook
    from airflow.providers.openlineage.sqlparser import SQLParser

    connection = BaseHook.get_connection(conn_id)
    hook = connection.get_hook()
    info = hook.get_openlineage_database_info(connection)
    if info is None:  # this database has no lineage
        return [], []
    parser = SQLParser(
        dialect=hook.get_openlineage_database_dialect(connection),
        default_schema=hook.get_openlineage_default_schema(),  # this may ask the database
    )
    found = parser.generate_openlineage_metadata_from_sql(
        sql=sql, hook=hook, database_info=info, use_connection=False
    )
    reads, writes = (
        [Data(namespace=each.namespace, name=each.name, sort="TABLE") for each in side]
        for side in (found.inputs, found.outputs)
    )
    return reads, writes


def _model(operator: object, fields: LineageFields) -> str | None:
    names = (_used(operator, fields, argument) for argument, sort in fields.uses.items() if sort in MODELS)
    return next((str(name) for name in names if name), None)


def _used(operator: object, fields: LineageFields, argument: str) -> object:
    """What an argument names, or else what the platform takes without it, if that is known."""
    given, default = _given(operator, argument), fields.defaults.get(argument)
    return default() if default is not None and not given else given


def _given(operator: object, argument: str) -> object:
    """The value of an argument; ``None`` also if a template has rendered nothing."""
    value = getattr(operator, argument, None)
    return None if value in ("", "None") else value


def _paths(
    operator: object, arguments: Mapping[str, str], written: Mapping[str, Counts] | None = None
) -> Iterator[Data]:
    rows = [(file_data(folder), counts.rows) for folder, counts in (written or {}).items()]
    for argument in arguments:
        value = _given(operator, argument)
        for path in _paths_in(value, always=argument != "input", run=argument in RUNS):
            data = file_data(path)
            inside = [number for folder, number in rows if _is_inside(folder, data)]
            yield replace(data, rows=sum(inside) if inside else None)


def _is_inside(data: Data, folder: Data) -> bool:
    """Whether data are a folder, or below it, as the outputs of each model that is evaluated are."""
    below = data.name.startswith(f"{folder.name}/")
    return data.namespace == folder.namespace and (data.name == folder.name or below)


def _paths_in(value: object, *, always: bool, run: bool) -> list[str]:
    """The paths in an argument.

    :param value: the argument's value
    :param always: whether a text is a path in any case, and never a row
    :param run: whether a manifest stands for the folder of its run
    """
    from airflow_provider_lamini.rows.errors import RowError
    from airflow_provider_lamini.rows.sources.forms import files_of_list, is_path, is_result

    if isinstance(value, Mapping):
        return [str(value["output"])] if is_result(value) else []
    if isinstance(value, str):
        path = value.removesuffix("/manifest.json") if run else value
        return [path] if value.strip() and (always or is_path(value)) else []
    if not isinstance(value, Sequence):
        return []
    items = list(value[:MAX_PATHS])
    try:
        return [str(item) for item in items] if always else files_of_list(items) or []
    except RowError:
        return []  # the task itself says what is wrong


def _query(operator: object) -> list[Data]:
    sql, conn_id = getattr(operator, "input_sql", None), getattr(operator, "input_conn_id", None)
    return sql_data(str(conn_id), str(sql))[0] if sql and conn_id else []


def _tables(operator: object, fields: LineageFields, result: Mapping[str, object]) -> Iterator[Data]:
    for argument, connection in fields.tables.items():
        table, conn_id = getattr(operator, argument), getattr(operator, connection)
        loaded = result.get("loaded")
        for data in sql_data(str(conn_id), f"INSERT INTO {table} VALUES (1)")[1]:  # noqa: S608 - is only parsed
            yield Data(
                namespace=data.namespace,
                name=data.name,
                sort=data.sort,
                rows=loaded if isinstance(loaded, int) else None,
            )


def _platform_url(conn_id: object, fields: LineageFields, task: TaskRun | None) -> str | None:
    from airflow.providers.common.compat.sdk import AirflowException

    from airflow_provider_lamini.hooks.connection import read_connection
    from airflow_provider_lamini.platforms import platform

    try:
        if task is not None:
            return task.settings.base_url
        if conn_id is None:
            return None
        return read_connection(str(conn_id), platform(fields.platform)).settings.base_url
    except AirflowException:
        return None  # the task itself says what is wrong with its connection


def _counts(result: Mapping[str, object], totals: Sequence[Counts]) -> dict[str, int]:
    if totals:
        return {
            name: sum(getattr(each, name) for each in totals)
            for name in ("rows", "ok", "failed", "retried", "reused")
        }
    return {name: value for name in NUMBERS if isinstance(value := result.get(name), int)}


def _usage(result: Mapping[str, object], written: Mapping[str, Counts]) -> dict[str, float]:
    from airflow_provider_lamini.rows.answers.prices import COST, UNPRICED

    tokens = result.get("tokens")
    found = [dict(tokens)] if isinstance(tokens, Mapping) else [each.sums for each in written.values()]
    names = sorted({name for each in found for name in each if name.endswith("tokens")})
    usage: dict[str, float] = {name: int(sum(each.get(name, 0) for each in found)) for name in names}
    costs = [each[COST] for each in (*found, result) if isinstance(each.get(COST), float)]
    if costs:
        usage[COST] = sum(costs)
    if unpriced := int(sum(each.get(UNPRICED, 0) for each in found)):
        usage[UNPRICED] = unpriced
    return usage


def _job_ids(result: Mapping[str, object], task: TaskRun | None) -> tuple[str, ...]:
    own = result.get("job_id")
    known = dict.fromkeys(() if task is None else task.job_ids)
    if isinstance(own, str | int):
        known[str(own)] = None
    return tuple(known)[-MAX_PATHS:]
