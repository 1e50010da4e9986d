"""Emulators of object stores, each in a process of its own, and the Airflow connections to them.

They come from package registries, two of S3 (moto, in Python, and s3rver, in Node) and Azurite for Azure; all but that of
GCS, see `gcs_server`. ``node_modules`` is beside ``package.json`` in ``.ci/stores``, after ``npm ci``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tests.support.processes import end_process, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).resolve().parents[3]
NODE_MODULES = ROOT / ".ci" / "stores" / "node_modules"
GCS_SERVER = ROOT / "tests" / "support" / "stores" / "gcs_server.py"
BUCKET = "bucket"
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that every Azurite has; it is not secret."""
START_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Emulator:
    """How to run an emulator and to reach it.

    :param name: its name in tests
    :param scheme: scheme of its URIs
    :param command: starts it, given a port and a folder for its data
    :param connection: the fields of the Airflow connection, given its address
    :param needs: a file that must exist
    :param durable: whether it keeps its objects on disk, for its next process
    """

    name: str
    scheme: str
    command: Callable[[int, Path], Sequence[str]]
    connection: Callable[[str], dict[str, object]]
    needs: Path
    durable: bool = False

    @property
    def missing(self) -> str | None:
        """Why it cannot run; ``None`` if it can."""
        if not self.needs.exists():
            return f"{self.needs} is not installed"
        if self.needs.is_relative_to(NODE_MODULES) and shutil.which("node") is None:
            return "there is no node"
        return None

    @property
    def conn_id(self) -> str:
        """The Airflow connection. Airflow keeps the file system of a connection, so each emulator has one of its own."""
        return re.sub(r"\W+", "_", f"my {self.name}").rstrip("_")

    def environment(self, url: str) -> dict[str, str]:
        """The environment in which Airflow finds the store.

        :param url: address of the emulator, or of a proxy in front of it
        """
        return {f"AIRFLOW_CONN_{self.conn_id.upper()}": json.dumps(self.connection(url))}

    def uri(self, path: str = "") -> str:
        """The URI of an object.

        :param path: its path in the bucket
        """
        return f"{self.scheme}://{self.conn_id}@{BUCKET}/{path}"


def _s3(url: str) -> dict[str, object]:
    # s3rver knows only this key.
    extra = {
        "endpoint_url": url,
        "region_name": "us-east-1",
        "config_kwargs": {"s3": {"addressing_style": "path"}},
    }
    return {"conn_type": "aws", "login": "S3RVER", "password": "S3RVER", "extra": extra}


def _azure(url: str) -> dict[str, object]:
    endpoint = f"{url}/{AZURE_ACCOUNT}"
    text = f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};BlobEndpoint={endpoint};"
    return {"conn_type": "wasb", "extra": {"connection_string": text}}


def _gcs(url: str) -> dict[str, object]:
    extra = {"project": "p", "is_anonymous": True, "gcs.endpoint": url}
    return {"conn_type": "google_cloud_platform", "extra": extra}


def _node(package: str, script: str) -> Path:
    return NODE_MODULES / package / script


_BESIDE = Path(sys.executable).parent
BIN = _BESIDE if (_BESIDE / "moto_server").exists() else ROOT / ".venv-stores" / "bin"
"""Where moto is: here, or in the environment of ``make test-stores``."""
MOTO = Emulator(
    "s3 (moto)",
    "s3",
    lambda port, _: [str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
    _s3,
    BIN / "moto_server",
)
S3RVER = Emulator(
    "s3 (s3rver)",
    "s3",
    lambda port, folder: [
        *("node", str(_node("s3rver", "bin/s3rver.js")), "-a", "127.0.0.1", "-p", str(port)),
        *("-d", str(folder), "--silent", "--configure-bucket", BUCKET),
    ],
    _s3,
    _node("s3rver", "bin/s3rver.js"),
    durable=True,
)
AZURITE = Emulator(
    "azure",
    "abfs",
    lambda port, folder: [
        *("node", str(_node("azurite", "dist/src/blob/main.js")), "--blobHost", "127.0.0.1"),
        *("--blobPort", str(port), "--location", str(folder), "--silent", "--skipApiVersionCheck"),
        *("--disableTelemetry",),
    ],
    _azure,
    _node("azurite", "dist/src/blob/main.js"),
    durable=True,
)
GCS = Emulator(
    "gcs",
    "gs",
    lambda port, _: [sys.executable, str(GCS_SERVER), str(port), BUCKET],
    _gcs,
    GCS_SERVER,
)
EMULATORS = {each.name: each for each in (MOTO, S3RVER, AZURITE, GCS)}


class RunningEmulator:
    """An emulator in a process of its own.

    :param emulator: the emulator
    :param folder: for its data and its log
    :param port: where it listens
    """

    def __init__(self, emulator: Emulator, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = emulator.command(port, folder / "data")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        path = self._folder / "emulator.log"
        with path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=self._folder,
            )
        _await(self._process, self.url, path)

    def stop(self) -> None:
        """End it. If it is durable, `start` brings its objects back."""
        if self._process is not None:
            end_process(self._process, signal.SIGTERM, 5)

    def restart(self) -> None:
        """End it and start it again; meanwhile it refuses connections."""
        self.stop()
        self.start()


@contextmanager
def running(emulator: Emulator, folder: Path) -> Iterator[RunningEmulator]:
    """Run an emulator with an empty bucket.

    :param emulator: the emulator
    :param folder: for its data and its log
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = RunningEmulator(emulator, folder, free_port())
    try:
        store.start()
        _make_bucket(emulator, store.url)
        yield store
    finally:
        store.stop()


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            with urlopen(url, timeout=5):
                return
        except HTTPError:  # it answers
            return
        except (URLError, ConnectionError, TimeoutError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{url} does not answer:\n{log.read_text()[-2000:]}") from error
        time.sleep(0.1)


def _make_bucket(emulator: Emulator, url: str) -> None:
    if emulator is MOTO:
        with urlopen(Request(f"{url}/{BUCKET}", method="PUT"), timeout=10):
            return
    if emulator is AZURITE:
        from azure.storage.blob import BlobServiceClient

        text = str(_azure(url)["extra"]["connection_string"])  # type: ignore[index]
        with BlobServiceClient.from_connection_string(text) as client:
            client.create_container(BUCKET)


def quiet_environment() -> dict[str, str]:
    """What keeps the clients of the stores from looking for other things than an emulator has.

    Those are credentials, and the kind of a bucket, for which gcsfs would wait for minutes: it asks with gRPC.
    """
    return {
        "AWS_EC2_METADATA_DISABLED": "true",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "PATH": os.environ["PATH"],
    }
