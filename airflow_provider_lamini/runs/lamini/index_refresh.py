"""Refreshing a Memory RAG index so that it matches a folder again."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from airflow_provider_lamini.api.errors import (
    BadRequestError,
    DuplicateError,
    InvalidRequestError,
    JobNotFoundError,
    NotFoundError,
    PlatformError,
)
from airflow_provider_lamini.corpus.documents import content_versions, find_documents, pieces
from airflow_provider_lamini.corpus.index_manifest import IndexManifest, ManifestFile, RefreshOutcome, run_key
from airflow_provider_lamini.exceptions import JobLostError
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.platforms.lamini.api import memory_rag
from airflow_provider_lamini.platforms.lamini.kinds import MEMORY_RAG
from airflow_provider_lamini.rows.errors import OutputError
from airflow_provider_lamini.runs.job_spec import JobSpec, Prepared, SubmitAgain
from airflow_provider_lamini.runs.lamini.memory_rag import build_of, log_end_of_build
from airflow_provider_lamini.runs.lamini.refresh_plan import REBUILT, ManifestRecord, Plan, plan_refresh
from airflow_provider_lamini.runs.outcome import Done, WaitFor
from airflow_provider_lamini.runs.submitted_job import SubmittedJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_provider_lamini.corpus.documents import Document, DocumentVersion
    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.job_spec import Decision, SubmissionOptions
    from airflow_provider_lamini.runs.lamini.memory_rag import IndexRequest
    from airflow_provider_lamini.runs.submission_record import Submission
    from airflow_provider_lamini.runs.task import TaskRun


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshRequest:
    """An index that should hold the same as a folder.

    :param index: the index
    :param manifest: path or URI of the manifest
    :param manifest_conn_id: the connection for the manifest's object storage
    :param text_suffixes: new files with these suffixes, in lower case, are added as texts
    :param piece_size: characters of a text that are added at once
    """

    index: IndexRequest
    manifest: str
    manifest_conn_id: str | None
    text_suffixes: tuple[str, ...]
    piece_size: int


class RefreshBuild(JobSpec[dict[str, object]]):
    """The build within a refresh.

    :param task: this try of the task
    :param model_name: the model that will answer
    :param documents: what a new build sends
    :param versions: their checksums, by name
    :param replace_index: makes the finished index the current one, and returns the task's result
    """

    kind = MEMORY_RAG

    def __init__(
        self,
        task: TaskRun,
        model_name: str,
        documents: Sequence[Document],
        versions: Mapping[str, DocumentVersion],
        replace_index: Callable[[str], dict[str, object]],
    ) -> None:
        self._task = task
        self._model_name = model_name
        self._documents = documents
        self._versions = versions
        self._replace_index = replace_index

    def fingerprint_inputs(self) -> Mapping[str, object]:
        checksums = {name: version.sha256 for name, version in self._versions.items()}
        return {"model_name": self._model_name, "files": checksums}

    @contextmanager
    def prepare(self, mark: str) -> Iterator[Prepared]:
        del mark  # a build has no place for it
        yield build_of(self._task, self._model_name, self._documents)

    def result(
        self, job_id: str, status: EndedJob | JobStatus, submission: Submission | None
    ) -> dict[str, object]:
        del status, submission
        self._task.log.info("Index %s is ready.", job_id)
        return self._replace_index(job_id)

    def result_without_waiting(self, job_id: str, submission: Submission) -> dict[str, object]:
        del submission
        return self._replace_index(job_id)

    def on_bad_end(
        self, job_id: str, status: EndedJob | JobStatus, submission: Submission | None
    ) -> Decision:
        log_end_of_build(self._task, job_id)
        return super().on_bad_end(job_id, status, submission)


@dataclass(frozen=True, slots=True)
class _Folder:
    """The documents that the index should hold, and their checksums, by name."""

    documents: dict[str, Document]
    versions: dict[str, DocumentVersion]


class IndexRefresh:
    """Makes an index hold the same as a folder; a `Work`.

    :param task: this try of the task
    :param request: the index and the folder
    :param options: how to submit a build
    :raises OutputError: if the manifest is damaged
    """

    def __init__(self, task: TaskRun, request: RefreshRequest, options: SubmissionOptions) -> None:
        self._task = task
        self._request = request
        self._options = options
        self._run = run_key(task.identity.as_dict())
        self._platform = task.settings.base_url
        self._model_name = request.index.model_name
        self._file = ManifestFile(request.manifest, request.manifest_conn_id)

    def advance(self, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        """Compare index and folder, then build, add or wait; or judge a build that has ended.

        :param event: how a job ended; ``None`` at the start of a try
        :raises JobError: if a build did not succeed
        """
        if event is None and self._options.state_path is not None:
            self._task.log.info("state_path is not used: the record of a build is in %s.", self._file.uri)
        outcome: WaitFor | Done[dict[str, object]] | SubmitAgain = SubmitAgain()
        if event is not None and self._is_of_build(event):
            outcome = self._build().step(event)
        while isinstance(outcome, SubmitAgain):
            outcome = self._refresh()
        return outcome

    def on_deadline(self, event: JobEvent) -> str:
        """The platform cannot cancel a build.

        :param event: how the build stands
        """
        return self._build().on_deadline(event)

    def close(self) -> None:
        """Nothing is open between two steps."""

    def _is_of_build(self, event: JobEvent) -> bool:
        """Whether an event is about the recorded build, not about the index in use, whose status is read again."""
        submission = self.records().read()
        return submission is not None and submission.job_id in {*event.ended, *event.lost}

    def _refresh(self) -> WaitFor | Done[dict[str, object]] | SubmitAgain:
        folder = self._scan()
        plan = self._plan(folder)
        if not plan.builds:
            checked = self._check_index(plan)
            if isinstance(checked, WaitFor):
                return checked
            plan = checked
        self._task.log.info("Plan for the index: %s, because %s.", plan.action, plan.reason)
        if plan.builds:
            return self._build(folder, plan).step(None)
        if plan.added:
            refused = self._add(folder, plan)
            if refused is not None:
                return self._build(folder, refused).step(None)
        elif self._content.outcome is None or self._content.outcome.run != self._run:
            self._file.change(outcome=self._outcome(plan))
        return Done(self._result())

    # ---- compare -------------------------------------------------------------------------------------------

    @property
    def _content(self) -> IndexManifest:
        if self._file.content is None:
            raise OutputError(f"{self._file.uri} is gone. Do not remove it while an index is refreshed.")
        return self._file.content

    def _scan(self) -> _Folder:
        """Find the documents. Those that have not changed according to their store are not read."""
        index, request = self._request.index, self._request
        # In the same store, the manifest may be in the folder; it is not a document.
        manifest = self._file.uri if index.files_conn_id == request.manifest_conn_id else None
        documents = find_documents(index.files, conn_id=index.files_conn_id, leave_out=manifest)
        return _Folder(
            {document.name: document for document in documents}, content_versions(documents, self._file.known)
        )

    def _plan(self, folder: _Folder) -> Plan:
        plan = plan_refresh(
            self._file.content,
            folder.versions,
            platform=self._platform,
            model_name=self._model_name,
            problem=lambda name: self._problem(folder.documents[name]),
        )
        outcome = self._file.content.outcome if self._file.content else None
        request_key = self._task.identity.request_key
        unforced = outcome is None or outcome.forced_by != request_key
        if self._options.force_new and not plan.builds and unforced:
            return Plan(REBUILT, "force_new is set", plan.added)
        return plan

    def _problem(self, document: Document) -> str | None:
        """Why a new document cannot be added to an existing index."""
        if not document.name.lower().endswith(self._request.text_suffixes):
            return f"{document.name} is new and not a plain text"
        if document.text() is None:
            return f"{document.name} is new and not in UTF-8"
        return None

    def _check_index(self, plan: Plan) -> Plan | WaitFor:
        """Check that the index still exists and can be used; wait for it if it is still being built."""
        index_id = str(self._content.index_id)
        try:
            status = self._task.hook.send(MEMORY_RAG.status(index_id))
        except (JobNotFoundError, NotFoundError):
            return Plan(REBUILT, f"the platform no longer has index {index_id}", plan.added)
        if status.state is JobState.SUCCEEDED:
            return plan
        if status.state.ended:
            return Plan(REBUILT, f"index {index_id} ended as {status.raw}", plan.added)
        if not self._options.wait and not plan.added:
            return plan
        self._task.log.info("Index %s is still being built (%s); waiting for it.", index_id, status.raw)
        return WaitFor(kind=MEMORY_RAG.name, job_ids=[index_id], submitted_at=self._task.started_at)

    # ---- build ---------------------------------------------------------------------------------------------

    def records(self, folder: _Folder | None = None, plan: Plan | None = None) -> ManifestRecord:
        """The record of a build, in the manifest.

        :param folder: what a new build sends; ``None`` for a build that was submitted earlier
        :param plan: what it is for, likewise
        """
        return ManifestRecord(
            self._file,
            IndexManifest(platform=self._platform, model_name=self._model_name),
            files=folder.versions if folder else None,
            purpose=self._outcome(plan) if plan else None,
        )

    def _build(
        self, folder: _Folder | None = None, plan: Plan | None = None
    ) -> SubmittedJob[dict[str, object]]:
        """The build.

        :param folder: what a new build sends; ``None`` for a build that was submitted earlier
        :param plan: what it is for, likewise
        """
        documents, versions = (list(folder.documents.values()), folder.versions) if folder else ([], {})
        spec = RefreshBuild(self._task, self._model_name, documents, versions, self._replace_index)
        return SubmittedJob(self._task, spec, self._options, self.records(folder, plan))

    def _replace_index(self, job_id: str) -> dict[str, object]:
        """Make a finished build the current index, and return the task's result."""
        building, purpose = self._content.building, self._content.purpose
        if building is None or purpose is None or building.submission["job_id"] != job_id:
            raise JobLostError(
                f"Index {job_id} is ready, but another task has begun to refresh {self._file.uri} meanwhile. Let one task "
                "at a time refresh an index, for example with max_active_runs=1 on the Dag."
            )
        self._file.change(
            platform=self._platform,
            model_name=self._model_name,
            index_id=job_id,
            files=building.files,
            building=None,
            purpose=None,
            adding=None,
            outcome=replace(purpose, run=self._run),
        )
        return self._result()

    # ---- add -----------------------------------------------------------------------------------------------

    def _add(self, folder: _Folder, plan: Plan) -> Plan | None:
        """Add new files, one after the other. The manifest is written before and after each.

        :return: what to do instead, if the platform refuses a text
        """
        last = self._content.outcome
        count = last.added if last and last.run == self._run and last.action == plan.action else 0
        for name in plan.added:
            self._file.change(adding=name)
            if not self._send_text(folder.documents[name]):
                return Plan(REBUILT, f"the platform refuses to add {name}", plan.added)
            count += 1
            self._file.change(
                adding=None,
                files={**self._content.files, name: folder.versions[name]},
                outcome=self._outcome(plan, added=count),
            )
            self._task.log.info("Added %s to index %s.", name, self._content.index_id)
        return None

    def _send_text(self, document: Document) -> bool:
        """Add the text of a file, in pieces.

        :return: whether the platform accepts it
        :raises PlatformError: if that is not known
        """
        index_id, sent = str(self._content.index_id), False
        for piece in pieces(document.text() or "", self._request.piece_size):
            try:
                self._task.hook.send(memory_rag.add_index(prompt=piece, job_id=index_id))
            except DuplicateError:
                self._task.log.info("A text of %s is already in the index.", document.name)
            except (BadRequestError, InvalidRequestError) as error:
                self._task.log.warning(
                    "%s cannot be added, so the index is rebuilt: %s", document.name, error
                )
                return False
            except PlatformError as error:
                if not sent and not error.may_have_started:
                    self._file.change(adding=None)
                raise
            sent = True
        return True

    # ---- result --------------------------------------------------------------------------------------------

    def _outcome(self, plan: Plan, added: int | None = None) -> RefreshOutcome:
        return RefreshOutcome(
            run=self._run,
            action=plan.action,
            reason=plan.reason,
            added=len(plan.added) if added is None else added,
            changed=len(plan.changed),
            removed=len(plan.removed),
            replaced=self._file.content.index_id if self._file.content and plan.builds else None,
            forced_by=self._task.identity.request_key if self._options.force_new else None,
        )

    def _result(self) -> dict[str, object]:
        """What the task returns: the outcome of the last refresh, which is this run's."""
        content = self._content
        outcome = content.outcome
        assert outcome is not None  # noqa: S101 - it was written just before
        return {
            "index_id": content.index_id,
            "action": outcome.action,
            "reason": outcome.reason,
            "files": len(content.files),
            "added": outcome.added,
            "changed": outcome.changed,
            "removed": outcome.removed,
            "replaced": outcome.replaced,
            "model_name": content.model_name,
            "manifest": self._file.uri,
        }
