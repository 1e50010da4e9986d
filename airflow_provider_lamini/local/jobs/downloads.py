"""Fetching a model into the cache and serving it, while the platform runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_lamini.local.engines.base import EngineError
from airflow_provider_lamini.local.jobs.runner import JobFailed
from airflow_provider_lamini.local.models.catalogue import find
from airflow_provider_lamini.local.models.files import ModelError
from airflow_provider_lamini.local.models.sources import HUB_PREFIX, parse_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.local.jobs.runner import RunningJob
    from airflow_provider_lamini.local.models.sources import Source
    from airflow_provider_lamini.local.models.store import ModelStore

GGUF: Final = ".gguf"


def source_of(model_name: str) -> Source | None:
    """Where a model is to be taken from.

    :param model_name: a name of the catalogue, a path to a GGUF file, or ``OWNER/REPO/FILE.gguf`` on the hub
    :returns: None for a name of the catalogue, which knows by itself
    :raises ModelError: it is none of these
    """
    if find(model_name) is not None:
        return None
    is_path = model_name.startswith(("/", "~", "./"))
    if not is_path and not model_name.endswith(GGUF):
        raise ModelError(
            f"Model {model_name!r} is not in the local catalogue. Name a file that can be served here: "
            f"OWNER/REPO/FILE{GGUF} of a hub, or the path of a {GGUF} file on the platform's machine."
        )
    return parse_source(model_name if is_path else HUB_PREFIX + model_name)


class ModelDownloads:
    """Downloads of models, one at a time.

    :param models: the cache
    :param serve: begins to serve a model that is in the cache
    """

    name = "model_download"
    concurrency = 1
    time_limit = None

    def __init__(self, models: ModelStore, serve: Callable[[str], None]) -> None:
        self._models = models
        self._serve = serve

    def run(self, job: RunningJob) -> None:
        """Fetch the model and serve it."""
        name = str(job.job.params["model_name"])
        try:
            pulled = self._models.pull(name, source=source_of(name), progress=_Steps(job))
            job.check()
            self._serve(pulled.name)
        except (ModelError, EngineError) as error:
            raise JobFailed(str(error)) from None


class _Steps:
    """Progress that nobody watches, but that lets a download be stopped.

    :param job: the job that downloads
    """

    def __init__(self, job: RunningJob) -> None:
        self._job = job

    def start(self, label: str, total: int | None) -> None:  # noqa: ARG002 - the interface
        """Begin a step."""
        self._job.check()

    def update(self, done: int) -> None:  # noqa: ARG002 - the interface
        """Go on with a step."""
        self._job.check()

    def end(self) -> None:
        """End a step."""

    def note(self, text: str) -> None:  # noqa: ARG002 - the interface
        """Pass between steps."""
        self._job.check()
