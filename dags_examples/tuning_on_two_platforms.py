"""Tuning on two platforms: train the same tickets on Lamini and on Emissary, and promote the model that does better.

Both models answer the same held-out tickets, which neither has seen, and are judged by the same function. The model that
gets more of them right becomes an asset. Emissary's deployment stays only if its model is promoted.
"""

import logging
from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
from airflow_provider_lamini.operators.emissary.batch_inference import EmissaryBatchInferenceOperator
from airflow_provider_lamini.operators.emissary.choose_checkpoint import EmissaryChooseCheckpointOperator
from airflow_provider_lamini.operators.emissary.deploy import EmissaryDeployOperator
from airflow_provider_lamini.operators.emissary.project import EmissaryProjectOperator
from airflow_provider_lamini.operators.emissary.train import EmissaryTrainOperator
from airflow_provider_lamini.operators.emissary.undeploy import EmissaryUndeployOperator
from airflow_provider_lamini.operators.emissary.upload_dataset import EmissaryUploadDatasetOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator

MODEL = Asset("models://support-tickets")

with DAG(
    "tuning_on_two_platforms",
    schedule="@monthly",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"deferrable": True, "retries": 2},  # no worker slot is held, however long it takes
    params={
        "data": str(Path(__file__).parent / "data"),  # or s3://, gs://, abfs://
        "output": "/tmp/tuning_on_two_platforms",  # noqa: S108
        "project": "support-tickets",
        "lamini_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "emissary_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "max_steps": 20,  # on Lamini, of ten rows
        "epochs": 4,  # on Emissary: of 50 rows, the same 20 steps
    },
):
    question = "Ticket: {subject}. {body}\nCategory:"
    examples = "{{ params.data }}/tickets_examples.jsonl"
    output = "{{ params.output }}/{{ run_id }}"
    evaluation = {
        "input": "{{ params.data }}/tickets_held_out.jsonl",  # not used for training
        "prompt": question,
        "passthrough": ["category"],
        "max_new_tokens": 8,
    }

    lamini_train = LaminiTrainOperator(
        task_id="lamini_train",
        model_name="{{ params.lamini_model }}",
        input=examples,
        prompt=question,
        answer="category",
        custom_model_name="tickets-{{ run_id }}",
        finetune_args={"max_steps": "{{ params.max_steps }}", "learning_rate": 1e-3},
    )
    lamini_answers = LaminiBatchInferenceOperator(
        task_id="lamini_answers",
        model_name=lamini_train.output["model_name"],
        output=f"{output}/lamini",
        **evaluation,
    )

    project = EmissaryProjectOperator(task_id="project", name="{{ params.project }}")
    project_id = project.output["project_id"]
    upload = EmissaryUploadDatasetOperator(
        task_id="upload", project_id=project_id, input=examples, prompt=question, answer="category"
    )
    emissary_train = EmissaryTrainOperator(
        task_id="emissary_train",
        project_id=project_id,
        base_model="{{ params.emissary_model }}",
        dataset_id=upload.output["dataset_id"],
        parameters={"num_train_epochs": "{{ params.epochs }}", "learning_rate": 1e-3},
    )
    newest = EmissaryChooseCheckpointOperator(
        task_id="newest", project_id=project_id, training_job_id=emissary_train.output["training_job_id"]
    )
    deploy = EmissaryDeployOperator(
        task_id="deploy",
        project_id=project_id,
        training_job_id=emissary_train.output["training_job_id"],
        checkpoint=newest.output["checkpoint"],
        name="tickets-{{ run_id }}",
        inactive_timeout=900,  # without requests it is parked, and costs nothing
    )
    emissary_answers = EmissaryBatchInferenceOperator(
        task_id="emissary_answers",
        project_id=project_id,
        model_name=deploy.output["model_name"],
        output=f"{output}/emissary",
        **evaluation,
    )

    @task(outlets=[MODEL])
    def promote(lamini, emissary, models, *, outlet_events):  # noqa: ANN001, ANN201 - as Airflow calls it
        """Publish the model that got more tickets right, and return its platform."""
        from airflow_provider_lamini.results import read_outputs

        shares = {}
        for platform, manifest in (("lamini", lamini), ("emissary", emissary)):
            rows = list(read_outputs(manifest["output"]))
            right = sum(str(row["output"]).strip().lower() == row["category"] for row in rows)
            shares[platform] = right / len(rows)
        best = max(shares, key=shares.__getitem__)
        logging.getLogger("airflow.task").info("Right on held-out tickets: %s; promoting %s.", shares, best)
        outlet_events[MODEL].extra = {"platform": best, "model_name": models[best], "shares": shares}
        return best

    @task.short_circuit
    def emissary_lost(best):  # noqa: ANN001, ANN201 - as Airflow calls it
        """Whether nobody needs the deployment any more."""
        return best != "emissary"

    names = {"lamini": lamini_train.output["model_name"], "emissary": deploy.output["model_name"]}
    promoted = promote(lamini_answers.output, emissary_answers.output, names)
    undeploy = EmissaryUndeployOperator(
        task_id="undeploy", project_id=project_id, model_name=deploy.output["model_name"]
    )
    emissary_lost(promoted) >> undeploy
