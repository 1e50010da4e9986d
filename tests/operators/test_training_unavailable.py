"""A local platform without the packages for training says so before anything is uploaded, and the task is not retried."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_lamini.exceptions import UnsupportedOperationError
from airflow_provider_lamini.operators.emissary.train import EmissaryTrainOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from airflow_provider_lamini.operators.upload_dataset import LaminiUploadDatasetOperator
from tests.support.emissary_api import EmissaryClient
from tests.support.scripted_tuning import BASE, KEY, ScriptedTrainer, tunable_platform
from tests.support.tasks import WAITING, log_lines, run_to_end

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.scripted_tuning import TunablePlatform

ROWS = [{"input": f"question {number}", "output": f"answer {number}"} for number in range(4)]
ADVICE = "Install the packages for training."


pytestmark = pytest.mark.usefixtures("connections")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TunablePlatform]:
    trainer = ScriptedTrainer()
    trainer.installed = False
    with tunable_platform(tmp_path_factory.mktemp("untrained") / "platform", trainer) as running:
        yield running


@pytest.fixture
def connections(platform: TunablePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, host in (("lamini", platform.url), ("emissary", f"{platform.url}/emissary")):
        fields = {"conn_type": name, "host": host, "password": KEY}
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}_DEFAULT", json.dumps(fields))


def arguments(tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {"task_id": "task", "state_path": str(tmp_path / "state"), **more}


def datasets(platform: TunablePlatform) -> list[Path]:
    return [path for path in (platform.data / "datasets").rglob("*.jsonl") if path.stat().st_size]


def test_a_task_that_tunes_on_rows_fails_for_good_and_uploads_nothing(platform, tmp_path):
    def train() -> LaminiTrainOperator:
        return LaminiTrainOperator(**arguments(tmp_path, model_name=BASE, input=ROWS), **WAITING)

    for _ in range(2):  # the second try finds nothing of the first one in its record
        with pytest.raises(UnsupportedOperationError) as caught:
            run_to_end(train)
        assert str(caught.value) == f"{ADVICE} Nothing was sent."
        assert isinstance(caught.value, AirflowFailException)
        assert caught.value.__cause__ is None  # else the log shows the same sentence twice
    assert datasets(platform) == []
    assert platform.http.get("/v1/train/jobs").json() == []


def test_a_dataset_alone_is_uploaded_with_a_warning(tmp_path):
    with log_lines() as lines:
        result = run_to_end(lambda: LaminiUploadDatasetOperator(**arguments(tmp_path, input=ROWS))).result
    assert f"{ADVICE} The dataset is uploaded nevertheless." in lines
    with pytest.raises(UnsupportedOperationError, match=ADVICE):
        run_to_end(
            lambda: LaminiTrainOperator(
                **arguments(tmp_path, model_name=BASE, dataset_id=result["dataset_id"]), **WAITING
            )
        )


def test_training_on_emissary_fails_for_good_and_starts_nothing(platform, tmp_path):
    with EmissaryClient(platform.url, KEY) as client:
        project = client.project()
        dataset = client.dataset(project, ROWS)
    with pytest.raises(UnsupportedOperationError) as caught:
        run_to_end(
            lambda: EmissaryTrainOperator(
                **arguments(tmp_path, project_id=project, base_model=BASE, dataset_id=dataset), **WAITING
            )
        )
    assert str(caught.value).startswith(f"{ADVICE} The platform answered POST /v1/projects/")
    assert str(caught.value).endswith("with 501 (it does not support this). Nothing was started.")
