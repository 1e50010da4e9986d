"""Tasks that work with Emissary. What they have created is found again by its name."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.support.crash.case import Case, Found, ScriptCase, World
from tests.support.crash.job_cases import ROWS as PAIRS
from tests.support.crash.job_cases import WAITING, differences
from tests.support.crash.row_cases import Direct
from tests.support.emissary_platform import LOSSES, EmissaryPlatform, Item

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.crash.zygote import Outcome
    from tests.support.scripted_platform import ScriptedPlatform

PROJECT = "/v1/projects/ms-1"


class EmissaryCase(ScriptCase):
    """A task that creates one thing."""

    task_state = True

    def scripted(self, world: World) -> ScriptedPlatform:
        return world.emissary

    def new_platform(self, world: World) -> None:
        world.emissary = EmissaryPlatform()

    def prepare(self, place: Path, world: World) -> None:
        """Create a dataset."""
        del place
        world.emissary.new("dataset", ("uploaded",))

    def created(self, world: World) -> list[Item]:
        """Return what the task may have created."""
        raise NotImplementedError

    def paid(self, place: Path, world: World) -> Counter[str]:
        del place
        return Counter({"job": len(self.created(world))})

    def unknown(self, place: Path) -> set[tuple[str, float]]:
        """The platform lists it by its name, so there is none."""
        del place
        return set()


class EmissaryUpload(EmissaryCase):
    """Uploads a dataset."""

    name = "Emissary dataset upload"
    starts = f"{PROJECT}/datasets"

    def prepare(self, place: Path, world: World) -> None:
        """Create the rows."""
        del world
        (place / "rows.jsonl").write_text("\n".join(map(json.dumps, PAIRS)) + "\n")

    def operator(self, place: Path) -> Any:
        from airflow_provider_lamini.operators.emissary.upload_dataset import EmissaryUploadDatasetOperator

        class Quick(EmissaryUploadDatasetOperator):
            list_delay = 0.05

        return Quick(task_id="upload", project_id="ms-1", input=str(place / "rows.jsonl"), **WAITING)

    def created(self, world: World) -> list[Item]:
        return list(world.emissary.datasets.values())

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        del place
        found = Found(wrong=differences(outcome, job_id="ms-1/ds-1", rows=len(PAIRS)))
        lines = world.emissary.datasets["ds-1"].fields["content"].splitlines()
        if [json.loads(line)["completion"] for line in lines] != [pair["output"] for pair in PAIRS]:
            found.lost = len(PAIRS)
        return found


class EmissaryTrain(EmissaryCase):
    """Trains a model."""

    name = "Emissary training"
    starts = f"{PROJECT}/training-jobs"

    def operator(self, place: Path) -> Any:
        from airflow_provider_lamini.operators.emissary.train import EmissaryTrainOperator

        class Quick(EmissaryTrainOperator):
            list_delay = 0.05

        return Quick(
            task_id="train",
            project_id="ms-1",
            base_model="base",
            dataset_id="ds-1",
            output=str(place / "out"),
            on_unknown_submission=self.on_unknown(place),
            **WAITING,
        )

    def created(self, world: World) -> list[Item]:
        return list(world.emissary.trainings.values())

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        found = Found(wrong=differences(outcome, status="Success", job_id="ms-1/tr-1", final_loss=1.25))
        found.lost = int(world.emissary.trainings["tr-1"].state != "Success")
        history = (place / "out" / "loss_history.jsonl").read_text().splitlines()
        if [json.loads(line) for line in history] != LOSSES:
            found.wrong.append("the loss history is wrong")
        litter = {path.name for path in (place / "out").iterdir()} - {
            "loss_history.jsonl",
            "_reserved-loss_history.json",
        }
        if litter:
            found.wrong.append(f"left behind: {sorted(litter)}")
        return found


class EmissaryDeploy(EmissaryCase):
    """Deploys a checkpoint. Without reuse, so that only the record and the name prevent a second deployment."""

    name = "Emissary deployment"
    starts = f"{PROJECT}/deployments"

    def operator(self, place: Path) -> Any:
        from airflow_provider_lamini.operators.emissary.deploy import EmissaryDeployOperator

        class Quick(EmissaryDeployOperator):
            list_delay = 0.05

        return Quick(
            task_id="deploy",
            project_id="ms-1",
            training_job_id="tr-1",
            checkpoint=100,
            reuse=False,
            on_unknown_submission=self.on_unknown(place),
            **WAITING,
        )

    def created(self, world: World) -> list[Item]:
        return list(world.emissary.deployments.values())

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        del place
        found = Found(wrong=differences(outcome, status="Deployed", job_id="ms-1/dp-1", new=True))
        found.lost = int(world.emissary.deployments["dp-1"].state != "Deployed")
        return found


class EmissaryBatch(EmissaryCase, Direct):
    """Wakes a deployment, then sends rows to it as direct requests."""

    name = "Emissary batch inference"
    starts = "/v1/completions"
    task_state = False
    paid = Direct.paid
    unknown = Direct.unknown
    found = Direct.found

    def prepare(self, place: Path, world: World) -> None:
        """Create the rows and a parked deployment."""
        Direct.prepare(self, place, world)
        world.emissary.new("deployment", ("Deactivated",), name="live")

    def operator(self, place: Path) -> Any:
        from airflow_provider_lamini.operators.emissary.batch_inference import EmissaryBatchInferenceOperator

        return EmissaryBatchInferenceOperator(**self.arguments(place), model_name="live", project_id="ms-1")

    def asked(self, world: World, model: str) -> list[str]:
        del model
        return list(world.emissary.prompts)

    def started(self, paid: Counter[str], world: World) -> Counter[str]:
        del world
        return Counter({"job": 1 + sum(max(0, times - 1) for times in paid.values())})

    def expected(self, text: str, model: str) -> object:
        del model
        return text.upper()


EMISSARY_CASES: list[Case] = [EmissaryUpload(), EmissaryTrain(), EmissaryDeploy(), EmissaryBatch()]
