"""The control endpoints can end jobs of every kind with any state, and the provider recognizes that state."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.api.call import FilePart
from airflow_provider_lamini.api.client import Client
from airflow_provider_lamini.api.errors import ModelLoadingError
from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.models.store import ModelStore
from airflow_provider_lamini.platforms import job_kind
from airflow_provider_lamini.platforms.lamini.api import (
    batches,
    classifiers,
    completions,
    datasets,
    memory_rag,
    models,
    training,
)
from airflow_provider_lamini.platforms.lamini.kinds import JOB_KINDS
from airflow_provider_lamini.platforms.lamini.platform import LAMINI_DIALECT
from tests.support.local_platform import Control
from tests.support.scripted_tuning import BASE, KEY, VECTORS, ScriptedTrainer, tunable_platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.scripted_tuning import TunablePlatform

PROMPTS = ["one", "two"]
CLASSES = {"red": "things that are red", "blue": "things that are blue"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TunablePlatform]:
    folder = tmp_path_factory.mktemp("ends")
    with tunable_platform(folder / "platform", ScriptedTrainer(), ModelStore(folder / "cache")) as platform:
        yield platform


@pytest.fixture
def control(running: TunablePlatform) -> Iterator[Control]:
    """The control endpoints. All jobs are held."""
    control = Control(running.url, KEY)
    control.hold()
    yield control
    control.reset()
    control.close()


@pytest.fixture
def client(running: TunablePlatform) -> Iterator[Client]:
    """A client that does not retry."""
    settings = ClientSettings(
        dialect=LAMINI_DIALECT, base_url=running.url, key=KEY, retry_budget=0, model_loading_budget=0
    )
    with Client(settings) as client:
        yield client


def tuning(client: Client, _: Path) -> str:
    rows = [{"input": prompt, "output": prompt} for prompt in PROMPTS]
    dataset = client.send(datasets.upload(upload_base_path="local", data=rows))
    existing = client.send(datasets.existing(dataset_id=dataset.dataset_id, upload_base_path="local"))
    call = training.train(
        model_name=BASE, dataset_id=dataset.dataset_id, upload_file_path=existing.dataset_location
    )
    return client.send(call).job_id


def index(client: Client, _: Path) -> str:
    part = FilePart("a.txt", lambda: io.BytesIO(b"A text."))
    return client.send(memory_rag.train(model_name=BASE, files=[part])).job_id


def classifier(client: Client, folder: Path) -> str:
    call = classifiers.initialize(name=f"colours-{folder.name}", model_name=VECTORS, classes=CLASSES)
    return client.send(call).job_id


def prompts(client: Client, _: Path) -> str:
    return client.send(batches.start_completions(model_name=BASE, prompt=PROMPTS))


def texts(client: Client, _: Path) -> str:
    return client.send(batches.start_embeddings(prompt=PROMPTS))


def download(client: Client, folder: Path) -> str:
    file = folder / "own.gguf"
    file.write_bytes(b"GGUF")
    return client.send(models.download(hf_model_name=str(file), model_type="transformer")).model_name


START: dict[str, Callable[[Client, Path], str]] = {
    "lamini/tuning": tuning,
    "lamini/memory_rag": index,
    "lamini/classifier": classifier,
    "lamini/batch_completions": prompts,
    "lamini/batch_embeddings": texts,
    "lamini/model_download": download,
}


def test_every_job_kind_of_the_provider_is_covered() -> None:
    assert sorted(START) == sorted(kind.name for kind in JOB_KINDS)


@pytest.mark.parametrize("state", ["cancelled", "failed", "timed out"])
@pytest.mark.parametrize("name", START)
def test_the_provider_recognizes_a_forced_end(
    client: Client, control: Control, tmp_path: Path, name: str, state: str
) -> None:
    job_id = START[name](client, tmp_path)
    kind = job_kind(name)
    assert not client.send(kind.status(job_id)).state.ended
    (job,) = control.jobs()

    assert control.end(job["id"], state, "forced by a test")

    assert (control.jobs()[0]["state"], control.jobs()[0]["detail"]) == (state, "forced by a test")
    found = client.send(kind.status(job_id))
    # A batch of prompts ends when each row has a finish reason. A download has no final state but failed.
    only = {"lamini/batch_completions": JobState.SUCCEEDED, "lamini/model_download": JobState.FAILED}
    assert found.state is only.get(name, JobState(state))
    if name == "lamini/batch_completions":
        reason = {"failed": "error", "timed out": "timeout"}.get(state, state)
        assert client.send(batches.completions_result(job_id)).finish_reason == [reason, reason]
    elif name != "lamini/classifier":  # the response has no field for a reason
        assert found.detail == "forced by a test"


@pytest.mark.parametrize("state", ["cancelled", "failed", "timed out"])
def test_a_streaming_completion_can_be_forced_to_end(client: Client, control: Control, state: str) -> None:
    job_id = client.send(completions.start_streaming(model_name=BASE, prompt="one"))
    control.end(job_id, state)
    reason = {"failed": "error", "timed out": "timeout"}.get(state, state)
    assert client.send(completions.streaming_result(job_id)).finish_reason == [reason]


@pytest.mark.parametrize("name", [name for name in START if name != "lamini/model_download"])
def test_a_loading_model_starts_no_job_of_any_kind(
    client: Client, control: Control, tmp_path: Path, name: str
) -> None:
    control.loading(60)
    with pytest.raises(ModelLoadingError):
        START[name](client, tmp_path)
    assert control.jobs() == []


@pytest.mark.usefixtures("control")
def test_a_model_that_is_being_downloaded_is_loading(client: Client, tmp_path: Path) -> None:
    name = download(client, tmp_path)
    with pytest.raises(ModelLoadingError):
        client.send(completions.complete(model_name=name, prompt="one"))
