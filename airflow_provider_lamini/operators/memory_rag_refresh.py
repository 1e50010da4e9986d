"""Keeping a Memory RAG index the same as a folder of documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.exceptions import InvalidArgumentError, JobLostError
from airflow_provider_lamini.operators.memory_rag_build import LaminiMemoryRagBuildOperator
from airflow_provider_lamini.runs.arguments import optional_name, plain_name, whole_number
from airflow_provider_lamini.runs.outcome import Done, WaitFor, task_identity
from airflow_provider_lamini.runs.submission_record import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.corpus.documents import Document
    from airflow_provider_lamini.corpus.index_manifest import IndexManifest, RefreshOutcome
    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.lamini.index_refresh import Plan
    from airflow_provider_lamini.runs.outcome import Log
    from airflow_provider_lamini.runs.submission_record import RecordStore

TEXT_SUFFIXES = (".txt", ".md", ".markdown", ".rst")


class LaminiMemoryRagRefreshOperator(LaminiMemoryRagBuildOperator):
    """Makes an index hold what a folder holds, with as little work as the platform allows.

    The manifest, a small file on storage, tells which files are in the index, by name and checksum. With it the task
    decides, and its result says which:

    - ``built``: there was no index, so one is built over all files;
    - ``unchanged``: nothing is sent, apart from the question whether the index is still there;
    - ``added``: only new files were found, and their texts are added to the index;
    - ``rebuilt``: files have changed or are gone, and an index over all files is built. It replaces the old one in the
      manifest once it is ready; until then the old one can be asked. So too where the platform has lost the index or
      refuses to add a text, the model or the platform is another one, or an earlier run was interrupted while it added
      a file.

    The platform adds **texts** to an index, not files, and cannot take anything out of it. So a new file is added if its
    suffix is in ``text_suffixes`` and it is UTF-8; any other new file (PDF, HTML) has the index rebuilt, because reading
    those is the platform's work. An index that was replaced stays on the platform, which has no call to delete it.

    A retry, and the next run too, attaches to a build of the same files that is under way; the record of it lies in the
    manifest. Let one task at a time refresh an index (``max_active_runs=1``); a second one is refused.

    Endpoints: those of the build, and ``POST /alpha/memory-rag/add-index``.

    :param files: as for the build: usually a folder
    :param model_name: the model that will answer
    :param manifest: path or URI of the manifest, such as ``s3://bucket/rag/handbook.json``; it is made by the first run
    :param text_suffixes: new files with these suffixes are added as texts
    :param piece_size: characters of a text that are added at once; longer ones are cut between paragraphs
    :param manifest_conn_id: the connection for the manifest's object storage
    :return: ``index_id``, ``action`` (see above), ``reason``, numbers of files ``added``, ``changed``, ``removed`` and in
        all (``files``), ``replaced`` (the id of the index before, where it was rebuilt), ``model_name``, ``manifest``
    """

    template_fields: Sequence[str] = (
        *LaminiMemoryRagBuildOperator.template_fields,
        "manifest",
        "text_suffixes",
        "piece_size",
        "manifest_conn_id",
    )

    def __init__(
        self,
        *,
        manifest: str,
        text_suffixes: Sequence[str] = TEXT_SUFFIXES,
        piece_size: int | str = 20_000,
        manifest_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest
        self.text_suffixes = text_suffixes
        self.piece_size = piece_size
        self.manifest_conn_id = manifest_conn_id

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        super().check()
        optional_name("manifest_conn_id", self.manifest_conn_id)
        self._check_manifest()
        self._piece_size = whole_number("piece_size", self.piece_size, least=200)
        suffixes = self.text_suffixes
        if (
            isinstance(suffixes, str)
            or not isinstance(suffixes, Sequence)
            or not all(isinstance(each, str) and each.startswith(".") for each in suffixes)
        ):
            raise InvalidArgumentError(
                "text_suffixes must be a list of suffixes with their dots, such as ['.txt']."
            )
        self._suffixes = tuple(each.lower() for each in suffixes)

    def _check_manifest(self) -> None:
        from airflow_provider_lamini.corpus.index_manifest import ManifestFile
        from airflow_provider_lamini.rows.errors import RowError

        plain_name("manifest", self.manifest)
        try:
            ManifestFile.check_place(self.manifest, self.manifest_conn_id)
        except RowError as error:
            raise InvalidArgumentError(f"manifest: {error}") from error

    def advance(self, context: Context, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        """Compare, then do what is needed; see :class:`JobOperator`."""
        self._run = digest(task_identity(context))
        return super().advance(context, event)

    def open_records(self, context: Context, log: Log | None) -> RecordStore:
        """See :class:`SingleJobOperator`: the record lies in the manifest."""
        from airflow_provider_lamini.corpus.index_manifest import IndexManifest, ManifestFile
        from airflow_provider_lamini.runs.lamini.index_refresh import ManifestRecord

        del context, log
        self._file = ManifestFile(self.manifest, self.manifest_conn_id)
        self._builds = ManifestRecord(
            self._file, IndexManifest(platform=self.settings.base_url, model_name=self.model_name)
        )
        return self._builds

    def accept_event(self, event: JobEvent | None) -> JobEvent | None:
        """See :class:`SingleJobOperator`: the index in use is looked at anew, only a build is judged."""
        known = self._builds.read()
        ids = set() if event is None else {*event.ended, *event.lost}
        return event if known is not None and known.job_id in ids else None

    def _begin(self) -> WaitFor | Done[dict[str, object]]:
        plan = self._plan()
        if not plan.builds:
            plan, waiting = self._checked(plan)
            if waiting is not None:
                return waiting
        self.log.info("The index is to be %s: %s.", plan.action, plan.reason)
        if plan.builds:
            return self._build(plan)
        if plan.added:
            refused = self._add(plan)
            if refused is not None:
                return self._build(refused)
        elif self._content.outcome is None or self._content.outcome.run != self._run:
            self._file.change(outcome=self._outcome(plan))
        return Done(self._told())

    def _build(self, plan: Plan) -> WaitFor | Done[dict[str, object]]:
        self._builds.wanted = self._outcome(plan)
        self._builds.sends = self._there
        return super()._begin()

    @property
    def _content(self) -> IndexManifest:
        from airflow_provider_lamini.rows.errors import OutputError

        if self._file.content is None:
            raise OutputError(f"{self._file.uri} is gone. Let nobody remove it while an index is refreshed.")
        return self._file.content

    def _plan(self) -> Plan:
        """Compare the manifest with the files. Those that their store says are the same are not read."""
        from airflow_provider_lamini.corpus.documents import find_documents, stamps
        from airflow_provider_lamini.runs.lamini.index_refresh import REBUILT, Plan, plan_refresh

        self._documents = find_documents(
            self.files, conn_id=self.files_conn_id, leave_out=self._file.uri if self._beside else None
        )
        self._there = stamps(self._documents, self._file.known)
        by_name = {document.name: document for document in self._documents}
        plan = plan_refresh(
            self._file.content,
            self._there,
            platform=self.settings.base_url,
            model_name=self.model_name,
            problem=lambda name: self._problem(by_name[name]),
        )
        outcome = self._file.content.outcome if self._file.content else None
        if self._force_new and not plan.builds and (outcome is None or outcome.forced_by != self._request):
            return Plan(REBUILT, "force_new is set", plan.added)
        return plan

    @property
    def _beside(self) -> bool:
        """Whether the manifest may lie among the documents: in the same store."""
        return self.files_conn_id == self.manifest_conn_id

    def _problem(self, document: Document) -> str | None:
        if not document.name.lower().endswith(self._suffixes):
            return f"{document.name} is new and no plain text"
        if document.text() is None:
            return f"{document.name} is new and not in UTF-8"
        return None

    def _checked(self, plan: Plan) -> tuple[Plan, WaitFor | None]:
        """Look whether the index is still there and usable."""
        from airflow_provider_lamini.api.errors import JobNotFoundError, NotFoundError
        from airflow_provider_lamini.jobs.state import JobState
        from airflow_provider_lamini.runs.lamini.index_refresh import REBUILT, Plan

        index_id = str(self._content.index_id)
        try:
            status = self.hook.send(self.kind.status(index_id))
        except (JobNotFoundError, NotFoundError):
            return Plan(REBUILT, f"the platform no longer has index {index_id}", plan.added), None
        if status.state is JobState.SUCCEEDED:
            return plan, None
        if status.state.ended:
            return Plan(REBUILT, f"index {index_id} has ended as {status.raw}", plan.added), None
        if not self.wait and not plan.added:
            return plan, None
        self.log.info("Index %s is still being built (%s).", index_id, status.raw)
        return plan, WaitFor(kind=self.kind.name, job_ids=[index_id], submitted_at=self.started_at)

    def _add(self, plan: Plan) -> Plan | None:
        """Add new files, one after the other. The manifest knows before and after each.

        :return: what to do instead, where the platform refuses a text
        """
        from airflow_provider_lamini.runs.lamini.index_refresh import REBUILT, Plan

        before = self._content.outcome
        count = before.added if before and before.run == self._run and before.action == plan.action else 0
        by_name = {document.name: document for document in self._documents}
        for name in plan.added:
            self._file.change(adding=name)
            if not self._send_text(by_name[name]):
                return Plan(REBUILT, f"the platform refuses to add {name}", plan.added)
            count += 1
            self._file.change(
                adding=None,
                files={**self._content.files, name: self._there[name]},
                outcome=self._outcome(plan, added=count),
            )
            self.log.info("Added %s to index %s.", name, self._content.index_id)
        return None

    def _send_text(self, document: Document) -> bool:
        """Add the text of a file, in pieces.

        :return: whether the platform takes it
        :raises PlatformError: where that is not known
        """
        from airflow_provider_lamini.api import errors
        from airflow_provider_lamini.corpus.text_splitter import pieces
        from airflow_provider_lamini.platforms.lamini.api import memory_rag

        index_id, sent = str(self._content.index_id), False
        for piece in pieces(document.text() or "", self._piece_size):
            try:
                self.hook.send(memory_rag.add_index(prompt=piece, job_id=index_id))
            except errors.DuplicateError:
                self.log.info("A text of %s is in the index already.", document.name)
            except (errors.BadRequestError, errors.InvalidRequestError) as error:
                self.log.warning("%s cannot be added, the index is built anew: %s", document.name, error)
                return False
            except errors.PlatformError as error:
                if not sent and not error.may_have_started:
                    self._file.change(adding=None)
                raise
            sent = True
        return True

    def fingerprint_inputs(self) -> Mapping[str, object]:
        """See :class:`SingleJobOperator`: the model, and each file's name and checksum."""
        sums = {name: stamp.sha256 for name, stamp in self._there.items()}
        return {"model_name": self.model_name, "files": sums}

    def fetch(self, job_id: str, status: EndedJob | JobStatus) -> dict[str, object]:
        """See :class:`SingleJobOperator`: the new index replaces the old one."""
        del status
        self.log.info("Index %s is ready.", job_id)
        return self.result_without_waiting(job_id)

    def result_without_waiting(self, job_id: str) -> dict[str, object]:
        """See :class:`SingleJobOperator`."""
        from msgspec.structs import replace

        building, wanted = self._content.building, self._content.wanted
        if building is None or wanted is None or building.submission["job_id"] != job_id:
            raise JobLostError(
                f"Index {job_id} is there, but another task has begun to refresh {self._file.uri} meanwhile. Let one task "
                "at a time refresh an index, as with max_active_runs=1 on the Dag."
            )
        self._file.change(
            platform=self.settings.base_url,
            model_name=self.model_name,
            index_id=job_id,
            files=building.files,
            building=None,
            wanted=None,
            adding=None,
            outcome=replace(wanted, run=self._run),
        )
        return self._told()

    def _outcome(self, plan: Plan, added: int | None = None) -> RefreshOutcome:
        from airflow_provider_lamini.corpus.index_manifest import RefreshOutcome

        return RefreshOutcome(
            run=self._run,
            action=plan.action,
            reason=plan.reason,
            added=len(plan.added) if added is None else added,
            changed=len(plan.changed),
            removed=len(plan.removed),
            replaced=self._file.content.index_id if self._file.content and plan.builds else None,
            forced_by=self._request if self._force_new else None,
        )

    def _told(self) -> dict[str, object]:
        """What the task returns: the last outcome, which is this run's."""
        content = self._content
        outcome = content.outcome
        assert outcome is not None  # noqa: S101 - written just before
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
