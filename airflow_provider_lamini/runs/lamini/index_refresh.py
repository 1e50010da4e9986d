"""What an index needs to hold the same as a folder again. For tasks that run; imported by none that is parsed."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.corpus.index_manifest import Building, IndexManifest
from airflow_provider_lamini.runs.submission_record import Submission

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from airflow_provider_lamini.corpus.documents import DocumentVersion
    from airflow_provider_lamini.corpus.index_manifest import ManifestFile, RefreshOutcome

BUILT, ADDED, REBUILT, UNCHANGED = "built", "added", "rebuilt", "unchanged"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a refresh has to do.

    :param action: ``built``, ``added``, ``rebuilt`` or ``unchanged``
    :param reason: why, in a few words
    :param added: names of the files that are new
    :param changed: names of the files whose content is another
    :param removed: names of the files that are gone
    """

    action: str
    reason: str
    added: Sequence[str] = ()
    changed: Sequence[str] = ()
    removed: Sequence[str] = ()

    @property
    def builds(self) -> bool:
        """Whether an index is to be built."""
        return self.action in (BUILT, REBUILT)


def plan_refresh(
    manifest: IndexManifest | None,
    there: Mapping[str, DocumentVersion],
    *,
    platform: str,
    model_name: str,
    problem: Callable[[str], str | None],
) -> Plan:
    """Compare an index with the files that it should hold.

    :param manifest: what is in the index; ``None`` where there is none yet
    :param there: the files, by name
    :param platform: base URL of the platform that is to have the index
    :param model_name: the model that is to answer
    :param problem: says of a new file, by name, why it cannot be added to an index that is there; ``None`` where
        it can
    """
    if manifest is None or manifest.index_id is None:
        return Plan(BUILT, "there was no index", tuple(there))
    known = manifest.files
    added = [name for name in there if name not in known]
    changed = [name for name in there if name in known and not there[name].same(known[name])]
    removed = [name for name in known if name not in there]
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
    return Plan(UNCHANGED, "all files are as they were")


def _files(names: Sequence[str]) -> str:
    return f"{names[0]} is" if len(names) == 1 else f"{len(names)} files are"


class ManifestRecord:
    """The record of a build, in the manifest of the index that it is for. It belongs to all runs of a Dag.

    :param file: the manifest
    :param sends: the files that are to be sent, by name
    :param wanted: what the build is for
    :param empty: the manifest to begin with, where there is none
    """

    def __init__(self, file: ManifestFile, empty: IndexManifest) -> None:
        self._file = file
        self._empty = empty
        self.sends: dict[str, DocumentVersion] = {}
        self.wanted: RefreshOutcome | None = None

    def read(self) -> Submission | None:
        """See `RecordStore.read`."""
        building = self._file.content.building if self._file.content else None
        return None if building is None else Submission(**building.submission)

    def write(self, submission: Submission) -> None:
        """See `RecordStore.write`: the files of an intent are noted with it."""
        if self._file.content is None:
            self._file.write(self._empty)
        before = self._file.content.building if self._file.content else None
        same = before is not None and before.submission["mark"] == submission.mark
        files = before.files if before is not None and same else self.sends
        self._file.change(building=Building(files, asdict(submission)), wanted=self.wanted)

    def lock(self) -> AbstractContextManager[object]:
        """See `RecordStore.lock`: the manifest has one writer at a time, and tells the others."""
        return nullcontext()

    def forget(self) -> None:
        """See `RecordStore.forget`."""
        if self._file.content is not None and self._file.content.building is not None:
            self._file.change(building=None, wanted=None)
