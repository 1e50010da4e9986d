"""A tuned model that a person promotes: the Dag waits for an answer in Airflow's UI, without a worker slot.

Every week it tunes a model on labelled tickets and compares it with its base model. If it got better, a person sees the
numbers and where the report is, and approves or rejects the model. ``ApprovalOperator`` needs Airflow 3.1 or newer
and its standard provider; without them this file defines no Dag.
"""

from datetime import timedelta
from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG, AirflowOptionalProviderFeatureException, Asset, task

from airflow_provider_lamini.operators.evaluate import LaminiEvaluateOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator

try:
    from airflow.providers.standard.operators.hitl import ApprovalOperator
except (ImportError, AirflowOptionalProviderFeatureException):
    ApprovalOperator = None

MODEL = Asset("lamini://models/approved-tickets")
QUESTION = """\
| model | exact match |
| --- | --- |
| {{ ti.xcom_pull('train')['model_name'] }} | {{ ti.xcom_pull('evaluate')['metrics']['model']['exact_match'] }} |
| {{ params.model }} | {{ ti.xcom_pull('evaluate')['metrics']['base']['exact_match'] }} |

The report, with the answers that differ: {{ ti.xcom_pull('evaluate')['report'] }}
"""

if ApprovalOperator is not None:
    with DAG(
        "promote_after_approval",
        schedule="@weekly",
        start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,  # one question at a time
        default_args={"deferrable": True, "retries": 2},
        params={
            "data": str(Path(__file__).parent / "data"),  # or s3://, gs://, abfs://
            "output": "/tmp/promote_after_approval",  # noqa: S108
            "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "max_steps": 20,
            "gain": 0.2,
        },
    ):
        row = {"prompt": "Ticket: {subject}. {body}\nCategory:", "answer": "category"}
        train = LaminiTrainOperator(
            task_id="train",
            model_name="{{ params.model }}",
            input="{{ params.data }}/tickets_examples.jsonl",
            custom_model_name="tickets-{{ run_id }}",
            finetune_args={"max_steps": "{{ params.max_steps }}", "learning_rate": 1e-3},
            **row,
        )
        evaluate = LaminiEvaluateOperator(
            task_id="evaluate",
            model_name=train.output["model_name"],
            base_model_name="{{ params.model }}",
            input="{{ params.data }}/tickets_held_out.jsonl",
            output="{{ params.output }}/{{ run_id }}",
            output_type={"category": ["billing", "login", "shipping", "defect", "feature request"]},
            min_gain={"exact_match": "{{ params.gain }}"},
            gate="skip",  # nobody is asked about a model that is not better
            **row,
        )
        approve = ApprovalOperator(
            task_id="approve",
            subject="Promote {{ ti.xcom_pull('train')['model_name'] }}?",
            body=QUESTION,
            defaults="Reject",  # if nobody answers in time
            response_timeout=timedelta(days=5),
        )

        @task(outlets=[MODEL])
        def promote(result, *, outlet_events) -> None:  # noqa: ANN001 - as Airflow calls it
            """Publish the model. Notify whatever serves it here."""
            outlet_events[MODEL].extra = {key: result[key] for key in ("model_name", "metrics", "report")}

        evaluate >> approve >> promote(evaluate.output)
