"""A Dag whose trigger and whose task read the same connection."""

from __future__ import annotations

import pendulum
from airflow.providers.common.compat.sdk import DAG, BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_lamini.hooks.lamini import LaminiHook


class LookupTrigger(BaseTrigger):
    """Returns what the asynchronous lookup finds."""

    def serialize(self):
        return "lookup_dags.LookupTrigger", {}

    async def run(self):
        settings = await LaminiHook("from_database").asettings()
        yield TriggerEvent({"base_url": settings.base_url, "read_timeout": settings.read_timeout})


class LookupOperator(BaseOperator):
    """Returns it, and whether the synchronous lookup agrees."""

    def execute(self, context):  # noqa: ARG002 - Airflow's signature
        self.defer(trigger=LookupTrigger(), method_name="done")

    def done(self, context, event=None):  # noqa: ARG002 - Airflow's signature
        return {**event, "agree": LaminiHook("from_database").settings().base_url == event["base_url"]}


with DAG("lookup", start_date=pendulum.datetime(2026, 1, 1), schedule=None) as dag:
    LookupOperator(task_id="lookup")
