"""Train a classifier on labelled support tickets, evaluate it on others, and classify new tickets if it is good enough."""

from __future__ import annotations

from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_lamini.operators.classifier_train import LaminiClassifierTrainOperator
from airflow_provider_lamini.operators.classify import LaminiClassifyOperator
from airflow_provider_lamini.operators.evaluate_classifier import LaminiEvaluateClassifierOperator

with DAG(
    "classifier_train_and_classify",
    schedule="@weekly",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    params={
        "data": str(Path(__file__).parent / "data"),  # or s3://, gs://, abfs://
        "output": "/tmp/classifier_train_and_classify",  # noqa: S108
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "accuracy": 0.8,
    },
):
    labelled = {"prompt": "{subject}: {body}", "answer": "category"}  # templates over a row's columns
    # The first run creates the project. Later runs add new examples and train the classifier again.
    train = LaminiClassifierTrainOperator(
        task_id="train",
        project="support-tickets",
        model_name="{{ params.model }}",
        classes={
            "billing": "money: a charge, an invoice, a refund, the price of a plan",
            "login": "cannot get into an account, a password, a code, proving who one is",
            "shipping": "waiting for a parcel, a wrong or incomplete delivery, another address",
            "defect": "a device or an app that is broken or does not do what it should",
            "feature request": "a wish for something that does not exist yet",
        },
        examples="{{ params.data }}/tickets_examples.jsonl",
        deferrable=True,
        **labelled,
    )
    evaluate = LaminiEvaluateClassifierOperator(
        task_id="evaluate",
        model_id=train.output["model_id"],
        input="{{ params.data }}/tickets_held_out.jsonl",
        thresholds={"accuracy": "{{ params.accuracy }}"},  # the task fails below it; set gate= to change this
        **labelled,
    )
    classify = LaminiClassifyOperator(
        task_id="classify",
        model_id=train.output["model_id"],
        input="{{ params.data }}/support_tickets.jsonl",
        output="{{ params.output }}/{{ run_id }}",
        prompt=labelled["prompt"],
        passthrough=["ticket_id", "subject"],
        threshold=0.5,  # class is null if no class is more likely than this
    )
    evaluate >> classify
