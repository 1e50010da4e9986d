"""Model downloads: jobs that fetch a model into the cache and serve it while the platform runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_provider_lamini.local.engines.base import EngineError
from airflow_provider_lamini.local.jobs.runner import JobFailed
from airflow_provider_lamini.local.models.catalogue import find
from airflow_provider_lamini.local.models.files import ModelError
from airflow_provider_lamini.local.models.sources import HUB_PREFIX, parse_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.local.jobs.runner import RunningJob
    from airflow_provider_lamini.local.models.sources import ModelSource
    from airflow_provider_lamini.local.models.store import ModelStore

GGUF: Final = ".gguf"
UNUSABLE_FILE: Final = (
    "The platform cannot use this file as a model. On its machine, 'lamini-local pull' says why."
)
"""The same for each path, as clients must not learn which files exist on the platform's machine."""


def check_model_name(model_name: str) -> None:
    """Check the form of a model's name, without looking at any file.

    :param model_name: a name in the catalogue, the path of a GGUF file, or ``OWNER/REPO/FILE.gguf`` on the hub
    :raises ModelError: the name is none of these
    """
    if find(model_name) is not None:
        return
    if not model_name.endswith(GGUF):
        raise ModelError(
            f"Model {model_name!r} is not in the local catalogue. To serve another model, pass "
            f"OWNER/REPO/FILE{GGUF} on the hub, or the path of a {GGUF} file on the platform's machine."
        )
    if not _is_path(model_name):
        parse_source(HUB_PREFIX + model_name)


def _is_path(model_name: str) -> bool:
    return model_name.startswith(("/", "~", "./"))


def _source_of(model_name: str) -> ModelSource | None:
    """Return where to get a model from; None for a model in the catalogue, which knows its own source.

    :raises ModelError: it is a path that leads to no file
    """
    if find(model_name) is not None:
        return None
    if not _is_path(model_name):
        return parse_source(HUB_PREFIX + model_name)
    if not Path(model_name).expanduser().is_file():  # a device or a pipe may have no end
        raise ModelError("no such file")
    return parse_source(model_name)


class ModelDownloads:
    """Downloads models, one at a time.

    :param models: the model cache; None with an upstream engine, which has models of its own
    :param serve: starts to serve a cached model, by name; None with an upstream engine
    """

    name = "model_download"
    concurrency = 1
    time_limit = None

    def __init__(self, models: ModelStore | None, serve: Callable[[str], None] | None) -> None:
        self._models = models
        self._serve = serve

    def run(self, job: RunningJob) -> None:
        """Download the model and serve it."""
        name = str(job.job.params["model_name"])
        if self._models is None or self._serve is None:
            raise JobFailed(
                f"Model {name!r} is not served by the upstream engine of this platform: add it there."
            )
        if job.job.params["model_type"] == "embedding" and find(name) is None:
            raise JobFailed("The local platform only serves embedding models of its catalogue.")
        try:
            check_model_name(name)
            pulled = self._models.pull(name, source=_source_of(name), progress=_JobProgress(job))
            job.check()
            self._serve(pulled.name)
        except (ModelError, EngineError) as error:
            raise JobFailed(UNUSABLE_FILE if _is_path(name) else str(error)) from None


class _JobProgress:
    """Reports no progress, but stops the download when the job must end.

    :param job: the download's job
    """

    def __init__(self, job: RunningJob) -> None:
        self._job = job

    def start(self, label: str, total: int | None) -> None:  # noqa: ARG002 - the interface
        """Stop the download if the job must end."""
        self._job.check()

    def update(self, done: int) -> None:  # noqa: ARG002 - the interface
        """Stop the download if the job must end."""
        self._job.check()

    def end(self) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:  # noqa: ARG002 - the interface
        """Stop the download if the job must end."""
        self._job.check()
