"""How to act on jobs: submit without waiting, wait elsewhere, resume, cancel."""

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_lamini.operators.job_control import LaminiCancelJobOperator, LaminiResumeJobOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from airflow_provider_lamini.sensors.job import LaminiJobSensor

with DAG(
    "howto_jobs",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    params={"data": "s3://company", "model": "meta-llama/Llama-3.1-8B-Instruct"},
) as dag:
    begin = LaminiTrainOperator(
        task_id="begin",
        model_name="{{ params.model }}",
        input="{{ params.data }}/labelled/*.jsonl",
        prompt="Ticket: {subject}\nCategory:",
        answer="category",
        wait=False,
    )
    trained = LaminiJobSensor(
        task_id="trained",
        job_id=begin.output["job_id"],
        deferrable=True,
        timeout=24 * 3600,
    )
    resume = LaminiResumeJobOperator(
        task_id="resume",
        job_id=begin.output["job_id"],
        output="{{ params.data }}/models/{{ run_id }}",
        deferrable=True,
    )
    cancel = LaminiCancelJobOperator(
        task_id="cancel",
        job_id=begin.output["job_id"],
        trigger_rule="one_failed",
    )
    trained >> resume >> cancel
