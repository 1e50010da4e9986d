"""How to classify: train a classifier, evaluate it on other rows, and use it."""

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_lamini.operators.classifier_train import LaminiClassifierTrainOperator
from airflow_provider_lamini.operators.classify import LaminiClassifyOperator
from airflow_provider_lamini.operators.evaluate_classifier import LaminiEvaluateClassifierOperator

with DAG(
    "howto_classifiers",
    schedule="@weekly",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    params={"data": "s3://company", "model": "meta-llama/Llama-3.1-8B-Instruct"},
) as dag:
    train = LaminiClassifierTrainOperator(
        task_id="train",
        project="tickets",
        model_name="{{ params.model }}",
        classes={"billing": "asks about money", "login": "cannot get into an account"},
        examples="{{ params.data }}/labelled/*.jsonl",
        prompt="{subject}",
        answer="category",
        deferrable=True,
    )
    evaluate = LaminiEvaluateClassifierOperator(
        task_id="evaluate",
        model_id=train.output["model_id"],
        input="{{ params.data }}/held-out.jsonl",
        prompt="{subject}",
        answer="category",
        thresholds={"accuracy": 0.9},
        gate="return",
    )
    classify = LaminiClassifyOperator(
        task_id="classify",
        model_id=train.output["model_id"],
        input="{{ params.data }}/new/*.jsonl",
        prompt="{subject}",
        output="{{ params.data }}/sorted/{{ run_id }}",
        passthrough=["ticket_id"],
        threshold=0.5,
    )
