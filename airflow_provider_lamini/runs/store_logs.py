"""Keeping the clients of object stores quiet in a task's log."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = ("azure", "adlfs", "botocore", "aiobotocore", "s3fs", "gcsfs", "google.auth", "urllib3")
"""Loggers of the clients. Azure's logs the headers of each request at INFO: a task reads and writes hundreds of files."""


@contextmanager
def quiet_store_clients() -> Iterator[None]:
    """Let the clients log only warnings while the block runs, except those whose level somebody has set."""
    loggers = [logging.getLogger(name) for name in CLIENTS]
    quieted = [logger for logger in loggers if logger.level == logging.NOTSET]
    for logger in quieted:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger in quieted:
            logger.setLevel(logging.NOTSET)
