"""What a task tells those who are scheduled on its outlets: ids, URIs, model, counts and usage, as plain JSON of bounded size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.storage.uris import redacted_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.runs.lineage import TaskLineage

URIS = ("output", "manifest", "report", "scores", "predictions", "history", "report_html")
"""Fields of a result that may be the URI of a file or folder."""
WORDS = ("kind", "state", "status", "action", "name", "project", "base_model", "metric", "table")
"""Fields of a result that are a word or a name, besides those whose names end with ``_id`` or ``_name``."""
NUMBERS = (
    "checkpoint",
    "steps",
    "final_loss",
    "value",
    "passed",
    "dimensions",
    "new",
    "deleted",
    "cancelled",
)
"""Fields of a result that are a number or a flag, besides what is counted."""
MAX_TEXT = 2000
"""Maximum characters of a text; a longer one is left out."""
MAX_ITEMS = 100
"""Maximum number of job ids, and of numbers of each sort; more numbers are left out."""


def event_extra(lineage: TaskLineage, result: Mapping[str, object]) -> dict[str, Json]:
    """Return the ``extra`` of an asset event.

    It holds no key, no prompt and no answer: of the result, only fields with ids, names, URIs, scores and numbers.

    :param lineage: what the task has done
    :param result: what the task returns
    """
    extra: dict[str, Json] = dict(_named(result))
    if lineage.platform:
        extra["platform"] = lineage.platform
    if lineage.model is not None:
        extra["model"] = lineage.model[:MAX_TEXT]
    if lineage.job_ids:
        extra["job_ids"] = [job_id[:MAX_TEXT] for job_id in lineage.job_ids[-MAX_ITEMS:]]
    for name, numbers in (
        ("counts", lineage.counts),
        ("usage", lineage.usage),
        ("metrics", result.get("metrics")),
    ):
        if found := _scores(numbers):
            extra[name] = found
    return extra


def _named(result: Mapping[str, object]) -> Iterator[tuple[str, Json]]:
    on_storage = "manifest" in result or "report" in result  # otherwise ``output`` is an answer
    for name, value in result.items():
        short = isinstance(value, str) and len(value) <= MAX_TEXT
        if name in URIS and short and (on_storage or name != "output"):
            yield name, redacted_uri(str(value))
        elif name in NUMBERS and isinstance(value, bool | int | float):
            yield name, value
        elif name in WORDS or name.endswith(("_id", "_name")):
            if isinstance(value, int):
                yield name, value
            elif short:
                yield name, str(value)


def _scores(value: object) -> dict[str, Json]:
    """The numbers of a mapping of metrics, which may be grouped by model; empty if there are too many."""
    found: dict[str, Json] = {}
    for name, item in value.items() if isinstance(value, Mapping) else ():
        if isinstance(item, Mapping):
            found[str(name)] = _scores(item)
        elif isinstance(item, int | float):
            found[str(name)] = item
    sizes = [len(item) if isinstance(item, Mapping) else 1 for item in found.values()]
    short = all(len(name) <= MAX_TEXT for name in found)
    return found if short and sum(sizes) <= MAX_ITEMS else {}
