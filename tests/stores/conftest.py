"""Object stores as Airflow's providers see them: an emulator behind a proxy, and a platform that counts what it is sent."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.races import batch_platform
from tests.support.stores.emulators import EMULATORS, quiet_environment, running
from tests.support.stores.proxy import store_proxy
from tests.support.stores.store_runs import StoreRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.races import BatchPlatform
    from tests.support.stores.emulators import Emulator
    from tests.support.stores.proxy import StoreProxy


@dataclass(frozen=True, slots=True)
class Store:
    """A running store.

    :param emulator: its emulator
    :param proxy: what the connection leads to
    """

    emulator: Emulator
    proxy: StoreProxy


@pytest.fixture(scope="session", autouse=True)
def _airflow(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__"
    os.environ |= quiet_environment() | {
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        f"{settings}DEFER_AFTER": "0",
        f"{settings}MIN_TRIGGER_SECONDS": "0",
    }


@pytest.fixture(scope="session", params=EMULATORS)
def running_store(request, tmp_path_factory) -> Iterator[Store]:
    """Each store in turn."""
    emulator = EMULATORS[request.param]
    if emulator.missing:
        pytest.skip(emulator.missing)
    folder = tmp_path_factory.mktemp("store")
    with running(emulator, folder) as running_emulator, store_proxy(running_emulator) as proxy:
        yield Store(emulator, proxy)


@pytest.fixture
def store(running_store, monkeypatch) -> Iterator[Store]:
    """A store without faults, behind an Airflow connection."""
    for name, value in running_store.emulator.environment(running_store.proxy.url).items():
        monkeypatch.setenv(name, value)
    running_store.proxy.reset()
    yield running_store
    running_store.proxy.reset()


@pytest.fixture(scope="session")
def batches() -> Iterator[BatchPlatform]:
    """A platform whose jobs end at once."""
    with batch_platform() as platform:
        yield platform


@pytest.fixture
def runs(store, batches, tmp_path, monkeypatch) -> StoreRun:
    """Runs a batch inference on the store."""
    run = StoreRun(store.emulator, store.proxy, batches, tmp_path.name)
    for name, value in run.environment().items():
        monkeypatch.setenv(name, value)
    return run
