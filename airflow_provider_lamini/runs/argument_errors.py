"""Turns errors about what a user has given into errors that Airflow does not retry."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_lamini.exceptions import InvalidArgumentError, StorageError, UnsupportedOperationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def as_argument_errors(begun: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Turn errors that no retry can help into errors that Airflow does not retry.

    The new error takes the old one's cause, not the old one: its message, shown twice, would hide what happened.

    :param begun: whether the task has used its storage and may have submitted jobs. Then storage that refuses, returns a
        damaged ledger or no longer has the input is not the user's mistake, and a retry must attach to the jobs.
    :raises InvalidArgumentError: instead of a `RowError`, unless a retry may help
    :raises StorageError: instead of a `RowError` about storage that may work again
    :raises UnsupportedOperationError: instead of an `UnsupportedError` of the platform
    """
    from airflow_provider_lamini.api.errors import UnsupportedError
    from airflow_provider_lamini.rows.errors import (
        ConcurrentAccessError,
        InputMissingError,
        InputUnavailableError,
        RowError,
        StoreRefusedError,
        UnreadableLedgerError,
    )

    try:
        yield
    except ConcurrentAccessError:
        raise
    except InputUnavailableError as error:
        raise StorageError(f"{error} A retry reads it again.") from error.__cause__
    except (StoreRefusedError, UnreadableLedgerError, InputMissingError) as error:
        if begun():
            raise StorageError(
                f"{error} It worked before, so a retry may help. Jobs that were submitted may still run and bill; the retry "
                "attaches to them."
            ) from error.__cause__
        if isinstance(error, StoreRefusedError) and error.may_pass:
            raise StorageError(
                f"{error} The refusal may pass: a retry starts over. Nothing was sent."
            ) from error.__cause__
        raise InvalidArgumentError(str(error)) from error.__cause__
    except RowError as error:
        raise InvalidArgumentError(str(error)) from error.__cause__
    except UnsupportedError as error:
        raise UnsupportedOperationError(str(error)) from error.__cause__
