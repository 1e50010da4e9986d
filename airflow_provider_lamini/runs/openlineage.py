"""OpenLineage's datasets and facets from what a task has done. Imports OpenLineage only when it is called."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset

    from airflow_provider_lamini.rows.storage.data_names import Data
    from airflow_provider_lamini.runs.lineage import TaskLineage

FACET = "airflow_provider_lamini"
"""Name of the facets of this package, for jobs and for runs."""

_TYPES = {"FILE": "FILE", "TABLE": "TABLE", "datasets": "FILE", "indexes": "INDEX"}
"""OpenLineage's type of a dataset by its sort; all others are models."""


def operator_lineage(lineage: TaskLineage) -> OperatorLineage[Any, Any]:
    """Return what an extractor of OpenLineage returns.

    :param lineage: what the task has read, used and written
    :raises ImportError: if OpenLineage is not installed
    """
    from airflow.providers.openlineage.extractors import OperatorLineage

    job_facet, run_facet = _facet_classes()
    run_facets: dict[str, Any] = {
        FACET: run_facet(
            platform=lineage.platform,
            url=lineage.url,
            model=lineage.model,
            made=dict(lineage.made),
            jobIds=list(lineage.job_ids),
            counts=dict(lineage.counts),
            usage=dict(lineage.usage),
        )
    }
    if lineage.job_ids and lineage.url:
        from openlineage.client.facet_v2 import external_query_run

        run_facets["externalQuery"] = external_query_run.ExternalQueryRunFacet(
            externalQueryId=lineage.job_ids[-1], source=lineage.url
        )
    return OperatorLineage(
        inputs=[_input(data) for data in dict.fromkeys(lineage.inputs)],
        outputs=[_output(data) for data in dict.fromkeys(lineage.outputs)],
        run_facets=run_facets,
        job_facets={FACET: job_facet(platform=lineage.platform, model=lineage.model)},
    )


def _input(data: Data) -> InputDataset:
    from openlineage.client.event_v2 import InputDataset

    return InputDataset(namespace=data.namespace, name=data.name, facets=_dataset_facets(data))


def _output(data: Data) -> OutputDataset:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

    facets: dict[str, Any] = {}
    if data.rows is not None:
        facets["outputStatistics"] = statistics.OutputStatisticsOutputDatasetFacet(rowCount=data.rows)
    return OutputDataset(
        namespace=data.namespace, name=data.name, facets=_dataset_facets(data), outputFacets=facets
    )


def _dataset_facets(data: Data) -> dict[str, Any]:
    try:
        from openlineage.client.facet_v2 import dataset_type_dataset
    except ImportError:  # before version 1.33 of the client
        return {}
    kind = _TYPES.get(data.sort, "MODEL")
    return {
        "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(
            datasetType=kind, subType=None if data.sort in ("FILE", "TABLE") else data.sort.upper()
        )
    }


@cache
def _facet_classes() -> tuple[Any, Any]:
    """The classes of the facets for jobs and for runs; they derive from OpenLineage's."""
    from attrs import define, field
    from openlineage.client.facet_v2 import JobFacet, RunFacet

    @define(kw_only=True)
    class PlatformTaskJobFacet(JobFacet):
        """What a task does in each of its runs."""

        platform: str
        model: str | None = None

    @define(kw_only=True)
    class PlatformTaskRunFacet(RunFacet):
        """What a run of a task has done on a platform."""

        platform: str
        url: str | None = None
        model: str | None = None
        made: dict[str, str] = field(factory=dict)
        jobIds: list[str] = field(factory=list)  # noqa: N815 - OpenLineage's names are written so
        counts: dict[str, int] = field(factory=dict)
        usage: dict[str, float] = field(factory=dict)

    return PlatformTaskJobFacet, PlatformTaskRunFacet
