"""Deployments and engines: they are activated in the background, fall asleep, are woken, and answer requests."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.classifiers.model import load
from airflow_provider_lamini.local.emissary.resources import Deployment, Engine, new_id
from airflow_provider_lamini.local.engines.base import Adapter, EngineError
from airflow_provider_lamini.local.errors import InvalidInputError
from airflow_provider_lamini.local.jobs.runner import JobFailed

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.classifiers.model import TrainedClassifier
    from airflow_provider_lamini.local.emissary.delays import Delays
    from airflow_provider_lamini.local.emissary.policy import ResourcePolicy
    from airflow_provider_lamini.local.emissary.resources import ResourceRepository
    from airflow_provider_lamini.local.jobs.runner import JobRunner, RunningJob
    from airflow_provider_lamini.local.jobs.store import Job, JobStore
    from airflow_provider_lamini.local.served_models import ServedModels

KIND: Final = "emissary_activation"
"""Job kind of deploying and waking, in the store and in the control endpoints."""

ADAPTER_SUFFIX: Final = ".gguf"

MAX_DEPLOYMENTS: Final = 64
"""Maximum number of live deployments, as each may load an adapter."""

ACCESS_RESOLUTION: Final = 0.1
"""Seconds between two updates of the time of the last request."""

DEPLOYED: Final = "Deployed"
DEACTIVATED: Final = "Deactivated"
REACTIVATING: Final = "Reactivating"
TERMINATED: Final = "Terminated"
CREATING: Final = "Creating"
ACTIVE: Final = "Active"
INACTIVE: Final = "Inactive"

_ENDED_WITHOUT_SUCCESS: Final = {
    JobState.FAILED: "Failed",
    JobState.CANCELLED: "Cancelled",
    JobState.TIMED_OUT: "TimedOut",
}


class Activations:
    """Runs the jobs that deploy or wake something: they load its adapter, and take as long as the request says.

    :param resources: deployments and engines
    :param served: serves the adapters
    :param folder: folder of the deployments' files
    """

    name = KIND
    concurrency = 64
    time_limit = None

    def __init__(self, resources: ResourceRepository, served: ServedModels, folder: Path) -> None:
        self._resources = resources
        self._served = served
        self._folder = folder

    def run(self, job: RunningJob) -> None:
        """Load the adapter, if there is one, and wait for the rest of the delay."""
        deployment = self._resources.find(Deployment, str(job.job.params["target"]))
        if deployment is not None and deployment.file.endswith(ADAPTER_SUFFIX):
            self._load(deployment)
        ready = job.job.created + float(str(job.job.params["seconds"]))
        while (remaining := ready - time.time()) > 0:
            job.check()
            job.sleep(min(remaining, 1.0))
        job.check()

    def _load(self, deployment: Deployment) -> None:
        if deployment.id in self._served.models():
            return
        try:
            self._served.add_adapter(deployment.id, deployment.base, self._folder / deployment.file)
        except EngineError as error:
            raise JobFailed(f"Deployment {deployment.name!r} cannot be served: {error}") from None


class Serving:
    """The deployments and engines of the platform, and their states.

    :param resources: their records
    :param store: the jobs that activate them
    :param runner: runs these jobs
    :param served: serves the adapters
    :param folder: folder of the deployments' files; created if missing
    :param delays: how long activations take
    """

    def __init__(
        self,
        resources: ResourceRepository,
        store: JobStore,
        runner: JobRunner,
        *,
        served: ServedModels,
        folder: Path,
        delays: Delays,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._resources = resources
        self._store = store
        self._runner = runner
        self._served = served
        self._folder = folder
        self._delays = delays
        self._lock = threading.Lock()  # what is checked before a change is still true afterwards

    def adapters(self) -> list[Adapter]:
        """Return the adapters of the deployments that earlier processes have activated."""
        return [
            Adapter(name=item.id, base=item.base, path=self.path(item))
            for item in self._resources.all(Deployment)
            if item.file.endswith(ADAPTER_SUFFIX)
            and not item.terminated
            and self._state(item) is JobState.SUCCEEDED
        ]

    def resume(self) -> None:
        """Submit the activations that an earlier process was about to submit when it died."""
        for deployment in self._live():
            if self._activation(deployment) is None:
                self._submit(deployment.id, self._delays.activation, deployment.activation)

    def path(self, deployment: Deployment) -> Path:
        """Return the path of a deployment's copy of its checkpoint."""
        return self._folder / deployment.file

    def classifier(self, deployment: Deployment) -> TrainedClassifier:
        """Return the classifier of a deployment."""
        return _load_classifier(self.path(deployment))

    # -- states

    def deployment_status(self, deployment: Deployment) -> str:
        """Return the status word of a deployment."""
        if deployment.terminated:
            return TERMINATED
        state = self._state(deployment)
        if state in (JobState.QUEUED, JobState.RUNNING):
            started = "Pending" if state is JobState.QUEUED else "Deploying"
            return REACTIVATING if deployment.woken else started
        if state in _ENDED_WITHOUT_SUCCESS:
            return _ENDED_WITHOUT_SUCCESS[state]
        if deployment.engine is not None:
            return self._status_on_engine(deployment.engine)
        return DEACTIVATED if self._is_asleep(deployment) else DEPLOYED

    def engine_status(self, engine: Engine) -> str:
        """Return the status word of an engine. A sleeping one stays Inactive until it is awake."""
        if self._state(engine) is not JobState.SUCCEEDED:
            return INACTIVE if engine.woken else CREATING
        return INACTIVE if engine.deactivated or self._is_asleep(engine) else ACTIVE

    def _status_on_engine(self, engine_id: str) -> str:
        engine = self._resources.find(Engine, engine_id)
        if engine is None:
            return TERMINATED
        if self.engine_status(engine) == ACTIVE:
            return DEPLOYED
        return REACTIVATING if self._is_waking(engine) else DEACTIVATED

    def _is_waking(self, target: Deployment | Engine) -> bool:
        return self._state(target) in (JobState.QUEUED, JobState.RUNNING)

    def _is_asleep(self, target: Deployment | Engine) -> bool:
        activation = self._activation(target)
        return target.policy.is_asleep(
            active_since=target.created if activation is None else activation.ended or activation.created,
            accessed=target.accessed,
            woken=target.woken,
            now=time.time(),
        )

    def _state(self, target: Deployment | Engine) -> JobState:
        activation = self._activation(target)
        return JobState.QUEUED if activation is None else activation.state

    def _activation(self, target: Deployment | Engine) -> Job | None:
        """Return the job that activates something; None if it is about to be submitted."""
        return self._store.job(target.activation, KIND)

    # -- engines

    def create_engine(self, name: str | None, base: str, task_type: str, policy: ResourcePolicy) -> Engine:
        """Create an engine, and start to activate it."""
        engine_id = new_id(Engine.prefix)
        return self._resources.add(
            Engine(
                id=engine_id,
                name=name or engine_id,
                base=base,
                task_type=task_type,
                policy=policy,
                activation=self._submit(engine_id, self._delays.activation),
                accessed=time.time(),
            )
        )

    def deactivate_engine(self, engine: Engine) -> bool:
        """Put an engine to sleep.

        :return: False if it is not active
        """
        with self._lock:
            if self.engine_status(engine) != ACTIVE:
                return False
            self._resources.change(engine, deactivated=True, updated=time.time())
        return True

    def delete_engine(self, engine: Engine) -> None:
        """Delete an engine; its deployments are terminated."""
        for deployment in self.deployments_on(engine):
            self.terminate(deployment)
        self._end_activation(engine)
        self._resources.remove(engine)

    def deployments_on(self, engine: Engine) -> list[Deployment]:
        """Return the live deployments on an engine."""
        return [item for item in self._live() if item.engine == engine.id]

    # -- deployments

    def deploy(self, deployment: Deployment, checkpoint: Path | None) -> Deployment:
        """Store a deployment, and start to activate it.

        :param deployment: the deployment, without an activation
        :param checkpoint: file of the checkpoint; None for a base model
        :raises InvalidInputError: its name is taken, or there are too many deployments
        """
        with self._lock:
            live = self._live()
            if len(live) >= MAX_DEPLOYMENTS:
                raise InvalidInputError(
                    f"The platform has {MAX_DEPLOYMENTS} deployments already: delete those that you do not need."
                )
            if deployment.name in self._served.base_models():
                raise InvalidInputError(f"name: {deployment.name!r} is the name of a base model.")
            if any(item.name == deployment.name for item in live):
                raise InvalidInputError(f"name: there is a deployment {deployment.name!r} already.")
            file = ""
            if checkpoint is not None:
                file = deployment.id + checkpoint.suffix
                shutil.copyfile(checkpoint, self._folder / file)
            stored = msgspec.structs.replace(deployment, file=file, activation=uuid.uuid4().hex)
            self._resources.add(stored)
            self._submit(stored.id, self._delays.activation, stored.activation)
        return stored

    def terminate(self, deployment: Deployment) -> None:
        """Stop serving a deployment for good. Its record remains, and its name is free."""
        self._end_activation(deployment)
        if deployment.id in self._served.models():
            self._served.remove_adapter(deployment.id)
        if deployment.file:
            self.path(deployment).unlink(missing_ok=True)
        self._resources.change(deployment, terminated=True, updated=time.time())

    def delete_deployment(self, deployment: Deployment) -> None:
        """Stop serving a deployment, and forget it."""
        self.terminate(deployment)
        self._resources.remove(deployment)

    def delete_all(self) -> None:
        """Delete all deployments and engines."""
        for deployment in self._resources.all(Deployment):
            self.delete_deployment(deployment)
        for engine in self._resources.all(Engine):
            self.delete_engine(engine)

    def _live(self) -> list[Deployment]:
        return [item for item in self._resources.all(Deployment) if not item.terminated]

    # -- waking

    def wake(self, target: Deployment | Engine) -> bool:
        """Start to wake a sleeping deployment, or the engine that it runs on, or an engine.

        :return: False if it does not sleep
        """
        with self._lock:
            if isinstance(target, Deployment):
                if self.deployment_status(target) != DEACTIVATED:
                    return False
                if target.engine is not None:
                    target = self._resources.get(Engine, target.engine)
            elif self.engine_status(target) != INACTIVE or self._is_waking(target):
                return False
            activation = self._submit(target.id, self._delays.reactivation)
            self._resources.change(target, activation=activation, woken=True, updated=time.time())
            if isinstance(target, Engine):
                self._resources.change(target, deactivated=False)
            self._store.delete(target.activation)
        return True

    def ready_deployment(self, name: str) -> Deployment | None:
        """Return the deployment that answers requests to a name, and note the request.

        :param name: a deployment's name
        :return: None if no deployment has this name
        :raises InvalidInputError: it cannot answer now; one that sleeps is being woken
        """
        found = next((item for item in self._live() if item.name == name), None)
        if found is None:
            return None
        status = self.deployment_status(found)
        if status == DEACTIVATED:
            self.wake(found)
            raise InvalidInputError(
                f"Deployment {name!r} was {DEACTIVATED} and is being reactivated by this request: send it again when "
                f"it is {DEPLOYED}."
            )
        if status != DEPLOYED:
            raise InvalidInputError(f"Deployment {name!r} is {status}: it cannot answer requests.")
        self._note_access(found)
        if found.engine is not None:
            self._note_access(self._resources.get(Engine, found.engine))
        return found

    def _note_access(self, target: Deployment | Engine) -> None:
        now = time.time()
        if now - target.accessed >= ACCESS_RESOLUTION:
            self._resources.change(target, accessed=now)

    # -- activations

    def _submit(self, target_id: str, seconds: float, job_id: str | None = None) -> str:
        params: dict[str, Json] = {"target": target_id, "seconds": seconds}
        return self._runner.submit(KIND, params, job_id=job_id).id

    def _end_activation(self, target: Deployment | Engine) -> None:
        self._runner.end(target.activation, JobState.CANCELLED)
        self._store.delete(target.activation)


@lru_cache(16)
def _load_classifier(path: Path) -> TrainedClassifier:
    return load(path.read_bytes())
