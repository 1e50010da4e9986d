"""The plan of an index refresh: build the index, add documents to it, rebuild it, or do nothing."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.corpus.index_manifest import Building
from airflow_provider_lamini.runs.submission_record import Submission

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from airflow_provider_lamini.corpus.documents import DocumentVersion
    from airflow_provider_lamini.corpus.index_manifest import IndexManifest, ManifestFile, RefreshOutcome

BUILT, ADDED, REBUILT, UNCHANGED = "built", "added", "rebuilt", "unchanged"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a refresh has to do.

    :param action: ``built``, ``added``, ``rebuilt`` or ``unchanged``
    :param reason: why, in a few words
    :param added: names of new files
    :param changed: names of files with another content
    :param removed: names of files that are gone
    """

    action: str
    reason: str
    added: Sequence[str] = ()
    changed: Sequence[str] = ()
    removed: Sequence[str] = ()

    @property
    def builds(self) -> bool:
        """Whether an index must be built."""
        return self.action in (BUILT, REBUILT)


def plan_refresh(
    manifest: IndexManifest | None,
    versions: Mapping[str, DocumentVersion],
    *,
    platform: str,
    model_name: str,
    problem: Callable[[str], str | None],
) -> Plan:
    """Compare an index with the files that it should hold.

    :param manifest: what the index holds; ``None`` if there is no index
    :param versions: the files in the folder, by name
    :param platform: base URL of the platform that should have the index
    :param model_name: the model that should answer
    :param problem: returns why a new file cannot be added to an existing index; ``None`` if it can
    """
    if manifest is None or manifest.index_id is None:
        return Plan(BUILT, "there was no index", tuple(versions))
    known = manifest.files
    added = [name for name in versions if name not in known]
    changed = [name for name in versions if name in known and not versions[name].same(known[name])]
    removed = [name for name in known if name not in versions]
    reasons = []
    if manifest.platform != platform:
        reasons.append("the connection leads to another platform")
    if manifest.model_name != model_name:
        reasons.append(f"the model was {manifest.model_name}")
    if manifest.adding:
        reasons.append(f"adding {manifest.adding} was interrupted")
    if changed:
        reasons.append(f"{_files(changed)} changed")
    if removed:
        reasons.append(f"{_files(removed)} gone")
    if not reasons:
        reasons += [reason for reason in map(problem, added) if reason][:1]
    if reasons:
        return Plan(REBUILT, "; ".join(reasons), added, changed, removed)
    if added:
        return Plan(ADDED, f"{_files(added)} new", added)
    return Plan(UNCHANGED, "no file has changed")


def _files(names: Sequence[str]) -> str:
    return f"{names[0]} is" if len(names) == 1 else f"{len(names)} files are"


class ManifestRecord:
    """The record of a build, in the manifest of its index. All runs of a Dag share it.

    The manifest has one writer at a time: a second one is refused, so there is no lock.

    :param file: the manifest
    :param empty: the first manifest, if there is none yet
    :param files: the files that a new build sends, by name
    :param purpose: the outcome of the refresh once a new build is ready
    """

    def __init__(
        self,
        file: ManifestFile,
        empty: IndexManifest,
        *,
        files: Mapping[str, DocumentVersion] | None = None,
        purpose: RefreshOutcome | None = None,
    ) -> None:
        self._file = file
        self._empty = empty
        self._files = files or {}
        self._purpose = purpose

    def read(self) -> Submission | None:
        building = self._file.content.building if self._file.content else None
        return None if building is None else Submission.decode(building.submission)

    def write(self, submission: Submission) -> None:
        """Replace the record. With a new submission, the files that it sends are recorded, too."""
        if self._file.content is None:
            self._file.write(self._empty)
        content = self._file.content
        building = content.building if content else None
        same = building is not None and building.submission["mark"] == submission.mark
        files = dict(building.files if building is not None and same else self._files)
        purpose = self._purpose or (content.purpose if content and same else None)
        self._file.change(building=Building(files, submission.encode()), purpose=purpose)

    def lock(self) -> AbstractContextManager[object]:
        return nullcontext()

    def forget(self) -> None:
        if self._file.content is not None and self._file.content.building is not None:
            self._file.change(building=None, purpose=None)
