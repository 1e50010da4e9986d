"""Keeping a Memory RAG index the same as a folder of documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.links import ManifestLink
from airflow_provider_lamini.operators.base import JobOperator
from airflow_provider_lamini.operators.lineage import reports_lineage
from airflow_provider_lamini.runs.arguments import optional_name, plain_name, whole_number

if TYPE_CHECKING:
    from airflow_provider_lamini.hooks.lamini import LaminiHook
    from airflow_provider_lamini.runs.lamini.index_refresh import IndexRefresh
    from airflow_provider_lamini.runs.submission_record import RecordStore
    from airflow_provider_lamini.runs.task import TaskRun

TEXT_SUFFIXES = (".txt", ".md", ".markdown", ".rst")


@reports_lineage("lamini", uses={"model_name": "models"}, makes={"index_id": "indexes"})
class LaminiMemoryRagRefreshOperator(JobOperator):
    """Makes an index hold the same as a folder, with as little work as the platform allows.

    The manifest, a small file on storage, lists the files in the index with their checksums. The task compares it with the
    folder and decides; its result says which action it took:

    - ``built``: there was no index, so one is built over all files;
    - ``unchanged``: nothing is sent, except for a request that checks that the index still exists;
    - ``added``: there are only new files, and their texts are added to the index;
    - ``rebuilt``: files have changed or are gone, so an index over all files is built. It replaces the old one in the
      manifest once it is ready; until then the old one can be queried. The task also rebuilds if the platform has lost the
      index or refuses to add a text, if the model or the platform has changed, or if an earlier run was interrupted while
      it added a file.

    The platform adds **texts** to an index, not files, and cannot remove anything from it. So a new file is added if it has
    one of ``text_suffixes`` and is in UTF-8; any other new file (PDF, HTML) leads to a rebuild, because only the platform
    can read it. An index that was replaced stays on the platform, which cannot delete it.

    A retry, and also the next run, attaches to a running build of the same files; its record is in the manifest. Let one
    task at a time refresh an index (``max_active_runs=1``); a second one is refused.

    Endpoints: those of the build, and ``POST /alpha/memory-rag/add-index``.

    :param files: as for the build: usually a folder
    :param model_name: the model that will answer
    :param manifest: path or URI of the manifest, such as ``s3://bucket/rag/handbook.json``; the first run creates it
    :param state_path: has no effect: the record of a build is in the manifest, so that the next run finds it, too
    :param text_suffixes: new files with these suffixes are added as texts
    :param piece_size: characters of a text that are added at once; longer texts are split between paragraphs
    :param lamini_conn_id: the connection to the platform
    :param files_conn_id: the connection for the files' object storage
    :param manifest_conn_id: the connection for the manifest's object storage
    :return: ``index_id``, ``action`` (see above), ``reason``, numbers of files ``added``, ``changed``, ``removed`` and in
        all (``files``), ``replaced`` (the id of the previous index, if it was rebuilt), ``model_name``, ``manifest``
    """

    operator_extra_links = (ManifestLink(),)

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "lamini_conn_id",
        "files",
        "model_name",
        "files_conn_id",
        "manifest",
        "text_suffixes",
        "piece_size",
        "manifest_conn_id",
    )

    def __init__(
        self,
        *,
        files: str | Sequence[str],
        model_name: str,
        manifest: str,
        text_suffixes: Sequence[str] = TEXT_SUFFIXES,
        piece_size: int | str = 20_000,
        lamini_conn_id: str = "lamini_default",
        files_conn_id: str | None = None,
        manifest_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.files = files
        self.model_name = model_name
        self.manifest = manifest
        self.text_suffixes = text_suffixes
        self.piece_size = piece_size
        self.lamini_conn_id = lamini_conn_id
        self.files_conn_id = files_conn_id
        self.manifest_conn_id = manifest_conn_id

    def make_hook(self) -> LaminiHook:
        """The platform's hook."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook

        return LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))

    def work(self, task: TaskRun) -> IndexRefresh:
        """Validate the arguments, then return the refresh."""
        from airflow_provider_lamini.runs.lamini.index_refresh import IndexRefresh, RefreshRequest
        from airflow_provider_lamini.runs.lamini.memory_rag import IndexRequest

        options = self.submission_options()
        index = IndexRequest(
            files=self.files,
            model_name=plain_name("model_name", self.model_name),
            files_conn_id=optional_name("files_conn_id", self.files_conn_id),
        )
        manifest_conn_id = optional_name("manifest_conn_id", self.manifest_conn_id)
        self._check_manifest()
        request = RefreshRequest(
            index=index,
            manifest=self.manifest,
            manifest_conn_id=manifest_conn_id,
            piece_size=whole_number("piece_size", self.piece_size, minimum=200),
            text_suffixes=self._suffixes(),
        )
        return IndexRefresh(task, request, options)

    def submission_records(self, task: TaskRun) -> RecordStore:
        """The record of a build: it is in the manifest."""
        return self.work(task).records()

    def _check_manifest(self) -> None:
        from airflow_provider_lamini.corpus.index_manifest import ManifestFile
        from airflow_provider_lamini.rows.errors import RowError

        plain_name("manifest", self.manifest)
        try:
            ManifestFile.check_place(self.manifest, self.manifest_conn_id)
        except RowError as error:
            raise InvalidArgumentError(f"manifest: {error}") from error

    def _suffixes(self) -> tuple[str, ...]:
        suffixes = self.text_suffixes
        if (
            isinstance(suffixes, str)
            or not isinstance(suffixes, Sequence)
            or not all(isinstance(suffix, str) and suffix.startswith(".") for suffix in suffixes)
        ):
            raise InvalidArgumentError(
                "text_suffixes must be a list of suffixes with their dots, such as ['.txt']."
            )
        return tuple(suffix.lower() for suffix in suffixes)
