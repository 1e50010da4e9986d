"""Building a Memory RAG index over documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.operators.single import SingleJobOperator
from airflow_provider_lamini.runs.arguments import optional_name, plain_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.corpus.documents import Document
    from airflow_provider_lamini.jobs.event import EndedJob
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.outcome import Done, WaitFor


class LaminiMemoryRagBuildOperator(SingleJobOperator[dict[str, object]]):
    """Builds an index over documents and waits until it can be asked.

    The files go to the platform in one request, streamed: memory depends neither on their size nor on their number.
    Which formats the platform reads is its own matter; plain text, Markdown, HTML and PDF are usual. A retry attaches
    to the build that an earlier try has started, as long as no file has changed (told by checksums).

    To keep an index up to date, use :class:`~airflow_provider_lamini.operators.memory_rag_refresh
    .LaminiMemoryRagRefreshOperator`, which builds the first one by itself.

    The platform has no call to cancel a build, and none to delete an index.

    Endpoints: ``POST /alpha/memory-rag/train``, ``POST /alpha/memory-rag/status``, and after a bad end
    ``GET /alpha/memory-rag/training_log/{index}``.

    :param files: a path, a URI or a glob on object storage, or a list of such; a folder stands for all files in it and
        below it. Files whose names begin with a dot are left out.
    :param model_name: the model that will answer
    :param files_conn_id: the connection for the files' object storage
    :return: ``index_id``, ``model_name``, ``status`` (the platform's word), ``files`` and ``bytes`` (what was sent,
        where a record of the submission is kept)
    """

    template_fields: Sequence[str] = (
        *SingleJobOperator.template_fields,
        "files",
        "model_name",
        "files_conn_id",
    )

    def __init__(
        self, *, files: str | Sequence[str], model_name: str, files_conn_id: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.files = files
        self.model_name = model_name
        self.files_conn_id = files_conn_id
        self._documents: list[Document] = []

    @property
    def kind(self) -> JobKind:
        """See :class:`SingleJobOperator`."""
        from airflow_provider_lamini.platforms.lamini.kinds import MEMORY_RAG

        return MEMORY_RAG

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        super().check()
        plain_name("model_name", self.model_name)
        optional_name("files_conn_id", self.files_conn_id)

    def fingerprint_inputs(self) -> Mapping[str, object]:
        """See :class:`SingleJobOperator`: the model, and each file's name and checksum."""
        from airflow_provider_lamini.corpus.documents import find_documents

        self._documents = find_documents(self.files, conn_id=self.files_conn_id)
        sums = {document.name: document.stamp().sha256 for document in self._documents}
        return {"model_name": self.model_name, "files": sums}

    def submit(self, mark: str) -> str:
        """See :class:`SingleJobOperator`."""
        from airflow_provider_lamini.platforms.lamini.api import memory_rag

        del mark  # the platform has no place for one
        count, size = len(self._documents), sum(document.info.size for document in self._documents)
        self.note(numbers={"files": count, "bytes": size})
        self.log.info("Sending %d files, %d bytes.", count, size)
        parts = [document.part() for document in self._documents]
        try:
            return self.hook.send(memory_rag.train(model_name=self.model_name, files=parts)).job_id
        except OSError:
            # A file cannot be read, so the form was never complete: nothing has begun, and a retry may try again.
            self._records.forget()
            raise

    def fetch(self, job_id: str, status: EndedJob | JobStatus) -> dict[str, object]:
        """See :class:`SingleJobOperator`."""
        self.log.info("Index %s is ready.", job_id)
        return self._result(job_id, status.raw)

    def ended_badly(self, job_id: str, status: EndedJob | JobStatus) -> WaitFor | Done[dict[str, object]]:
        """See :class:`SingleJobOperator`: show how the platform's log of the build ends."""
        from airflow_provider_lamini.api.errors import PlatformError
        from airflow_provider_lamini.platforms.lamini.api import memory_rag

        try:
            lines = self.hook.send(memory_rag.training_log(job_id))
        except PlatformError as error:
            self.log.info("The platform shows no log of the build: %s", error)
        else:
            self.log.warning("The platform's log of the build ends with: %s", "; ".join(lines[-3:])[:1000])
        return super().ended_badly(job_id, status)

    def result_without_waiting(self, job_id: str) -> dict[str, object]:
        """See :class:`SingleJobOperator`."""
        return self._result(job_id, None)

    def _result(self, job_id: str, status: str | None) -> dict[str, object]:
        known = self._records.read()
        numbers = known.numbers if known else {}
        return {"index_id": job_id, "model_name": self.model_name, "status": status, **numbers}
