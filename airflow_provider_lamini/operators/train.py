"""Tuning: a model learns from a dataset."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_lamini.exceptions import InvalidArgumentError, JobFailedError
from airflow_provider_lamini.links import LaminiJobLink, push_job_url
from airflow_provider_lamini.operators.single import SingleJobOperator
from airflow_provider_lamini.operators.submit_once import OrphanSearch
from airflow_provider_lamini.runs.arguments import (
    flag,
    folder,
    json_object,
    optional_name,
    plain_name,
    whole_number,
)
from airflow_provider_lamini.runs.outcome import Done, WaitFor, task_identity
from airflow_provider_lamini.runs.submission_record import record_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.lamini.dataset_upload import DatasetUpload
    from airflow_provider_lamini.runs.submission_record import Submission


RESUMING = "resuming"
"""Among the numbers of the record: the resumption that is asked for, until it is known that it has begun."""


class LaminiTrainOperator(SingleJobOperator[dict[str, object]]):
    """Tunes a model on a dataset, waits, and returns the name of the tuned model.

    While it waits, the log shows step, loss, learning rate and the time left. A job that failed or timed out goes on
    from its checkpoint, up to ``max_resumes`` times; only then a retry trains anew. A job that was started by a try
    that died is found again: by its recorded id, else in the platform's list by dataset and ``custom_model_name``.

    Endpoint: ``POST /v1/train``; the job's state from ``GET /v1/train/jobs`` and ``GET /v1/train/jobs/{job_id}``.

    :param model_name: the base model. A tuned model cannot be tuned again.
    :param dataset_id: the dataset, as :class:`LaminiUploadDatasetOperator` returned it
    :param input: in its place, the rows: a list of mappings, or a path, URI or glob on object storage. They are
        checked and uploaded as by :class:`LaminiUploadDatasetOperator`.
    :param prompt: with ``input``: what the model is asked, the name of a column or a template over columns
    :param answer: with ``input``: what it should answer, likewise
    :param finetune_args: how to tune, such as ``{"max_steps": 200, "learning_rate": 3e-4}``; known arguments are
        checked against their bounds, unknown ones pass through, and the log names them
    :param gpu_config: ``{"gpus": 2, "nodes": 1}``; the job is queued until they are free
    :param custom_model_name: a name for the tuned model. With a ``dataset_id`` that other tasks use as well, a job
        whose submission was cut off can only be told from theirs by this name: give each run one of its own, as with
        ``{{ ts_nodash }}`` in it.
    :param train_type: ``memory_tuning`` (the platform's default), ``memory_rag`` or ``mome_mini``
    :param is_public: whether others may use the dataset
    :param max_resumes: how often a job that failed or timed out is resumed, over all tries of the task. Without a
        place for the record of the submission (see ``state_path``) it is not resumed.
    :param accept_partial: whether a job that ended as ``PARTIALLY COMPLETED`` is good enough. If not, the task fails
        and keeps the job: clear it with ``accept_partial=True`` to take its model, or ``force_new=True`` to train anew.
    :param output: a folder for ``loss_history.jsonl``, one line per step of the job. A small file shows before the
        submission whether it can be written to. With ``wait=False`` nothing is written.
    :param input_conn_id: the connection for the input's object storage
    :param output_conn_id: the connection for the output's object storage
    :return: ``job_id``, ``status``, ``model_name`` (of the tuned model), ``custom_model_name``, ``dataset_id``,
        ``steps``, ``final_loss``, ``history`` (the file), ``base_model``, ``resumes``. With ``wait=False`` only
        ``job_id`` and ``base_model``: see ``LaminiJobSensor``.
    """

    template_fields: Sequence[str] = (
        *SingleJobOperator.template_fields,
        "model_name",
        "dataset_id",
        "input",
        "prompt",
        "answer",
        "finetune_args",
        "gpu_config",
        "custom_model_name",
        "train_type",
        "is_public",
        "max_resumes",
        "accept_partial",
        "output_folder",
        "input_conn_id",
        "output_conn_id",
    )
    template_fields_renderers = {"finetune_args": "json", "gpu_config": "json", "prompt": "md"}  # noqa: RUF012 - as Airflow declares it
    operator_extra_links = (LaminiJobLink(),)

    list_delay: ClassVar[float] = 20.0
    """Seconds after which a job that was submitted just before the task died is in the platform's list at last."""

    def __init__(
        self,
        *,
        model_name: str,
        dataset_id: str | None = None,
        input: str | Sequence[Mapping[str, object]] | None = None,  # noqa: A002 - users expect it
        prompt: str = "input",
        answer: str = "output",
        finetune_args: Mapping[str, Json] | str | None = None,
        gpu_config: Mapping[str, Json] | str | None = None,
        custom_model_name: str | None = None,
        train_type: str | None = None,
        is_public: bool | str | None = None,
        max_resumes: int | str = 1,
        accept_partial: bool | str = False,
        output: str | None = None,
        input_conn_id: str | None = None,
        output_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_name = model_name
        self.dataset_id = dataset_id
        self.input = input
        self.prompt = prompt
        self.answer = answer
        self.finetune_args = finetune_args
        self.gpu_config = gpu_config
        self.custom_model_name = custom_model_name
        self.train_type = train_type
        self.is_public = is_public
        self.max_resumes = max_resumes
        self.accept_partial = accept_partial
        self.output_folder = output  # an operator's own ``output`` is its XCom
        self.input_conn_id = input_conn_id
        self.output_conn_id = output_conn_id
        self._context: Context
        self._upload: DatasetUpload | None = None

    @property
    def kind(self) -> JobKind:
        """See :class:`SingleJobOperator`."""
        from airflow_provider_lamini.platforms.lamini.kinds import TUNING

        return TUNING

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        from airflow_provider_lamini.corpus.pairs import Columns
        from airflow_provider_lamini.platforms.lamini.api import training

        super().check()
        self._resumes_allowed = whole_number("max_resumes", self.max_resumes, least=0)
        self._partial_is_good = flag("accept_partial", self.accept_partial)
        if (self.dataset_id is None) == (self.input is None):
            raise InvalidArgumentError("Give exactly one of dataset_id and input.")
        optional_name("input_conn_id", self.input_conn_id)
        optional_name("output_conn_id", self.output_conn_id)
        if self.output_folder is not None:
            folder("output", self.output_folder, self.output_conn_id)
        self._arguments: dict[str, Any] = {
            "model_name": plain_name("model_name", self.model_name),
            "finetune_args": json_object("finetune_args", self.finetune_args),
            "gpu_config": json_object("gpu_config", self.gpu_config),
            "custom_model_name": optional_name("custom_model_name", self.custom_model_name),
            "train_type": optional_name("train_type", self.train_type),
            "is_public": None if self.is_public is None else flag("is_public", self.is_public),
        }
        self._dataset_id = optional_name("dataset_id", self.dataset_id)
        try:
            training.train(**self._arguments)
            self._columns = None if self.input is None else Columns.parse(self.prompt, self.answer)
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from error

    def advance(self, context: Context, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        """Attach or submit, resume, or return; see :class:`SingleJobOperator`."""
        self._context = context
        return super().advance(context, event)

    def fingerprint_inputs(self) -> Mapping[str, object]:
        """See :class:`SingleJobOperator`."""
        dataset = self._dataset_id if self._columns is None else self._uploading().fingerprint
        return {**self._arguments, "dataset": dataset}

    def submit(self, mark: str) -> str:
        """Upload the rows where there are such, and start the job; see :class:`SingleJobOperator`."""
        from airflow_provider_lamini.platforms.lamini.api import datasets, training
        from airflow_provider_lamini.runs.arguments import check_output

        del mark  # the model's name is the user's
        if self.wait:
            check_output(self.output_folder, self.output_conn_id)
        if unknown := training.unknown_arguments(self._arguments["finetune_args"]):
            self.log.warning(
                "finetune_args has %s, which the platform's documents do not name. It is passed on: mind the spelling.",
                ", ".join(unknown),
            )
        dataset_id = self._dataset_id or self._uploading().make().dataset_id
        place = self.hook.send(datasets.upload_base_path()).upload_base_path
        known = datasets.existing(dataset_id=dataset_id, upload_base_path=place)
        call = training.train(
            dataset_id=dataset_id,
            upload_file_path=self.hook.send(known).dataset_location,
            **self._arguments,
        )
        self.note(before=list(self._alike(dataset_id)))
        return self.hook.send(call).job_id

    def find(self, submission: Submission) -> str | OrphanSearch:
        """Look for the job in the platform's list; see :class:`SingleJobOperator`."""
        dataset_id = self._dataset_id or self._uploading().known()
        if submission.before is None or dataset_id is None:
            return OrphanSearch.NOT_STARTED  # that is done before the job is started
        new = self._alike(dataset_id, but=submission.before)
        if not new:
            time.sleep(self.list_delay)
            new = self._alike(dataset_id, but=submission.before)
        if not new:
            return OrphanSearch.NOT_STARTED
        ours = [job_id for job_id, surely in new.items() if surely]
        return ours[0] if len(new) == len(ours) == 1 else OrphanSearch.UNKNOWN

    def _alike(self, dataset_id: str, but: Sequence[str] = ()) -> dict[str, bool]:
        """Jobs that may be this task's, and whether they surely are: nobody else has the dataset, or the name."""
        from airflow_provider_lamini.platforms.lamini.api import training

        name = self._arguments["custom_model_name"]
        found = {}
        for job in self.hook.send(training.list_jobs()):
            same_dataset = job.dataset_id == dataset_id
            same_name = name is None or job.custom_model_name == name
            # What the platform does not tell of a job says nothing against it.
            possible = (same_dataset or job.dataset_id is None) and (
                same_name or job.custom_model_name is None
            )
            if possible and job.job_id not in but:
                marked = name is not None or self._dataset_id is None
                found[job.job_id] = marked and same_dataset and same_name
        return found

    def _uploading(self) -> DatasetUpload:
        """The dataset of ``input``; its record is beside that of the submission."""
        from airflow_provider_lamini.runs.lamini.dataset_upload import RECORD, DatasetRequest, DatasetUpload

        if self._upload is None:
            assert self._columns is not None  # noqa: S101 - for the type checker; check() has made it
            context, state_path = self._context, self.state_path or self.hook.state_path()
            self._upload = DatasetUpload(
                DatasetRequest(
                    given=self.input,
                    columns=self._columns,
                    is_public=self._arguments["is_public"],
                    conn_id=self.input_conn_id,
                ),
                hook=self.hook,
                records=record_store(context, task_identity(context), state_path, None, RECORD),
                log=self.log,
            )
        return self._upload

    def _begin(self) -> WaitFor | Done[dict[str, object]]:
        step = super()._begin()
        known = self._records.read()
        if isinstance(step, WaitFor) and known is not None and RESUMING in known.numbers:
            # It runs, so the try before had resumed it when it died.
            self._records.write(_resumed(known))
        return step

    def publish_link(self, job_id: str) -> None:
        """See :class:`SingleJobOperator`: link the job's page to the task."""
        push_job_url(self._context, self.hook.web_job_url("tuning", job_id))

    def result_without_waiting(self, job_id: str) -> dict[str, object]:
        """See :class:`SingleJobOperator`."""
        return {"job_id": job_id, "base_model": self._arguments["model_name"]}

    def fetch(self, job_id: str, status: EndedJob | JobStatus) -> dict[str, object]:
        """See :class:`SingleJobOperator`."""
        from airflow_provider_lamini.runs.lamini.tuning import result_of

        known = self._records.read()
        result = result_of(
            self.hook,
            job_id,
            status=status.raw,
            output=self.output_folder,
            output_conn_id=self.output_conn_id,
            log=self.log,
        )
        return {
            **result,
            "base_model": self._arguments["model_name"],
            "resumes": _resumed(known).resumes if known else 0,
        }

    def ended_badly(self, job_id: str, status: EndedJob | JobStatus) -> WaitFor | Done[dict[str, object]]:
        """Resume it while that is allowed; see :class:`SingleJobOperator`."""
        from airflow_provider_lamini.jobs.state import JobState

        if status.state is JobState.PARTLY_SUCCEEDED:
            if self._partial_is_good:
                return self.fetched(job_id, status)
            raise JobFailedError(
                f"tuning job {job_id} ended as {status.raw}. Clear the task with accept_partial=True to take its model, "
                "or with force_new=True to train anew."
            )
        known = self._records.read()
        if status.state in (JobState.FAILED, JobState.TIMED_OUT) and known is not None:
            if known.resumes < self._resumes_allowed:
                return self._resume(job_id, status, known)
            times = f"It was resumed {known.resumes} time(s). " if known.resumes else ""
            self._records.forget()
            self.fail(job_id, status, f"{times}A retry trains anew.")
        return super().ended_badly(job_id, status)

    def resume_after_timeout(
        self, job_id: str, status: EndedJob | JobStatus, known: Submission
    ) -> WaitFor | Done[dict[str, object]]:
        """See :class:`SingleJobOperator`: what it has learned by then is not lost."""
        return self._resume(job_id, status, replace(known, stopped_at=None))

    def _resume(
        self, job_id: str, status: EndedJob | JobStatus, known: Submission
    ) -> WaitFor | Done[dict[str, object]]:
        from airflow_provider_lamini.api.errors import BadRequestError, InvalidRequestError
        from airflow_provider_lamini.runs.lamini.tuning import resume

        reason = f" ({status.detail})" if status.detail else ""
        count = known.resumes + 1
        self.log.warning(
            "Tuning job %s ended as %s%s; it is resumed from its checkpoint, %d of %d time(s).",
            *(job_id, status.raw, reason, count, self._resumes_allowed),
        )
        self._records.write(replace(known, numbers={**known.numbers, RESUMING: count}))
        self._waiting = self._waiting_for(job_id, known)  # a kill from here on cancels the job
        try:
            resume(self.hook, job_id, self.log)
        except (BadRequestError, InvalidRequestError) as error:
            self._records.forget()
            self.fail(job_id, status, f"It cannot be resumed: {error} A retry trains anew.")
        self._records.write(_resumed(known, count))
        return WaitFor(kind=self.kind.name, job_ids=[job_id], submitted_at=time.time())


def _resumed(known: Submission, count: int = 0) -> Submission:
    """The record once it is known that a resumption, of which perhaps only the intent is recorded, has begun."""
    numbers = {name: number for name, number in known.numbers.items() if name != RESUMING}
    return replace(known, resumes=max(known.resumes, count, known.numbers.get(RESUMING, 0)), numbers=numbers)
