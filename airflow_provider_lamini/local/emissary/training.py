"""Runs training jobs: splits the rows, trains, keeps the checkpoints, and tests them with the test functions."""

from __future__ import annotations

import json
import logging
import random
import shutil
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.classifiers.model import dump
from airflow_provider_lamini.local.classifiers.training import train_classifier, training_texts
from airflow_provider_lamini.local.emissary.resources import Checkpoint, LossRecord, StoredDataset, new_id
from airflow_provider_lamini.local.emissary.training_spec import (
    RewardParameters,
    TextParameters,
    TrainingSpec,
    step_plan,
)
from airflow_provider_lamini.local.engines.base import EngineError
from airflow_provider_lamini.local.errors import ApiError
from airflow_provider_lamini.local.jobs.runner import JobFailed
from airflow_provider_lamini.local.test_functions import mean_scores
from airflow_provider_lamini.local.tuning.runner import SEED, TIME_LIMIT, train_adapter
from airflow_provider_lamini.local.tuning.sampling import MAX_ROWS, sample_rows
from airflow_provider_lamini.local.tuning.trainer import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_lamini.local.classifiers.training import CachedFeatures
    from airflow_provider_lamini.local.datasets.repository import DatasetRepository
    from airflow_provider_lamini.local.emissary.evaluation import CheckpointTester, Row
    from airflow_provider_lamini.local.emissary.resources import ResourceRepository
    from airflow_provider_lamini.local.jobs.runner import RunningJob
    from airflow_provider_lamini.local.jobs.store import Job
    from airflow_provider_lamini.local.served_models import ServedModels
    from airflow_provider_lamini.local.tuning.runner import Trainer, TrainingSlot
    from airflow_provider_lamini.local.tuning.trainer import Step

KIND: Final = "emissary_training"
"""Job kind of training, in the store and in the control endpoints."""

SAVE_EVERY: Final = 10
"""Steps after which an interrupted training can be resumed at most."""

MAX_TEST_ROWS: Final = 100
"""Maximum number of rows that a checkpoint is tested on."""

NAME_WEIGHT: Final = 0.5
"""Number of examples that the name of a label counts as."""

MIN_LABELS: Final = 2

PENDING: Final = "Pending"
RUNNING: Final = "Running"
TESTING: Final = "Testing"

_STATUS_WORDS: Final = {
    JobState.QUEUED: PENDING,
    JobState.SUCCEEDED: "Success",
    JobState.PARTLY_SUCCEEDED: "Success",
    JobState.FAILED: "Failed",
    JobState.CANCELLED: "Cancelled",
    JobState.TIMED_OUT: "TimedOut",
}

TRAINING_PERCENT: Final = 90
"""Progress of a job whose training is complete and whose checkpoints are not tested yet."""

logger = logging.getLogger(__name__)


class TrainingJobs:
    """Runs training jobs one at a time. An interrupted job resumes from its last saved step.

    :param folder: folder of rows and checkpoints; created if missing
    :param resources: checkpoints and loss curves
    :param datasets: the rows
    :param served: serves base models
    :param trainer: trains adapters
    :param slot: held while an adapter is trained
    :param vectors: computes feature vectors for classifiers
    :param tester: tests checkpoints
    """

    name = KIND
    concurrency = 1
    time_limit = TIME_LIMIT

    def __init__(
        self,
        folder: Path,
        resources: ResourceRepository,
        *,
        datasets: DatasetRepository,
        served: ServedModels,
        trainer: Trainer,
        slot: TrainingSlot,
        vectors: CachedFeatures,
        tester: CheckpointTester,
    ) -> None:
        self._jobs = folder / "jobs"
        self._checkpoints = folder / "checkpoints"
        for subfolder in (self._jobs, self._checkpoints):
            subfolder.mkdir(parents=True, exist_ok=True)
        self._resources = resources
        self._datasets = datasets
        self._served = served
        self._trainer = trainer
        self._slot = slot
        self._vectors = vectors
        self._tester = tester
        self._phases: dict[str, str] = {}
        self._percents: dict[str, float] = {}

    # -- what the API shows

    def status(self, job: Job) -> str:
        """Return the status word of a job."""
        return (
            self._phases.get(job.id, PENDING) if job.state is JobState.RUNNING else _STATUS_WORDS[job.state]
        )

    def progress(self, job: Job) -> int:
        """Return the progress of a job in percent."""
        if job.state is JobState.SUCCEEDED:
            return 100
        last = self._resources.last_loss(job.id)
        trained = 0.0 if last is None else TRAINING_PERCENT * last.step / last.total
        return int(max(trained, self._percents.get(job.id, 0.0)))

    def path(self, file: str) -> Path:
        """Return the path of a checkpoint's file."""
        return self._checkpoints / file

    def delete(self, job_id: str) -> None:
        """Delete the checkpoints, the loss curve and the files of a job that has ended."""
        for checkpoint in self._resources.all(Checkpoint, job_id):
            self._resources.remove(checkpoint)
            self.path(checkpoint.file).unlink(missing_ok=True)
        self._resources.remove_losses(job_id)
        shutil.rmtree(self._jobs / job_id, ignore_errors=True)

    # -- the job

    def run(self, job: RunningJob) -> None:
        """Train unless that is done, then test the checkpoints that are not tested yet."""
        job_id, spec = job.job.id, TrainingSpec.from_params(job.job.params)
        folder = self._jobs / job_id
        try:
            folder.mkdir(exist_ok=True)
            train, test = self._split(job, spec, folder)
            if not self._resources.all(Checkpoint, job_id):
                if spec.task_type == "classification":
                    self._train_classifier(job, spec, _read(train))
                else:
                    self._train_adapter(job, spec, train)
            if spec.test_functions and (rows := _read(test)):
                self._test(job, spec, rows)
        finally:
            self._phases.pop(job_id, None)
            self._percents.pop(job_id, None)
            if not job.is_interrupted:
                shutil.rmtree(folder, ignore_errors=True)

    def _split(self, job: RunningJob, spec: TrainingSpec, folder: Path) -> tuple[Path, Path]:
        """Write the rows to train on and the rows to test on, unless that is done."""
        train, test = folder / "train.jsonl", folder / "test.jsonl"
        if train.exists():
            return train, test
        everything = folder / "rows.jsonl"
        self._sample(job, spec.dataset, everything, MAX_ROWS)
        lines = everything.read_bytes().splitlines(keepends=True)
        random.Random(SEED).shuffle(lines)
        held_out = min(len(lines) - 1, round(len(lines) * spec.test_percent / 100))
        if spec.test_dataset is not None:
            self._sample(job, spec.test_dataset, test, MAX_TEST_ROWS)
        else:
            test.write_bytes(b"".join(lines[:held_out][:MAX_TEST_ROWS]))
        kept = _rebalance(lines[held_out:], spec.rebalance)
        kept = kept[: _downsampled(len(kept), float(spec.parameters.get("downsample_size", 0)))]
        if not kept:
            raise JobFailed("No row is left to train on: check rebalance_data and train_test_split_ratio.")
        unfinished = train.with_suffix(".part")
        unfinished.write_bytes(b"".join(kept))
        unfinished.replace(train)
        return train, test

    def _sample(self, job: RunningJob, dataset_id: str, target: Path, limit: int) -> None:
        stored = self._resources.find(StoredDataset, dataset_id)
        if stored is None:
            raise JobFailed(f"Dataset {dataset_id} was deleted before the training began.")
        try:
            sample_rows(self._datasets.get(stored.file), target, limit, SEED, job.check)
        except ApiError as error:
            raise JobFailed(error.detail) from None

    def _train_adapter(self, job: RunningJob, spec: TrainingSpec, rows: Path) -> None:
        with self._slot.hold(job):
            self._phases[job.job.id] = RUNNING
            recipe = self._recipe(spec, rows)

            def on_step(step: Step) -> None:
                self._record_loss(job.job.id, step.step, step.total, step.loss)

            train_adapter(job, self._trainer, recipe, on_step)
        adapters = [recipe.adapter_path(step) for step in recipe.adapter_steps()]
        self._keep(job, [(path.read_bytes(), ".gguf") for path in adapters])

    def _recipe(self, spec: TrainingSpec, rows: Path) -> Recipe:
        is_rewarded = spec.technique == "GRPO"
        kind: type[RewardParameters | TextParameters] = RewardParameters if is_rewarded else TextParameters
        parameters = msgspec.convert(spec.parameters, kind)
        batch_size = parameters.per_device_train_batch_size
        with rows.open("rb") as lines:
            count = sum(1 for _ in lines)
        steps, every = step_plan(count, parameters.num_train_epochs, batch_size)
        try:
            base = self._served.model_file(spec.base)
        except EngineError as error:
            raise JobFailed(str(error)) from None
        return Recipe(
            base=base,
            rows=rows,
            folder=rows.parent,
            max_steps=steps,
            learning_rate=parameters.learning_rate,
            batch_size=batch_size,
            seed=SEED,
            checkpoint_every=SAVE_EVERY,
            adapter_every=every,
            start=None if spec.start is None else self.path(spec.start),
            reward=spec.reward if is_rewarded else None,
            generations=parameters.num_generations if isinstance(parameters, RewardParameters) else 1,
        )

    def _train_classifier(self, job: RunningJob, spec: TrainingSpec, rows: list[Row]) -> None:
        self._phases[job.job.id] = RUNNING
        classes = dict.fromkeys(sorted({label for _, label in rows}), "")
        if len(classes) < MIN_LABELS:
            raise JobFailed("The rows to train on have a single label: a classifier needs at least two.")
        examples = [(label, text) for text, label in rows]
        texts = training_texts(classes, examples)

        def on_progress(done: int) -> None:
            self._percents[job.job.id] = TRAINING_PERCENT * done / (len(texts) + 1)

        vectors = self._vectors.compute(job, texts, on_progress)
        losses: list[tuple[int, float]] = []
        model = train_classifier(
            spec.name,
            classes,
            examples,
            vectors,
            job.check,
            description_weight=NAME_WEIGHT,
            on_loss=lambda step, loss: losses.append((step, loss)),
        )
        for step, loss in losses:
            self._record_loss(job.job.id, step, losses[-1][0], loss)
        self._keep(job, [(dump(model), ".json")])

    def _record_loss(self, job_id: str, step: int, total: int, loss: float) -> None:
        self._resources.record_loss(job_id, LossRecord(step, total, time.time(), loss))

    def _keep(self, job: RunningJob, files: list[tuple[bytes, str]]) -> None:
        """Store the checkpoints of a job, unless it has been ended."""
        job.check()
        checkpoints = []
        for number, (content, suffix) in enumerate(files, 1):
            checkpoint_id = new_id(Checkpoint.prefix)
            path = self.path(checkpoint_id + suffix)
            path.write_bytes(content)
            checkpoints.append(
                Checkpoint(
                    id=checkpoint_id,
                    parent=job.job.id,
                    name=f"checkpoint {number}",
                    number=number,
                    file=path.name,
                )
            )
        self._resources.add_all(checkpoints)

    def _test(self, job: RunningJob, spec: TrainingSpec, rows: list[Row]) -> None:
        self._phases[job.job.id] = TESTING
        checkpoints = self._resources.all(Checkpoint, job.job.id)
        untested = [checkpoint for checkpoint in checkpoints if checkpoint.rows is None]
        done = len(checkpoints) - len(untested)
        targets = [target for _, target in rows]
        with self._tester.served(spec, [(item.id, self.path(item.file)) for item in untested]) as outputs:
            for checkpoint in untested:
                self._percents[job.job.id] = TRAINING_PERCENT + 10 * done / len(checkpoints)
                scores = mean_scores(spec.test_functions, outputs(job, checkpoint.id, rows), targets)
                self._resources.change(checkpoint, rows=len(rows), scores=scores, updated=time.time())
                done += 1


def _read(file: Path) -> list[Row]:
    rows = map(json.loads, file.read_bytes().splitlines())
    return [(row["input"], row["output"]) for row in rows]


def _downsampled(rows: int, size: float) -> int:
    """Return how many rows to train on, from a number or a share of them; 0 stands for all."""
    if not size:
        return rows
    return max(1, round(rows * size)) if size < 1 else int(size)


def _rebalance(lines: list[bytes], wanted: dict[str, float]) -> list[bytes]:
    """Keep as many rows of a label as wanted: a share of them, if no number exceeds 1, or their number."""
    if not wanted:
        return lines
    labels = [json.loads(line)["output"] for line in lines]
    counts = Counter(labels)
    is_share = max(wanted.values()) <= 1
    limits = {
        label: round(counts[label] * amount) if is_share else int(amount) for label, amount in wanted.items()
    }
    kept: Counter[str] = Counter()
    balanced: list[bytes] = []
    for line, label in zip(lines, labels, strict=True):
        if kept[label] < limits.get(label, counts[label]):
            kept[label] += 1
            balanced.append(line)
    return balanced
