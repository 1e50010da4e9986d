"""The life of one job: attach to it or submit it, wait, judge its end, return its result."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_lamini.runs.arguments import flag, folder, one_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionOptions:
    """How a task submits its job, and what it does when something is not as expected.

    :param state_path: folder for the submission record; ``None`` for the default
    :param cancel_changed: cancel a job of this run that has other arguments; else the task fails
    :param submit_unknown: submit again if nobody can tell whether a job was started; else the task fails
    :param force_new: submit a new job for each run and each clear of the task
    :param wait: wait for the job
    :param cancel_at_deadline: cancel the job when ``timeout`` has passed and no retry follows
    """

    state_path: str | None = None
    cancel_changed: bool = True
    submit_unknown: bool = False
    force_new: bool = False
    wait: bool = True
    cancel_at_deadline: bool = True

    @classmethod
    def parse(
        cls,
        *,
        state_path: str | None,
        on_changed_input: object,
        on_unknown_submission: object,
        force_new: object,
        wait: object,
        on_timeout: object,
    ) -> SubmissionOptions:
        """Validate the arguments of an operator, their templates rendered.

        :raises InvalidArgumentError: if one is wrong
        """
        return cls(
            cancel_changed=one_of("on_changed_input", on_changed_input, ("cancel", "fail")) == "cancel",
            submit_unknown=one_of("on_unknown_submission", on_unknown_submission, ("fail", "submit"))
            == "submit",
            force_new=flag("force_new", force_new),
            state_path=None if state_path is None else folder("state_path", state_path),
            cancel_at_deadline=one_of("on_timeout", on_timeout, ("cancel", "leave")) == "cancel",
            wait=flag("wait", wait),
        )
