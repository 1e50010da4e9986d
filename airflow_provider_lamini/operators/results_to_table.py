"""Loads the results of a run over rows into a table of a database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.links import ResultsLink
from airflow_provider_lamini.operators.base import COLOR
from airflow_provider_lamini.operators.lineage import records_lineage, reports_lineage
from airflow_provider_lamini.operators.templates import renders_only_templates
from airflow_provider_lamini.runs.arguments import flag, one_of, optional_name, plain_name, text, whole_number
from airflow_provider_lamini.runs.outlets import publishes
from airflow_provider_lamini.runs.task_errors import as_argument_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.runs.table_load import TableLoad

RECORD_TABLE = "airflow_loaded_results"


@renders_only_templates
@reports_lineage(tables={"table": "conn_id"})
class ResultsToTableOperator(BaseOperator):
    """Loads the results of a finished run over rows into a table, each row once, whatever happens in between.

    Rows are loaded in chunks. One transaction deletes the rows of the table that have the same keys, inserts a chunk, and
    records in ``record_table`` how far the run is loaded. A retry continues there. Results that have replaced others in the
    same folder are loaded anew. The table must exist, and its database must have transactions.

    :param results: output folder of the run, or what its task returned, such as ``infer.output``
    :param conn_id: the connection to the database, of any type with a ``DbApiHook``; needs the extra ``sql``
    :param table: the table, with its schema or without
    :param columns: the columns of the table to fill: a list of fields of a result, or a mapping of columns to fields, such
        as ``{"ticket_id": "ticket_id", "category": "output.category"}``. Fields are ``index``, the passthrough columns,
        ``output``, ``finish_reason``, ``error``; a dot leads into an object. Lists and objects become JSON text.
    :param key: the columns that identify a row. Rows with the same key are replaced. ``None`` appends all rows.
    :param failed_rows: ``skip`` them, or ``load`` them with what they have
    :param chunk_size: rows per transaction
    :param record_table: the table that records how far each run is loaded; it is created if it does not exist
    :param reload: load all rows again in each try, for example because somebody has emptied the table. It needs ``key``.
    :param results_conn_id: the connection to the object storage of the results
    :return: ``table``, ``rows`` (of the run), ``loaded``, ``skipped`` (failed rows) and ``repeated``, all by this try
    """

    operator_extra_links = (ResultsLink(),)

    template_fields: Sequence[str] = (
        "results",
        "conn_id",
        "table",
        "columns",
        "key",
        "failed_rows",
        "chunk_size",
        "record_table",
        "reload",
        "results_conn_id",
    )
    template_fields_renderers = {"columns": "json"}  # noqa: RUF012 - as Airflow declares it
    ui_color = COLOR

    def __init__(
        self,
        *,
        results: str | Mapping[str, object],
        conn_id: str,
        table: str,
        columns: Sequence[str] | Mapping[str, str],
        key: Sequence[str] | None,
        failed_rows: str = "skip",
        chunk_size: int | str = 1000,
        record_table: str = RECORD_TABLE,
        reload: bool | str = False,
        results_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write load.output["loaded"]
        super().__init__(**kwargs)
        self.results = results
        self.conn_id = conn_id
        self.table = table
        self.columns = columns
        self.key = key
        self.failed_rows = failed_rows
        self.chunk_size = chunk_size
        self.record_table = record_table
        self.reload = reload
        self.results_conn_id = results_conn_id

    @publishes
    @records_lineage
    def execute(self, context: Context) -> dict[str, object]:  # noqa: ARG002 - Airflow's interface
        """Load the rows that are not loaded yet."""
        from airflow_provider_lamini.runs.table_load import load_table

        load = self._load()
        with as_argument_errors():
            return load_table(load, self.log)

    def _load(self) -> TableLoad:
        from airflow_provider_lamini.runs.table_load import TableLoad, column_names, table_name

        columns = self._columns()
        key = column_names("key", self.key)
        unknown = [column for column in key if column not in columns]
        if unknown:
            raise InvalidArgumentError(f"key has {unknown[0]!r}, which is not one of columns.")
        reload = flag("reload", self.reload)
        if reload and not key:
            raise InvalidArgumentError(
                "reload needs key: without it, a retry appends once more what its first try has loaded. Name the columns that "
                f"identify a row, or remove the run's row from {self.record_table}."
            )
        return TableLoad(
            results=self._results(),
            results_conn_id=optional_name("results_conn_id", self.results_conn_id),
            conn_id=plain_name("conn_id", self.conn_id),
            table=table_name("table", self.table),
            columns=columns,
            key=key,
            skip_failed=one_of("failed_rows", self.failed_rows, ("skip", "load")) == "skip",
            chunk_size=whole_number("chunk_size", self.chunk_size, minimum=1),
            record_table=table_name("record_table", self.record_table),
            reload=reload,
        )

    def _results(self) -> str:
        found: object = self.results
        if isinstance(found, Mapping):
            found = found.get("output")
        if not isinstance(found, str) or not found.strip() or found == "None":
            raise InvalidArgumentError(
                "results must be the output folder of a run, or what its task returned."
            )
        return found.removesuffix("/manifest.json")

    def _columns(self) -> dict[str, str]:
        from airflow_provider_lamini.runs.table_load import column_names

        given = self.columns
        if isinstance(given, Mapping):
            names = column_names("columns", list(given))
            fields = [text(f"columns: the field of {name}", given[name]) for name in names]
        else:
            names = fields = column_names("columns", given)
        if not names:
            raise InvalidArgumentError("columns is empty: name the columns of the table to fill.")
        return dict(zip(names, fields, strict=True))
