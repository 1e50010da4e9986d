"""``task`` with this provider's decorators, such as ``@task.lamini_batch_inference``: Airflow's own, with types for them."""

from airflow.providers.common.compat.sdk import task

__all__ = ["task"]
