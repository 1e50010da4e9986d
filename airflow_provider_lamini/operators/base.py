"""What all operators that wait for jobs share: running their work, and the arguments of those with one job."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_lamini.operators.lineage import recorded_lineage
from airflow_provider_lamini.operators.templates import renders_only_templates
from airflow_provider_lamini.runs.outlets import publishes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from typing import NoReturn

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.hooks.base import PlatformHook
    from airflow_provider_lamini.jobs.event import JobEvent
    from airflow_provider_lamini.runs.job_spec import SubmissionOptions
    from airflow_provider_lamini.runs.outcome import Log
    from airflow_provider_lamini.runs.submission_record import RecordStore
    from airflow_provider_lamini.runs.task import TaskRun, WaitOptions, Work

R = TypeVar("R")

DAY = 86_400.0

COLOR = "#e8f0ea"
"""The colour of this provider's tasks in Airflow 2's graph."""


class WorkOperator(Protocol[R]):
    """An operator that has its work done by `run_work`.

    It sets ``task_run`` and ``killed`` in its constructor: ``task_run = None`` and ``killed = False``.
    """

    task_run: TaskRun | None
    killed: bool
    deferrable: bool
    poll_interval: float | str
    timeout: float | str | timedelta
    cancel_on_kill: bool

    @property
    def log(self) -> Log:
        """The task's log."""
        ...

    def make_hook(self) -> PlatformHook:
        """The hook. The connection is looked up later, when the hook is used.

        :raises InvalidArgumentError: if the connection's id is wrong
        """
        ...

    def work(self, task: TaskRun) -> Work[R]:
        """Validate all other arguments, then return what is to be done.

        :param task: this try of the task
        :raises InvalidArgumentError: if an argument is wrong; nothing has been sent
        """
        ...

    def defer(self, *, trigger: Any, method_name: str) -> NoReturn:
        """Airflow's way to wait in the triggerer."""
        ...


def run_work(operator: WorkOperator[R], context: Context, event: JobEvent | None = None) -> R:
    """Do an operator's work; the body of ``execute`` and ``execute_complete``.

    :param operator: the operator, its templates rendered
    :param context: Airflow's context
    :param event: what the trigger reported; ``None`` at the start of a try
    :return: what the task returns
    :raises TaskDeferred: if the operator is deferrable and has to wait
    """
    from airflow_provider_lamini.runs.outcome import Done
    from airflow_provider_lamini.runs.shared_arguments import paths_to_text
    from airflow_provider_lamini.runs.task import TaskRun
    from airflow_provider_lamini.runs.task_errors import as_argument_errors, tell_of_jobs

    paths_to_text(operator)
    options = wait_options(operator)
    # The try began when its deadline was set; the trigger hands the deadline back.
    started_at = None if event is None else (event.task_deadline or event.deadline) - options.timeout
    with TaskRun(
        context, hook=operator.make_hook(), options=options, log=operator.log, started_at=started_at
    ) as task:
        operator.task_run = task
        task.killed = task.killed or operator.killed  # a kill may come before, or at this very moment
        with (
            recorded_lineage(operator, task) as ended,
            as_argument_errors(lambda: task.begun),
            tell_of_jobs(task, event),
        ):
            outcome = task.run(operator.work(task), event)
            ended.waits = not isinstance(outcome, Done)
            if isinstance(outcome, Done):
                ended.result = outcome.result
    if not isinstance(outcome, Done):
        operator.defer(trigger=task.trigger(outcome), method_name="execute_complete")
    return outcome.result


def resume_work(operator: WorkOperator[R], context: Context, payload: object) -> R:
    """Continue an operator's work after its trigger has fired; the body of ``execute_complete``.

    :param operator: the operator, its templates rendered
    :param context: Airflow's context
    :param payload: what the trigger yielded
    :return: what the task returns
    :raises ValueError: if that is not an event of `JobTrigger`
    """
    from airflow_provider_lamini.jobs.event import JobEvent

    return run_work(operator, context, JobEvent.from_payload(payload))


def kill_work(operator: WorkOperator[R]) -> None:
    """Submit nothing more, and cancel the jobs that run; the body of ``on_kill``.

    :param operator: the operator
    """
    operator.killed = True
    if operator.task_run is not None:
        operator.task_run.kill()


def wait_options(operator: WorkOperator[R]) -> WaitOptions:
    """Validate the arguments that say how to wait.

    :param operator: the operator, its templates rendered
    :raises InvalidArgumentError: if one is wrong
    """
    from airflow_provider_lamini.runs.task import WaitOptions

    return WaitOptions.parse(
        deferrable=operator.deferrable,
        poll_interval=operator.poll_interval,
        timeout=operator.timeout,
        cancel_on_kill=operator.cancel_on_kill,
        defer_after=conf.get("airflow_provider_lamini", "defer_after", fallback="10"),
    )


def default_deferrable(value: bool | None) -> bool:
    """An operator's ``deferrable``.

    :param value: the argument; ``None`` for Airflow's setting ``[operators] default_deferrable``
    """
    return conf.getboolean("operators", "default_deferrable", fallback=False) if value is None else value


class WaitingOperator(BaseOperator):
    """Sends a request that may be repeated without harm, so no record of it is kept, and waits for its effect.

    A concrete operator returns its platform's hook from :meth:`make_hook` and its work from :meth:`work`.

    :param deferrable: wait in the triggerer, without holding a worker slot; default: ``[operators] default_deferrable``
    :param poll_interval: maximum seconds between polls
    :param timeout: seconds, or a ``timedelta``, that one try may take in wall-clock time, deferred or not
    :param cancel_on_kill: has an effect only if the platform can cancel what was requested
    """

    template_fields: Sequence[str] = ("poll_interval", "timeout")
    ui_color = COLOR

    def __init__(
        self,
        *,
        deferrable: bool | None = None,
        poll_interval: float | str = 30.0,
        timeout: float | str | timedelta = DAY,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write task.output["status"]
        super().__init__(**kwargs)
        self.deferrable = default_deferrable(deferrable)
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self.task_run: TaskRun | None = None
        self.killed = False

    @abstractmethod
    def make_hook(self) -> PlatformHook:
        """The platform's hook. The connection is looked up later, when the hook is used.

        :raises InvalidArgumentError: if the connection's id is wrong
        """

    @abstractmethod
    def work(self, task: TaskRun) -> Work[dict[str, object]]:
        """Validate the arguments, then return what is to be done.

        :param task: this try of the task
        :raises InvalidArgumentError: if an argument is wrong; nothing has been sent
        """

    @publishes
    def execute(self, context: Context) -> dict[str, object]:
        """Request it, and wait.

        :param context: Airflow's context
        """
        return run_work(self, context)

    @publishes
    def execute_complete(self, context: Context, event: object) -> dict[str, object]:
        """Continue after the trigger has fired.

        :param context: Airflow's context
        :param event: what the trigger yielded
        """
        return resume_work(self, context, event)

    def on_kill(self) -> None:
        """Say in the log what continues. Airflow calls it when a running task is killed."""
        kill_work(self)


@renders_only_templates
class JobOperator(BaseOperator):
    """Submits one job, once, whatever happens to the task in between; waits for it and returns its result.

    A submission record says what the task has submitted, so that a retry attaches to the job: see
    ``docs/reliability.md``. A concrete operator returns its platform's hook from :meth:`make_hook` and its work,
    usually a :class:`~airflow_provider_lamini.runs.submitted_job.SubmittedJob`, from :meth:`work`.

    :param deferrable: wait in the triggerer, without holding a worker slot; default: ``[operators] default_deferrable``
    :param poll_interval: maximum seconds between polls. Recently submitted jobs are polled more often.
    :param timeout: seconds, or a ``timedelta``, that one try may take in wall-clock time, deferred or not. Afterwards the
        task fails, and a retry attaches to its job.
    :param cancel_on_kill: cancel the job when the task is killed, cleared or marked, if the platform can
    :param state_path: folder for the submission record, a path or URI; default: Airflow's task state store (3.3 and
        newer), else the connection's ``state_path``, else the platform's configured one
    :param on_changed_input: what to do if this run has already submitted a job with other arguments: ``cancel`` that job
        and submit a new one, or ``fail``
    :param on_unknown_submission: what to do if nobody can tell whether an earlier try started a job: ``fail``, or
        ``submit`` (again)
    :param force_new: submit a new job even if this run already has one. One new job is submitted for each run and each
        clear of the task; retries attach to it.
    :param wait: wait for the job and return its result; ``False`` returns the job's id right after the submission
    :param on_timeout: what to do with a job that still runs when ``timeout`` has passed: ``cancel`` it if the platform
        can and no retry follows that would attach to it, or ``leave`` it
    """

    template_fields: Sequence[str] = (
        "poll_interval",
        "timeout",
        "state_path",
        "on_changed_input",
        "on_unknown_submission",
        "force_new",
        "on_timeout",
    )
    ui_color = COLOR

    def __init__(
        self,
        *,
        deferrable: bool | None = None,
        poll_interval: float | str = 30.0,
        timeout: float | str | timedelta = DAY,
        cancel_on_kill: bool = True,
        state_path: str | None = None,
        on_changed_input: str = "cancel",
        on_unknown_submission: str = "fail",
        force_new: bool | str = False,
        wait: bool = True,
        on_timeout: str = "cancel",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write task.output["job_id"]
        super().__init__(**kwargs)
        self.deferrable = default_deferrable(deferrable)
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self.state_path = state_path
        self.on_changed_input = on_changed_input
        self.on_unknown_submission = on_unknown_submission
        self.force_new = force_new
        self.wait = wait
        self.on_timeout = on_timeout
        self.task_run: TaskRun | None = None
        self.killed = False

    @abstractmethod
    def make_hook(self) -> PlatformHook:
        """The platform's hook. The connection is looked up later, when the hook is used.

        :raises InvalidArgumentError: if the connection's id is wrong
        """

    @abstractmethod
    def work(self, task: TaskRun) -> Work[dict[str, object]]:
        """Validate the arguments, then return what is to be done.

        :param task: this try of the task
        :raises InvalidArgumentError: if an argument is wrong; nothing has been sent
        """

    @publishes
    def execute(self, context: Context) -> dict[str, object]:
        """Attach to the job or submit it, wait, and return the result.

        :param context: Airflow's context
        """
        return run_work(self, context)

    @publishes
    def execute_complete(self, context: Context, event: object) -> dict[str, object]:
        """Continue after the trigger has fired.

        :param context: Airflow's context
        :param event: what the trigger yielded
        """
        return resume_work(self, context, event)

    def on_kill(self) -> None:
        """Cancel the job, if ``cancel_on_kill`` is on. Airflow calls it when a running task is killed."""
        kill_work(self)

    def submission_records(self, task: TaskRun) -> RecordStore:
        """Where the record of the submission is.

        :param task: this try of the task
        """
        from airflow_provider_lamini.runs.submission_record import record_store

        return record_store(task, self.state_path)

    def submission_options(self) -> SubmissionOptions:
        """Validate the arguments that say how to submit.

        :raises InvalidArgumentError: if one is wrong
        """
        from airflow_provider_lamini.runs.job_spec import SubmissionOptions

        return SubmissionOptions.parse(
            state_path=self.state_path,
            on_changed_input=self.on_changed_input,
            on_unknown_submission=self.on_unknown_submission,
            force_new=self.force_new,
            wait=self.wait,
            on_timeout=self.on_timeout,
        )
