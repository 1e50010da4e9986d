"""Tasks that do the same to every row of an input."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.ledger.document import load
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from tests.support.crash.case import Case, Found, World
from tests.support.upstream import PARROT_MODEL, TEXT_MODEL, text_for, vector_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.crash.zygote import Outcome

ROWS = 12
CHUNK = 4
KEPT = {"_ledger.json", "manifest.json"}


class RowCase(Case):
    """Rows in chunks. A piece of paid work is a chunk."""

    suffix: ClassVar[str] = "jsonl"
    models: ClassVar[dict[str, str]] = {"": TEXT_MODEL}
    """The folder of each model's results below the output, and the model."""

    def prompts(self, place: Path) -> list[str]:
        """The rows' texts, which no other life has."""
        return [f"row {number} of life {place.name}" for number in range(ROWS)]

    def prepare(self, place: Path, world: World) -> None:
        """See `Case.prepare`."""
        del world
        lines = [
            json.dumps({"id": number, "text": text, "right": text})
            for number, text in enumerate(self.prompts(place))
        ]
        (place / "rows.jsonl").write_text("\n".join(lines) + "\n")

    def arguments(self, place: Path) -> dict[str, Any]:
        """What all of these operators take."""
        return {
            "task_id": "rows",
            "input": str(place / "rows.jsonl"),
            "output": str(place / "out"),
            "prompt": "text",
            "passthrough": ["id"],
            "chunk_size": CHUNK,
            "max_in_flight": 2,
            "deferrable": True,
            "poll_interval": 0.5,
            "timeout": 60,
        }

    def asked(self, world: World, model: str) -> list[str]:
        """All that the engine was asked for a model."""
        return [
            body["prompt"] for body in world.engine.bodies if body.get("model") == model and "prompt" in body
        ]

    def paid(self, place: Path, world: World) -> Counter[str]:
        """See `Case.paid`."""
        done: Counter[str] = Counter()
        for role, model in self.models.items():
            times = Counter(self.asked(world, model))
            for number, text in enumerate(self.prompts(place)):
                name = f"{role}{number // CHUNK}"
                done[name] = max(done[name], times[text])
        return done

    def started(self, paid: Counter[str], world: World) -> Counter[str]:
        """See `Case.started`."""
        return Counter({"job": 1 + len(world.local.control.jobs()) - len(paid)})

    def unknown(self, place: Path) -> set[tuple[str, float]]:
        """See `Case.unknown`."""
        found = set()
        for role in self.models:
            ledger = load(OutputFolder(str(place / "out" / role)))
            found |= {
                (f"{role}{chunk.number}", chunk.rounds[-1].intended_at)
                for chunk in (ledger.open if ledger else [])
                if chunk.state == "intended"
            }
        return found

    def expected(self, text: str, model: str) -> object:
        """What a model answers."""
        return text if model == PARROT_MODEL else text_for(text)

    def answer(self, row: dict[str, Any]) -> object:
        """What lies on storage for a row."""
        return row["output"]

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        """See `Case.found`."""
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
            if row["error"] is not None
            or not self.same(self.answer(row), self.expected(texts[row["id"]], model))
        ]
        if wrong:
            found.wrong.append(f"{folder.name}: rows {wrong} have a wrong answer")
        counts = json.loads((folder / "manifest.json").read_text())["counts"]
        if (counts["rows"], counts["ok"], counts["failed"]) != (ROWS, ROWS, 0):
            found.wrong.append(f"{folder.name}: the manifest counts {counts}")
        parts = {f"part-{number:05d}.{self.suffix}" for number in range(ROWS // CHUNK)}
        litter = {path.name for path in folder.iterdir()} - parts - KEPT
        if litter:
            found.wrong.append(f"{folder.name}: left behind: {sorted(litter)}")

    def same(self, answer: Any, expected: Any) -> bool:
        """Whether an answer is the one that is expected."""
        return bool(answer == expected)


class BatchInference(RowCase):
    """Chunks as jobs, waited for in the triggerer."""

    name = "batch inference"
    starts = "/v1/batch_completions"

    def operator(self, place: Path) -> Any:
        """See `Case.operator`."""
        from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

        return LaminiBatchInferenceOperator(**self.arguments(place), model_name=TEXT_MODEL)


class InWorker(BatchInference):
    """The same, waited for in the worker."""

    name = "batch inference, waiting in its worker"

    waits = False

    def arguments(self, place: Path) -> dict[str, Any]:
        """See `RowCase.arguments`."""
        return super().arguments(place) | {"deferrable": False}


class Direct(RowCase):
    """Rows as requests. What is paid for is a request, so a chunk that a crash interrupts is asked for again.

    So is a request whose answer is lost, by the client itself.
    """

    waits = False
    asks_again = True

    def unknown(self, place: Path) -> set[tuple[str, float]]:
        """See `Case.unknown`: every chunk that was not finished when a try ended."""
        ledger = load(OutputFolder(str(place / "out")))
        if ledger is None:
            return set()
        still_open = {chunk.number for chunk in ledger.open}
        still_open |= set(range(ledger.planned, ROWS // CHUNK))
        # With each crash anew: the number of crashes stands for the time.
        crash = len(list(place.glob("crash-*")))
        (place / f"crash-{crash}").touch()
        return {(str(number), float(crash)) for number in still_open}


class Completions(Direct):
    """Rows answered one by one."""

    name = 'batch inference, endpoint="completions"'
    starts = "/v[12]/completions"

    def operator(self, place: Path) -> Any:
        """See `Case.operator`."""
        from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

        given = self.arguments(place) | {"max_in_flight": 4}
        return LaminiBatchInferenceOperator(**given, model_name=TEXT_MODEL, endpoint="completions")


class Embedding(RowCase):
    """Vectors into Parquet."""

    name = "embedding, Parquet"
    starts = "/v1/batch_embeddings"
    suffix = "parquet"

    def operator(self, place: Path) -> Any:
        """See `Case.operator`."""
        from airflow_provider_lamini.operators.embedding import LaminiEmbeddingOperator

        return LaminiEmbeddingOperator(**self.arguments(place), output_format="parquet")

    def asked(self, world: World, model: str) -> list[str]:
        """See `RowCase.asked`."""
        del model
        return list(world.engine.prompts)

    def expected(self, text: str, model: str) -> object:
        """See `RowCase.expected`."""
        del model
        return vector_for(text)

    def answer(self, row: dict[str, Any]) -> object:
        """See `RowCase.answer`."""
        return row["embedding"]

    def same(self, answer: Any, expected: Any) -> bool:
        """See `RowCase.same`: 32 bits."""
        return len(answer) == len(expected) and all(
            abs(one - other) < 1e-5 for one, other in zip(answer, expected, strict=True)
        )


class Evaluate(RowCase):
    """Two models, one after the other, then scores and a report."""

    name = "evaluation of two models"
    starts = "/v1/batch_completions"
    models: ClassVar[dict[str, str]] = {"model": PARROT_MODEL, "base": TEXT_MODEL}

    def operator(self, place: Path) -> Any:
        """See `Case.operator`."""
        from airflow_provider_lamini.operators.evaluate import LaminiEvaluateOperator

        given = self.arguments(place) | {"answer": "right", "thresholds": {"exact_match": 1.0}}
        return LaminiEvaluateOperator(**given, model_name=PARROT_MODEL, base_model_name=TEXT_MODEL)

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        """See `Case.found`."""
        found = super().found(place, world, outcome)
        scores = [json.loads(line) for line in (place / "out" / "scores.jsonl").read_text().splitlines()]
        if [line["index"] for line in scores] != list(range(ROWS)):
            found.wrong.append("scores.jsonl has not each row once")
        if not outcome.value["passed"] or outcome.value["rows"] != ROWS:
            found.wrong.append(f"the task returned {outcome.value}")
        litter = {path.name for path in (place / "out").iterdir()} - {
            "model",
            "base",
            "scores.jsonl",
            "report.md",
        }
        if litter:
            found.wrong.append(f"left behind: {sorted(litter)}")
        return found


class Classify(Direct):
    """Texts sorted into classes, several per request."""

    name = "classification at scale"
    starts = "/v2/classifier/.*/classify"

    def prepare(self, place: Path, world: World) -> None:
        """See `Case.prepare`: the platform has one classifier, for all lives."""
        super().prepare(place, world)
        from tests.support.crash.job_cases import trained_classifier

        (place / "model").write_text(trained_classifier(world))

    def operator(self, place: Path) -> Any:
        """See `Case.operator`."""
        from airflow_provider_lamini.operators.classify import LaminiClassifyOperator

        return LaminiClassifyOperator(**self.arguments(place), model_id=(place / "model").read_text())

    def asked(self, world: World, model: str) -> list[str]:
        """See `RowCase.asked`."""
        del model
        return list(world.engine.prompts)

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        """See `Case.found`: ask the platform once more for what is right."""
        with world.local.client() as http:
            path = f"/v2/classifier/{(place / 'model').read_text()}/classify"
            answer = http.post(path, json={"prompt": self.prompts(place)}).raise_for_status().json()
        self.right = {
            text: classes[0]["class_name"]
            for text, classes in zip(self.prompts(place), answer["classification"], strict=True)
        }
        return super().found(place, world, outcome)

    def expected(self, text: str, model: str) -> object:
        """See `RowCase.expected`."""
        del model
        return self.right[text]

    def answer(self, row: dict[str, Any]) -> object:
        """See `RowCase.answer`."""
        return row["output"]["class"]


ROW_CASES: list[Case] = [BatchInference(), InWorker(), Completions(), Embedding(), Evaluate(), Classify()]
