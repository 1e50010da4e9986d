"""Every kind of job can be made to end badly by a control switch, and the provider reads that end as what it is."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.api.call import FilePart
from airflow_provider_lamini.api.client import Client
from airflow_provider_lamini.api.errors import ModelLoadingError, UnavailableError
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
from airflow_provider_lamini.platforms.lamini.dialect import LAMINI_DIALECT
from airflow_provider_lamini.platforms.lamini.kinds import JOB_KINDS
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
    """The switches. All jobs are held."""
    control = Control(running.url, KEY)
    control.hold()
    yield control
    control.reset()
    control.close()


@pytest.fixture
def client(running: TunablePlatform) -> Iterator[Client]:
    """A client that waits for nothing."""
    settings = ClientSettings(
        dialect=LAMINI_DIALECT, base_url=running.url, key=KEY, retry_budget=0, model_loading_budget=0
    )
    with Client(settings) as client:
        yield client


def tuning(client: Client, _: Path) -> str:
    rows = [{"input": prompt, "output": prompt} for prompt in PROMPTS]
    made = client.send(datasets.upload(upload_base_path="local", data=rows))
    known = client.send(datasets.existing(dataset_id=made.dataset_id, upload_base_path="local"))
    call = training.train(
        model_name=BASE, dataset_id=made.dataset_id, upload_file_path=known.dataset_location
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


def test_each_kind_of_the_provider_is_looked_at_here() -> None:
    assert sorted(START) == sorted(kind.name for kind in JOB_KINDS)


@pytest.mark.parametrize("state", ["cancelled", "failed", "timed out"])
@pytest.mark.parametrize("name", START)
def test_a_job_ends_as_a_test_wants_and_the_provider_sees_it(
    client: Client, control: Control, tmp_path: Path, name: str, state: str
) -> None:
    known_as = START[name](client, tmp_path)
    kind = job_kind(name)
    assert not client.send(kind.status(known_as)).state.ended
    (job,) = control.jobs()

    assert control.end(job["id"], state, "a test wanted it")

    assert (control.jobs()[0]["state"], control.jobs()[0]["detail"]) == (state, "a test wanted it")
    if name == "lamini/batch_embeddings":  # such a batch has no state: it answers its vectors, or an error
        with pytest.raises(UnavailableError, match="a test wanted it"):
            client.send(kind.status(known_as))
        return
    found = client.send(kind.status(known_as))
    # A batch of prompts ends once each row has a reason; a download only ever fails.
    only = {"lamini/batch_completions": JobState.SUCCEEDED, "lamini/model_download": JobState.FAILED}
    assert found.state is only.get(name, JobState(state))
    if name == "lamini/batch_completions":
        reason = {"failed": "error", "timed out": "timeout"}.get(state, state)
        assert client.send(batches.completions_result(known_as)).finish_reason == [reason, reason]
    elif name != "lamini/classifier":  # the platform's answer has no place for a reason there
        assert found.detail == "a test wanted it"


@pytest.mark.parametrize("state", ["cancelled", "failed", "timed out"])
def test_a_text_that_grows_can_be_ended_too(client: Client, control: Control, state: str) -> None:
    job_id = client.send(completions.start_streaming(model_name=BASE, prompt="one"))
    control.end(job_id, state)
    reason = {"failed": "error", "timed out": "timeout"}.get(state, state)
    assert client.send(completions.streaming_result(job_id)).finish_reason == [reason]


@pytest.mark.parametrize("name", [name for name in START if name != "lamini/model_download"])
def test_a_model_that_is_loading_starts_no_job_of_any_kind(
    client: Client, control: Control, tmp_path: Path, name: str
) -> None:
    control.loading(60)
    with pytest.raises(ModelLoadingError):
        START[name](client, tmp_path)
    assert control.jobs() == []


@pytest.mark.usefixtures("control")
def test_a_model_that_is_being_fetched_is_loading(client: Client, tmp_path: Path) -> None:
    name = download(client, tmp_path)
    with pytest.raises(ModelLoadingError):
        client.send(completions.complete(model_name=name, prompt="one"))
