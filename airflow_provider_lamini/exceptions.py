"""How tasks of this provider fail.

::

    AirflowFailException                   a retry cannot help
      InvalidArgumentError                 an argument or an input is wrong; nothing was sent
      UnsupportedOperationError            this platform cannot do it; nothing was started
      ThresholdMissedError                 a model has missed a threshold of its evaluation
    AirflowException
      JobError                             a remote job did not end well
        JobFailedError                     the platform says that it failed
        JobCancelledError                  somebody cancelled it on the platform
        JobTimedOutError                   the platform stopped it
        JobLostError                       its state cannot be read any more
          KeyRefusedError                  because the platform refuses the key
      WaitTimeoutError                     this task's own time was over; the job may still run
      TaskKilledError                      the task was killed before it had submitted everything
      TooManyFailedRowsError               more rows failed than the task allows
      BudgetExceededError                  the run has used more tokens than the task allows
      AnswerError                          the platform answered, but not with what was asked for
      StorageError                         the storage of rows or records failed in a way that may pass
    ValueError
      UnreadableRecordError                the record of what the task has submitted cannot be read

Errors of the platform's API itself are in ``airflow_provider_lamini.api.errors``.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException


class InvalidArgumentError(AirflowFailException):
    """An argument or an input of the task is wrong. Nothing was sent, and no retry is made."""


class UnsupportedOperationError(AirflowFailException):
    """This installation of the platform cannot do what the task needs. Nothing was started, and no retry is made."""


class ThresholdMissedError(AirflowFailException):
    """A model has missed a threshold of its evaluation. The report says by how much; no retry is made."""


class JobError(AirflowException):
    """A remote job did not end well."""


class JobFailedError(JobError):
    """The platform says that the job failed. A retry submits the work anew."""


class JobCancelledError(JobError):
    """Somebody cancelled the job on the platform. A retry submits the work anew."""


class JobTimedOutError(JobError):
    """The platform stopped the job because it took too long."""


class JobLostError(JobError):
    """The job's state can no longer be read, for example because the platform does not know it. It may still run and bill."""


class KeyRefusedError(JobLostError):
    """The platform refuses the key with which the task waits for a job. It may still run and bill.

    The connection was read again between the polls. Once its key is right, a retry or a clear attaches to the job.
    """


class WaitTimeoutError(AirflowException):
    """The task's own ``timeout`` has passed while jobs ran. A retry attaches to them again."""


class TooManyFailedRowsError(AirflowException):
    """More rows failed than ``max_failed_rows`` allows. All rows, good and bad, are in the output folder."""


class BudgetExceededError(AirflowException):
    """The run has used ``max_total_tokens``, or no tokens are counted. What is done is kept; without a limit, it goes on."""


class AnswerError(AirflowException):
    """The platform answered, but not with what was asked for. Nothing runs there any more; a retry asks again."""


class StorageError(AirflowException):
    """Storage that worked before, or whose credentials may be renewed, has failed. A retry attaches to the jobs."""


class UnreadableRecordError(ValueError):
    """The record of what the task has submitted is damaged, or has the format of another version."""


class TaskKilledError(AirflowException):
    """The task was killed, so it submits nothing more. What it had submitted before is in its record."""
