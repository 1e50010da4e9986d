"""Model downloads: jobs that fetch a model into the cache and serve it while the platform runs."""

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
    """Return where to get a model from.

    :param model_name: a name in the catalogue, the path of a GGUF file, or ``OWNER/REPO/FILE.gguf`` on the hub
    :return: None for a model in the catalogue, which knows its own source
    :raises ModelError: the name is none of these
    """
    if find(model_name) is not None:
        return None
    is_path = model_name.startswith(("/", "~", "./"))
    if not is_path and not model_name.endswith(GGUF):
        raise ModelError(
            f"Model {model_name!r} is not in the local catalogue. To serve another model, pass "
            f"OWNER/REPO/FILE{GGUF} on the hub, or the path of a {GGUF} file on the platform's machine."
        )
    return parse_source(model_name if is_path else HUB_PREFIX + model_name)


class ModelDownloads:
    """Downloads models, one at a time.

    :param models: the model cache
    :param serve: starts to serve a cached model, by name
    """

    name = "model_download"
    concurrency = 1
    time_limit = None

    def __init__(self, models: ModelStore, serve: Callable[[str], None]) -> None:
        self._models = models
        self._serve = serve

    def run(self, job: RunningJob) -> None:
        """Download the model and serve it."""
        name = str(job.job.params["model_name"])
        try:
            pulled = self._models.pull(name, source=source_of(name), progress=_JobProgress(job))
            job.check()
            self._serve(pulled.name)
        except (ModelError, EngineError) as error:
            raise JobFailed(str(error)) from None


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
