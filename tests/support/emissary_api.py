"""An HTTP client of the Emissary API that holds each response against the API's structure, and helpers that use it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import httpx

from airflow_provider_lamini.platforms.emissary.platform import EMISSARY_DIALECT
from tests.support.contract import Contract
from tests.support.local_platform import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTRACT = Contract("emissary", EMISSARY_DIALECT, ())
_PATHS = {
    (method, re.compile(re.sub(r"\{\w+\}", "[^/]+", path))): operation
    for operation, (method, path, _) in CONTRACT.operations.items()
}
ROWS = [{"input": f"question {number}", "output": f"answer {number}"} for number in range(10)]
LABELLED = [
    {"text": f"the {thing} number {number}", "label": label}
    for number in range(6)
    for thing, label in (("parcel is late", "shipping"), ("password is wrong", "login"))
]


def as_lines(rows: Iterable[dict[str, Any]]) -> str:
    """Return rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


class EmissaryClient(httpx.Client):
    """Sends the key, and checks each response.

    :param url: base URL of the local platform
    :param key: its API key
    :ivar operations: ids of the operations that were used
    :ivar undocumented: operation and status of the responses that the structure does not describe
    """

    def __init__(self, url: str, key: str) -> None:
        self.operations: set[str] = set()
        self.undocumented: set[tuple[str, int]] = set()
        super().__init__(
            base_url=f"{url}/emissary/v1",
            headers={"X-API-Key": key},
            timeout=60,
            trust_env=False,
            event_hooks={"response": [self._check]},
        )

    def _check(self, response: httpx.Response) -> None:
        response.read()
        path = response.request.url.raw_path.decode().partition("?")[0].removeprefix("/emissary")
        method = response.request.method
        matching = [
            name for (verb, pattern), name in _PATHS.items() if verb == method and pattern.fullmatch(path)
        ]
        literal = [name for name in matching if "{" not in CONTRACT.operations[name][1].rpartition("/")[2]]
        if not matching:
            return
        operation = (literal or matching)[0]
        self.operations.add(operation)
        described = CONTRACT.operations[operation][2]["responses"].get(str(response.status_code))
        if described is None:
            self.undocumented.add((operation, response.status_code))
            assert {"status", "error"} <= response.json().keys(), response.text
            return
        content = CONTRACT.resolve(described).get("content")
        if content is None:
            assert response.content == b"", response.text
        else:
            CONTRACT.validate(response.json(), content["application/json"]["schema"])

    # -- helpers

    def project(self, name: str = "support") -> str:
        """Create a project, and return its id."""
        return str(self._created("/projects", {"name": name})["id"])

    def dataset(self, project: str, rows: Iterable[dict[str, Any]] = ROWS, name: str = "rows.jsonl") -> str:
        """Upload rows as JSON Lines, and return the dataset's id."""
        files = {"file": (name, as_lines(rows))}
        response = self.post(f"/projects/{project}/datasets", files=files)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def train(self, project: str, **body: Any) -> str:
        """Start SFT, or GRPO if the body has a reward, and return the job's id."""
        path = f"/projects/{project}/training-jobs{'/grpo' if 'reward' in body else ''}"
        return str(self._created(path, body)["id"])

    def job(self, project: str, job: str) -> dict[str, Any]:
        """Return a training job."""
        found: dict[str, Any] = self._got(f"/projects/{project}/training-jobs/{job}")
        return found

    def checkpoints(self, project: str, job: str) -> list[dict[str, Any]]:
        """Return the checkpoints of a training job."""
        found: list[dict[str, Any]] = self._got(f"/projects/{project}/training-jobs/{job}/checkpoints")
        return found

    def trained(self, project: str, timeout: float = 60, **body: Any) -> str:
        """Start a training job, wait until it has succeeded, and return its id."""
        job = self.train(project, **body)
        wait_until(lambda: self.job(project, job)["status"] not in ("Pending", "Running", "Testing"), timeout)
        found = self.job(project, job)
        assert (found["status"], found["progress"]) == ("Success", 100), found
        return job

    def deploy(self, project: str, training: str, checkpoint: int, **body: Any) -> str:
        """Deploy a checkpoint or a base model, and return the deployment's id."""
        body |= {"training_job_id": training, "checkpoint": checkpoint}
        return str(self._created(f"/projects/{project}/deployments", body)["id"])

    def deployment(self, project: str, deployment: str) -> dict[str, Any]:
        """Return a deployment."""
        found: dict[str, Any] = self._got(f"/projects/{project}/deployments/{deployment}")
        return found

    def wait_for_deployment(
        self, project: str, deployment: str, status: str = "Deployed", timeout: float = 60
    ) -> None:
        """Wait until a deployment has a status."""
        wait_until(lambda: self.deployment(project, deployment)["status"] == status, timeout)

    def engine(self, **body: Any) -> str:
        """Create an engine, wait until it is active, and return its id."""
        engine = str(self._created("/engines", body)["id"])
        wait_until(lambda: self._got(f"/engines/{engine}")["status"] == "Active")
        return engine

    def _created(self, path: str, body: Any) -> dict[str, Any]:
        response = self.post(path, json=body)
        assert response.status_code == 201, response.text
        created: dict[str, Any] = response.json()
        return created

    def _got(self, path: str) -> Any:
        response = self.get(path)
        assert response.status_code == 200, response.text
        return response.json()
