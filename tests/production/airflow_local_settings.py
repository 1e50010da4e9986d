"""Cluster policy of the production trial: its Dags are killed more often than their ``retries`` expect."""

from __future__ import annotations

from datetime import timedelta


def task_policy(task):
    """Give each task many tries, without pauses between them."""
    task.retries = 50
    task.retry_delay = timedelta(seconds=1)
