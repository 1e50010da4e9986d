"""Dags as users write them. ``test_tuning_dags.py`` copies this file into Airflow's Dags folder."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_lamini.operators.download_model import LaminiDownloadModelOperator
from airflow_provider_lamini.operators.evaluate import LaminiEvaluateOperator
from airflow_provider_lamini.operators.evaluate_classifier import LaminiEvaluateClassifierOperator
from airflow_provider_lamini.operators.job_control import LaminiCancelJobOperator, LaminiResumeJobOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from airflow_provider_lamini.operators.upload_dataset import LaminiUploadDatasetOperator
from airflow_provider_lamini.sensors.job import LaminiJobSensor

WAITING = {"deferrable": True, "poll_interval": 0.1, "timeout": 60}
STATE = "{{ params.output }}/state"
COMMON_DAG = {
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "params": {"output": "none", "base": "none", "tuned": "none", "steps": 50},
    "default_args": {"retries": 0},
}

with DAG("tuning_weekly", schedule=None, **COMMON_DAG) as weekly:
    dataset = LaminiUploadDatasetOperator(
        task_id="upload",
        input="{{ params.output }}/tickets.jsonl",
        prompt="Sort: {subject}",
        answer="category",
        is_public="{{ False }}",
        state_path=STATE,
    )
    trained = LaminiTrainOperator(
        task_id="train",
        dataset_id=dataset.output["dataset_id"],
        model_name="{{ params.base }}",
        finetune_args={"max_steps": "{{ params.steps }}"},
        custom_model_name="tickets-{{ run_id }}",
        output="{{ params.output }}/{{ run_id }}",
        max_resumes="{{ 1 + 1 }}",
        state_path=STATE,
        **WAITING,
    )
    compared = LaminiEvaluateOperator(
        task_id="evaluate",
        lamini_conn_id="lamini_models",
        input="{{ params.output }}/held-out.jsonl",
        prompt="{subject}",
        answer="category",
        model_name="{{ params.tuned }}",
        base_model_name="{{ params.base }}",
        output="{{ params.output }}/evaluation/{{ run_id }}",
        min_gain={"exact_match": "{{ 0.1 }}"},
        gate="return",
        **WAITING,
    )

    @task.branch
    def decide(passed):
        """Promote the model only if it is better."""
        return "promote" if passed else "keep"

    @task
    def promote(tuned, result, output, ti=None):
        """Save the results of tuning."""
        content = {"tuned": tuned, "gain": result["metrics"]["gain"]}
        content["link"] = ti.xcom_pull(task_ids="train", key="airflow_provider_lamini_job_url")
        Path(output, "promoted.json").write_text(json.dumps(content))

    @task
    def keep():
        """Change nothing."""

    trained >> compared
    decide(compared.output["passed"]) >> [
        promote(trained.output, compared.output, "{{ params.output }}"),
        keep(),
    ]

with DAG(
    "tuning_without_waiting", schedule=None, **COMMON_DAG, render_template_as_native_obj=True
) as without_waiting:
    submitted = LaminiTrainOperator(
        task_id="begin",
        input="{{ [{'input': 'q', 'output': 'a'}] }}",
        model_name="{{ params.base }}",
        finetune_args="{{ {'max_steps': params.steps} }}",
        wait=False,
    )
    waited = LaminiJobSensor(
        task_id="wait", job_id=submitted.output["job_id"], deferrable=True, poke_interval=0.5, timeout=60
    )
    after = LaminiCancelJobOperator(task_id="cancel", job_id="{{ ti.xcom_pull('begin')['job_id'] }}")
    resumed = LaminiResumeJobOperator(task_id="resume", job_id=submitted.output["job_id"], **WAITING)
    downloaded = LaminiDownloadModelOperator(task_id="download", model_name="{{ params.tuned }}", **WAITING)
    judged = LaminiEvaluateClassifierOperator(
        task_id="judge",
        model_id="{{ 12 }}",
        input=[{"input": "q", "output": "a"}],
        thresholds={"accuracy": "{{ 0.5 }}"},
    )
    waited >> after >> resumed >> downloaded >> judged

with DAG("tuning_impatient", schedule=None, **COMMON_DAG) as impatient:
    LaminiTrainOperator(
        task_id="train",
        input=[{"input": "q", "output": "a"}],
        model_name="{{ params.base }}",
        deferrable=False,
        execution_timeout=timedelta(seconds=2),
    )
