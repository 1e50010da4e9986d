"""Fixtures: a local platform with a scripted trainer, and a client that holds each response against the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.emissary_api import EmissaryClient
from tests.support.local_platform import Control
from tests.support.scripted_tuning import KEY, ScriptedTrainer, tunable_platform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.scripted_tuning import TunablePlatform

MISSING_PROJECT = {
    ("createDataset", 404),
    ("createTrainingJob", 404),
    ("listDatasets", 404),
    ("listTrainingJobs", 404),
    ("listDeployments", 404),
    ("createDeployment", 404),
}
"""The structure does not say what the response is if the project does not exist."""

CANNOT_TRAIN = {("createTrainingJob", 501)}
"""Nor does it know an installation without the packages for training."""


@pytest.fixture(scope="session")
def shared_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TunablePlatform]:
    """The platform, as the tests before left it."""
    with tunable_platform(tmp_path_factory.mktemp("emissary") / "platform", ScriptedTrainer()) as running:
        yield running


@pytest.fixture
def platform(shared_platform: TunablePlatform) -> Iterator[TunablePlatform]:
    """The platform, without anything of earlier tests."""
    shared_platform.http.post("/_control/delays", json={"reactivation": 0.05}).raise_for_status()
    yield shared_platform
    shared_platform.trainer.reset()
    shared_platform.engine.refuses = None
    shared_platform.http.post("/_control/reset").raise_for_status()


@pytest.fixture
def trainer(platform: TunablePlatform) -> ScriptedTrainer:
    return platform.trainer


@pytest.fixture
def client(platform: TunablePlatform) -> Iterator[EmissaryClient]:
    with EmissaryClient(platform.url, KEY) as connected:
        yield connected
        assert connected.undocumented <= MISSING_PROJECT | CANNOT_TRAIN


@pytest.fixture
def control(platform: TunablePlatform) -> Iterator[Control]:
    connected = Control(platform.url, KEY)
    yield connected
    connected.close()


@pytest.fixture
def project(client: EmissaryClient) -> str:
    return client.project()
