"""Tasks that process the rows of an input."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import patch

from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.ledger.document import load
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.storage.run_files import left_job_name
from tests.support.crash.case import Case, Found, World
from tests.support.tasks import TaskInstance, log_lines, run_to_end
from tests.support.upstream import PARROT_MODEL, TEXT_MODEL, text_for, vector_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_lamini.rows.ledger.document import Chunk, ChunkSubmission
    from tests.support.crash.zygote import Outcome

ROWS = 12
CHUNK = 4
OTHER_FILES = {"_ledger.json", "manifest.json", "report.md", "report.html"}


class RowCase(Case):
    """Processes rows in chunks. A piece of paid work is a chunk."""

    suffix: ClassVar[str] = "jsonl"
    models: ClassVar[dict[str, str]] = {"": TEXT_MODEL}
    """Maps a folder below the output to the model whose results it contains."""
    failing: ClassVar[frozenset[int]] = frozenset()
    """The rows that fail."""

    def prompts(self, place: Path) -> list[str]:
        """Return the rows' texts, which are unique to a life."""
        return [f"row {number} of life {place.name}" for number in range(ROWS)]

    def prepare(self, place: Path, world: World) -> None:
        del world
        lines = [
            json.dumps({"id": number, "text": text, "right": text})
            for number, text in enumerate(self.prompts(place))
        ]
        (place / "rows.jsonl").write_text("\n".join(lines) + "\n")

    def arguments(self, place: Path) -> dict[str, Any]:
        """Return the arguments that these operators share."""
        return {
            "task_id": "rows",
            "input": str(place / "rows.jsonl"),
            "output": str(place / "out"),
            "prompt": "text",
            "passthrough": ["id"],
            "chunk_size": CHUNK,
            "max_in_flight": 2,
            "deferrable": True,
            "poll_interval": 0.1,
            "timeout": 60,
        }

    def asked(self, world: World, model: str) -> list[str]:
        """Return all prompts that the engine received for a model."""
        return [
            body["prompt"] for body in world.engine.bodies if body.get("model") == model and "prompt" in body
        ]

    def paid(self, place: Path, world: World) -> Counter[str]:
        done: Counter[str] = Counter()
        for role, model in self.models.items():
            times = Counter(self.asked(world, model))
            for number, text in enumerate(self.prompts(place)):
                name = f"{role}{number // CHUNK}"
                done[name] = max(done[name], times[text])
        return done

    def started(self, paid: Counter[str], world: World) -> Counter[str]:
        return Counter({"job": 1 + len(world.local.control.jobs()) - len(paid)})

    def unknown(self, place: Path) -> set[tuple[str, float]]:
        found = set()
        for role in self.models:
            found |= {
                (f"{role}{chunk.number}", each.intended_at)
                for chunk, each in unknown_submissions(place / "out" / role)
            }
        return found

    def expected(self, text: str, model: str) -> object:
        """Return a model's output for a text."""
        return text if model == PARROT_MODEL else text_for(text)

    def answer(self, row: dict[str, Any]) -> object:
        """Return the output of a stored row."""
        return row["output"]

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        del world, outcome
        found = Found()
        for role, model in self.models.items():
            self._compare(place, place / "out" / role, model, found)
        return found

    def _compare(self, place: Path, folder: Path, model: str, found: Found) -> None:
        texts = self.prompts(place)
        rows = list(read_outputs(str(folder)))
        times = Counter(row["id"] for row in rows)
        found.lost += sum(times[number] == 0 for number in range(ROWS))
        found.doubled += sum(count - 1 for count in times.values() if count > 1)
        if [(row["index"], row["id"]) for row in rows] != [(number, number) for number in range(ROWS)]:
            found.wrong.append(f"{folder.name}: the rows are not in their order")
        wrong = [
            row["index"]
            for row in rows
            if (row["error"] is not None) != (row["index"] in self.failing)
            or not (row["error"] or self.same(self.answer(row), self.expected(texts[row["id"]], model)))
        ]
        if wrong:
            found.wrong.append(f"{folder.name}: rows {wrong} have a wrong answer")
        counts = json.loads((folder / "manifest.json").read_text())["counts"]
        failed = len(self.failing)
        if (counts["rows"], counts["ok"], counts["failed"]) != (ROWS, ROWS - failed, failed):
            found.wrong.append(f"{folder.name}: the manifest counts {counts}")
        parts = {f"part-{number:05d}.{self.suffix}" for number in range(self.parts(folder))}
        keys = {f"_keys-{number:05d}.bin" for number in range(self.parts(folder))}
        errors = {f"errors-{number // CHUNK:05d}.jsonl" for number in self.failing}
        litter = {path.name for path in folder.iterdir()} - parts - keys - errors - OTHER_FILES
        if litter:
            found.wrong.append(f"{folder.name}: left behind: {sorted(litter)}")

    def parts(self, folder: Path) -> int:
        """Return the number of parts of a run."""
        del folder
        return ROWS // CHUNK

    def same(self, answer: Any, expected: Any) -> bool:
        """Return whether an output is the expected one."""
        return bool(answer == expected)


class BatchInference(RowCase):
    """Submits chunks as jobs and waits in the triggerer."""

    name = "batch inference"
    starts = "/v1/batch_completions"

    def operator(self, place: Path) -> Any:
        from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

        return LaminiBatchInferenceOperator(**self.arguments(place), model_name=TEXT_MODEL)


class InWorker(BatchInference):
    """Submits chunks as jobs and waits in the worker."""

    name = "batch inference, waiting in its worker"

    waits = False

    def arguments(self, place: Path) -> dict[str, Any]:
        return super().arguments(place) | {"deferrable": False}


class Split(BatchInference):
    """Has a first chunk that the platform refuses as too large, so that it is sent in pieces."""

    name = "batch inference, a chunk in pieces"

    def prepare(self, place: Path, world: World) -> None:
        super().prepare(place, world)
        # Three prompts are too many. Requests of other lives are as long, and have chunks of the same size.
        longest = len(json.dumps({"model_name": TEXT_MODEL, "prompt": self.prompts(place)[-3:]}))
        world.local.control.fault(
            self.starts,
            method="POST",
            contains=f"of life {place.name}",
            longer_than=longest - 1,
            status=413,
            times=None,
        )

    def unknown(self, place: Path) -> set[tuple[str, float]]:
        return {
            (str((chunk.first_row + each.key) // CHUNK), each.intended_at)
            for chunk, each in unknown_submissions(place / "out")
        }

    def started(self, paid: Counter[str], world: World) -> Counter[str]:
        """Count the rows of all jobs: how many jobs there are depends on when the platform has refused a chunk."""
        del paid
        rows = [job["total"] for job in world.local.control.jobs()]
        return Counter({"job": 1 + (sum(rows) - ROWS) // min(rows)})

    def parts(self, folder: Path) -> int:
        """Return the number of parts, which depends on when the platform has refused the chunk."""
        return len(json.loads((folder / "manifest.json").read_text())["parts"])

    def has_broken(self, world: World) -> bool:
        return any(fault["hits"] for fault in world.local.control.faults() if fault["drop"])


class Direct(RowCase):
    """Sends rows as direct requests, so a retry sends an interrupted chunk again.

    The client itself retries a request whose response was lost.
    """

    waits = False
    client_retries = True

    def unknown(self, place: Path) -> set[tuple[str, float]]:
        """Return every chunk that was not finished when the try ended."""
        ledger = load(OutputFolder(str(place / "out")))
        if ledger is None:
            return set()
        still_open = {chunk.number for chunk in ledger.open}
        still_open |= set(range(ledger.planned, ROWS // CHUNK))
        # The number of crashes stands for the time of the intent.
        crash = len(list(place.glob("crash-*")))
        (place / f"crash-{crash}").touch()
        return {(str(number), float(crash)) for number in still_open}


class Completions(Direct):
    """Sends rows to the completions endpoint."""

    name = 'batch inference, endpoint="completions"'
    starts = "/v[12]/completions"

    def operator(self, place: Path) -> Any:
        from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

        arguments = self.arguments(place) | {"max_in_flight": 4}
        return LaminiBatchInferenceOperator(**arguments, model_name=TEXT_MODEL, endpoint="completions")


class Embedding(RowCase):
    """Writes vectors to Parquet."""

    name = "embedding, Parquet"
    starts = "/v1/batch_embeddings"
    suffix = "parquet"

    def operator(self, place: Path) -> Any:
        from airflow_provider_lamini.operators.embedding import LaminiEmbeddingOperator

        return LaminiEmbeddingOperator(**self.arguments(place), output_format="parquet")

    def asked(self, world: World, model: str) -> list[str]:
        del model
        return list(world.engine.prompts)

    def expected(self, text: str, model: str) -> object:
        del model
        return vector_for(text)

    def answer(self, row: dict[str, Any]) -> object:
        return row["embedding"]

    def same(self, answer: Any, expected: Any) -> bool:
        """Compare with the precision of 32-bit floats."""
        return len(answer) == len(expected) and all(
            abs(one - other) < 1e-5 for one, other in zip(answer, expected, strict=True)
        )


class Halved(Embedding):
    """Has a row that makes each of its jobs fail, so that its chunk is halved until the row is alone.

    A piece of paid work is a job, which is known by its number of rows.
    """

    name = "embedding, a job that fails because of a row"
    failing: ClassVar[frozenset[int]] = frozenset({1})
    jobs: ClassVar[dict[int, int]] = {CHUNK: ROWS // CHUNK, 2: 2, 1: 2}
    """How many jobs with this many rows are necessary."""

    @contextmanager
    def platform(self, world: World) -> Iterator[None]:
        with super().platform(world):
            try:
                yield
            finally:
                world.engine.refused = None

    def prepare(self, place: Path, world: World) -> None:
        super().prepare(place, world)
        world.engine.refused = self.prompts(place)[1]

    def arguments(self, place: Path) -> dict[str, Any]:
        return super().arguments(place) | {"max_failed_rows": 1}

    def paid(self, place: Path, world: World) -> Counter[str]:
        del place
        started = Counter(job["total"] for job in world.local.control.jobs())
        return Counter(
            {str(rows): started[rows] - self.jobs.get(rows, 0) + 1 for rows in started | self.jobs.keys()}
        )

    def started(self, paid: Counter[str], world: World) -> Counter[str]:
        del paid
        return Counter({"job": 1 + len(world.local.control.jobs()) - sum(self.jobs.values())})

    def unknown(self, place: Path) -> set[tuple[str, float]]:
        return {
            (str(chunk.rows if each.rows is None else len(each.rows)), each.intended_at)
            for chunk, each in unknown_submissions(place / "out")
        }


class Grown(BatchInference):
    """Has an input to whose end rows are added while the task waits for the jobs of the first ones."""

    name = "batch inference, an input that grows"
    first: ClassVar[int] = 2 * CHUNK
    """Number of rows at the beginning."""

    def prepare(self, place: Path, world: World) -> None:
        super().prepare(place, world)
        whole = place / "rows.jsonl"
        lines = whole.read_text().splitlines(keepends=True)
        whole.rename(place / "whole.jsonl")
        whole.write_text("".join(lines[: self.first]))

    def grow(self, place: Path) -> None:
        """Add the other rows. This may be interrupted and repeated."""
        if (place / "whole.jsonl").exists():
            (place / "whole.jsonl").rename(place / "rows.jsonl")

    def arguments(self, place: Path) -> dict[str, Any]:
        return super().arguments(place) | {"on_changed_input": "extend"}

    def operator(self, place: Path) -> Any:
        if (place / "begun").exists():
            self.grow(place)
        (place / "begun").touch()
        return super().operator(place)


class GrownAfterwards(Grown):
    """Has an input to whose end rows are added when the task has succeeded, before it is cleared."""

    name = "batch inference, extended after its end"

    def prepare(self, place: Path, world: World) -> None:
        super().prepare(place, world)
        with patch.dict(os.environ, self.env(world)), log_lines():  # not on the terminal
            run_to_end(lambda: BatchInference.operator(self, place), TaskInstance())
        self.grow(place)


class Evaluate(RowCase):
    """Runs two models, then writes scores and a report."""

    name = "evaluation of two models"
    starts = "/v1/batch_completions"
    models: ClassVar[dict[str, str]] = {"model": PARROT_MODEL, "base": TEXT_MODEL}

    def operator(self, place: Path) -> Any:
        from airflow_provider_lamini.operators.evaluate import LaminiEvaluateOperator

        arguments = self.arguments(place) | {"answer": "right", "thresholds": {"exact_match": 1.0}}
        return LaminiEvaluateOperator(**arguments, model_name=PARROT_MODEL, base_model_name=TEXT_MODEL)

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        found = super().found(place, world, outcome)
        scores = [json.loads(line) for line in (place / "out" / "scores.jsonl").read_text().splitlines()]
        if [line["index"] for line in scores] != list(range(ROWS)):
            found.wrong.append("scores.jsonl does not contain each row once")
        if not outcome.value["passed"] or outcome.value["rows"] != ROWS:
            found.wrong.append(f"the task returned {outcome.value}")
        litter = {path.name for path in (place / "out").iterdir()} - {
            "model",
            "base",
            "scores.jsonl",
            "_reserved-report.json",
            "report.md",
            "report.html",
        }
        if litter:
            found.wrong.append(f"left behind: {sorted(litter)}")
        return found


class Classify(Direct):
    """Classifies texts, several per request."""

    name = "classification at scale"
    starts = "/v2/classifier/.*/classify"

    def prepare(self, place: Path, world: World) -> None:
        """Create the input. All lives share one classifier."""
        super().prepare(place, world)
        from tests.support.crash.job_cases import trained_classifier

        (place / "model").write_text(trained_classifier(world))

    def operator(self, place: Path) -> Any:
        from airflow_provider_lamini.operators.classify import LaminiClassifyOperator

        return LaminiClassifyOperator(**self.arguments(place), model_id=(place / "model").read_text())

    def asked(self, world: World, model: str) -> list[str]:
        del model
        return list(world.engine.prompts)

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        """Get the correct classes from the platform again, then compare."""
        with world.local.client() as http:
            path = f"/v2/classifier/{(place / 'model').read_text()}/classify"
            response = http.post(path, json={"prompt": self.prompts(place)}).raise_for_status().json()
        self.right = {
            text: classes[0]["class_name"]
            for text, classes in zip(self.prompts(place), response["classification"], strict=True)
        }
        return super().found(place, world, outcome)

    def expected(self, text: str, model: str) -> object:
        del model
        return self.right[text]

    def answer(self, row: dict[str, Any]) -> object:
        return row["output"]["class"]


def unknown_submissions(output: Path) -> Iterator[tuple[Chunk, ChunkSubmission]]:
    """The submissions of which nobody knows whether they were made: of those intended together, the first without an id."""
    folder = OutputFolder(str(output))
    ledger = load(folder)
    for intended in ledger.intents() if ledger else []:
        for chunk, each in intended:
            if not folder.exists(left_job_name(chunk.number, each.intended_at)):
                yield chunk, each
                break


ROW_CASES: list[Case] = [
    BatchInference(),
    InWorker(),
    Split(),
    Completions(),
    Embedding(),
    Halved(),
    Grown(),
    GrownAfterwards(),
    Evaluate(),
    Classify(),
]
