"""Tasks with one job."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

from tests.support.crash.case import Case, Found, ScriptCase, World, recorded
from tests.support.local_platform import wait_until
from tests.support.upstream import TEXT_MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.crash.zygote import Outcome

ROWS = [{"input": f"question {number}", "output": f"answer {number}"} for number in range(6)]
CLASSES = {"spam": "unwanted advertising", "ham": "a personal letter"}
EXAMPLES = {"spam": ["cheap watches", "win a prize"], "ham": ["see you on Monday", "thank you for the cake"]}
WAITING: dict[str, Any] = {"deferrable": True, "poll_interval": 0.1, "timeout": 60}


def state_record(place: Path, key: str = "airflow_provider_lamini_submission") -> Any:
    """Read a submission from the task state store or from the only file below the state path."""
    file = place / "task-state.json"
    if file.exists():
        return json.loads(file.read_text()).get(key)
    files = list((place / "state").glob("submission-*.json"))
    return json.loads(files[0].read_text()) if files else None


def differences(outcome: Outcome, **expected: object) -> list[str]:
    """Describe the fields of a result that differ from the expected ones."""
    value = outcome.value if isinstance(outcome.value, dict) else {}
    return [
        f"{name} is {value.get(name)!r} instead of {correct!r}"
        for name, correct in expected.items()
        if value.get(name) != correct
    ]


class Train(ScriptCase):
    """Uploads rows and tunes a model; the record is in the task state store."""

    name = "tuning"
    starts = "/v1/train"
    task_state = True
    record_file: ClassVar[bool] = False
    script: ClassVar[tuple[str, ...]] = ("CREATED", "TRAINING MODEL", "COMPLETED")
    resumes = 0

    def prepare(self, place: Path, world: World) -> None:
        (place / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n")
        world.tuning.script = [self.script, ("CREATED", "COMPLETED")]
        world.tuning.history = [{"step": 1, "loss": 0.5}]

    def operator(self, place: Path) -> Any:
        from airflow_provider_lamini.operators.train import LaminiTrainOperator

        class Quick(LaminiTrainOperator):
            list_delay = 0.05

        return Quick(
            task_id="train",
            model_name="base",
            input=str(place / "rows.jsonl"),
            output=str(place / "out"),
            on_unknown_submission=self.on_unknown(place),
            state_path=str(place / "state") if self.record_file else None,
            **WAITING,
        )

    def paid(self, place: Path, world: World) -> Counter[str]:
        del place
        resumed = sum(job.resumes for job in world.tuning.jobs.values())
        return Counter({"job": len(world.tuning.jobs), "resume": 1 + max(0, resumed - self.resumes)})

    def unknown(self, place: Path) -> set[tuple[str, float]]:
        """Return nothing: the platform lists the job."""
        del place
        return set()

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        found = Found(
            wrong=differences(outcome, status="COMPLETED", model_name="tuned-1", resumes=self.resumes)
        )
        if not any(job.state == "COMPLETED" for job in world.tuning.jobs.values()):
            found.lost = 1
        job = world.tuning.jobs["1"]
        if world.tuning.datasets.get(job.body["dataset_id"]) != ROWS:
            found.wrong.append("the model was tuned on other rows")
        litter = {path.name for path in (place / "out").iterdir()} - {
            "loss_history.jsonl",
            "_reserved-loss_history.json",
        }
        if litter:
            found.wrong.append(f"left behind: {sorted(litter)}")
        return found


class TrainAndResume(Train):
    """The job fails and is resumed; the record is in a file."""

    name = "tuning that fails and is resumed"
    task_state = False
    record_file = True
    script = ("CREATED", "FAILED")
    resumes = 1


class TrainWithoutRecord(Train):
    """Without a record a retry submits again, as the log says. The harness must notice that."""

    name = "tuning without a record"
    task_state = False


class UploadDataset(ScriptCase):
    """Uploads a dataset. A retry uses the dataset of an earlier try; an interrupted upload stays unused."""

    name = "dataset upload"
    starts = "/v1/local-data"
    task_state = True

    def prepare(self, place: Path, world: World) -> None:
        del world
        (place / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n")

    def operator(self, place: Path) -> Any:
        from airflow_provider_lamini.operators.upload_dataset import LaminiUploadDatasetOperator

        return LaminiUploadDatasetOperator(task_id="upload", input=str(place / "rows.jsonl"))

    def paid(self, place: Path, world: World) -> Counter[str]:
        del place
        return Counter({"job": len(world.tuning.datasets)})

    def unknown(self, place: Path) -> set[tuple[str, float]]:
        return recorded(state_record(place, "airflow_provider_lamini_dataset"))

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        del place
        found = Found(wrong=differences(outcome, rows=len(ROWS)))
        if world.tuning.datasets.get(outcome.value["dataset_id"]) != ROWS:
            found.lost = len(ROWS)
        return found


class DownloadModel(ScriptCase):
    """Requests a model download. The platform downloads the model once, however often it is requested."""

    name = "model download"
    starts = "/v1alpha/downloaded_models/"

    def prepare(self, place: Path, world: World) -> None:
        del place
        world.tuning.downloads["org/model"] = ["requested", "available"]

    def operator(self, place: Path) -> Any:
        del place
        from airflow_provider_lamini.operators.download_model import LaminiDownloadModelOperator

        return LaminiDownloadModelOperator(task_id="download", model_name="org/model", **WAITING)

    def paid(self, place: Path, world: World) -> Counter[str]:
        """Count the downloads of the model."""
        del place
        return Counter({"job": len(world.tuning.downloads)})

    def unknown(self, place: Path) -> set[tuple[str, float]]:
        del place
        return set()

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        del place, world
        return Found(wrong=differences(outcome, model_name="org/model", status="available"))


class RagBuild(Case):
    """Builds an index. The platform cannot report a build whose id was lost, so a user decides."""

    name = "Memory RAG build"
    starts = "/alpha/memory-rag/train"
    task_state = True

    def prepare(self, place: Path, world: World) -> None:
        del world
        (place / "docs").mkdir()
        for name in ("alpha", "beta"):
            (place / "docs" / f"{name}.txt").write_text(f"{name} is a letter of life {place.name}")

    def operator(self, place: Path) -> Any:
        from airflow_provider_lamini.operators.memory_rag_build import LaminiMemoryRagBuildOperator

        return LaminiMemoryRagBuildOperator(
            task_id="build",
            files=str(place / "docs"),
            model_name=TEXT_MODEL,
            on_unknown_submission=self.on_unknown(place),
            **WAITING,
        )

    def paid(self, place: Path, world: World) -> Counter[str]:
        del place
        return Counter({"job": len(world.local.control.jobs("memory_rag"))})

    def unknown(self, place: Path) -> set[tuple[str, float]]:
        return recorded(state_record(place))

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        del place
        found = Found(wrong=differences(outcome, files=2, model_name=TEXT_MODEL))
        ready = [job["id"] for job in world.local.control.jobs("memory_rag") if job["state"] == "succeeded"]
        if str(outcome.value["index_id"]) not in map(str, ready):
            found.lost = 1
        return found


class RagRefresh(RagBuild):
    """Rebuilds an index because a file has changed; the record is in the manifest."""

    name = "Memory RAG refresh, rebuilt"
    task_state = False
    action = "rebuilt"

    def prepare(self, place: Path, world: World) -> None:
        """Create the documents and a first index."""
        super().prepare(place, world)
        if self.action == "added":
            (place / "docs" / "beta.txt").unlink()
        self._write_first_manifest(place, world)
        (place / "docs" / "beta.txt").write_text(f"beta is another letter of life {place.name}")

    def _write_first_manifest(self, place: Path, world: World) -> None:
        """Write the manifest of an index that an earlier run has built."""
        from airflow_provider_lamini.corpus.documents import content_versions, find_documents
        from airflow_provider_lamini.corpus.index_manifest import IndexManifest, ManifestFile

        documents = find_documents(str(place / "docs"), conn_id=None)
        with world.local.client() as http:
            files = [("files", (document.name, document.text() or "")) for document in documents]
            response = http.post("/alpha/memory-rag/train", data={"model_name": TEXT_MODEL}, files=files)
            index_id = str(response.raise_for_status().json()["job_id"])
        world.settle()
        manifest = IndexManifest(
            platform=world.local.url,
            model_name=TEXT_MODEL,
            index_id=index_id,
            files=content_versions(documents, {}),
        )
        ManifestFile(str(place / "index.json")).write(manifest)

    def operator(self, place: Path) -> Any:
        from airflow_provider_lamini.operators.memory_rag_refresh import LaminiMemoryRagRefreshOperator

        return LaminiMemoryRagRefreshOperator(
            task_id="refresh",
            files=str(place / "docs"),
            model_name=TEXT_MODEL,
            manifest=str(place / "index.json"),
            on_unknown_submission=self.on_unknown(place),
            **WAITING,
        )

    def paid(self, place: Path, world: World) -> Counter[str]:
        """Count the builds after the first index."""
        return Counter({"job": super().paid(place, world)["job"] - 1})

    def unknown(self, place: Path) -> set[tuple[str, float]]:
        file = place / "index.json"
        building = json.loads(file.read_text()).get("building") if file.exists() else None
        return recorded(building["submission"] if building else None)

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        found = super().found(place, world, outcome)
        content = json.loads((place / "index.json").read_text())
        if sorted(content["files"]) != ["alpha.txt", "beta.txt"] or content["building"] or content["adding"]:
            found.wrong.append("the manifest does not match the index")
        return found


class RagAdd(RagRefresh):
    """Adds the text of a new file to the index. If that is interrupted, the index is rebuilt, as documented."""

    name = "Memory RAG refresh, added"
    starts = "/alpha/memory-rag/add-index"
    action = "added"

    def paid(self, place: Path, world: World) -> Counter[str]:
        """Count added texts, and builds that replaced them."""
        adds = world.local.control.stats()["requests"].get("POST /alpha/memory-rag/add-index", 0)
        return Counter({"job": super().paid(place, world)["job"] + adds})

    def unknown(self, place: Path) -> set[tuple[str, float]]:
        """Include texts that may or may not have been added."""
        content = json.loads((place / "index.json").read_text())
        adding = {("job", 0.0)} if content.get("adding") else set()
        return super().unknown(place) | adding


class ClassifierTrain(Case):
    """Creates a project and trains a classifier. A lost job is found in the project's list."""

    name = "classifier training"
    starts = "/v2/classifier/initialize"
    task_state = True

    def prepare(self, place: Path, world: World) -> None:
        del place, world

    def operator(self, place: Path) -> Any:
        from airflow_provider_lamini.operators.classifier_train import LaminiClassifierTrainOperator

        class Quick(LaminiClassifierTrainOperator):
            list_delay = 0.05

        return Quick(
            task_id="train",
            project=f"project {place.name}",
            model_name=TEXT_MODEL,
            classes=CLASSES,
            examples=EXAMPLES,
            on_unknown_submission=self.on_unknown(place),
            **WAITING,
        )

    def paid(self, place: Path, world: World) -> Counter[str]:
        del place
        return Counter({"job": len(world.local.control.jobs("classifier"))})

    def unknown(self, place: Path) -> set[tuple[str, float]]:
        """Return nothing: the project lists its jobs."""
        del place
        return set()

    def found(self, place: Path, world: World, outcome: Outcome) -> Found:
        del world
        wanted = {"project": f"project {place.name}", "created": 1, "status": "COMPLETED", "classes": 2}
        found = Found(wrong=differences(outcome, **wanted))
        if not outcome.value.get("model_id"):
            found.lost = 1
        return found


_trained: dict[Path, str] = {}


def trained_classifier(world: World) -> str:
    """Return the id of a classifier on the local platform, which the first call trains."""
    if world.local.data not in _trained:
        body = {"name": "harness", "model_name": TEXT_MODEL, "classes": CLASSES, "examples": EXAMPLES}
        with world.local.client() as http:
            job_id = http.post("/v2/classifier/initialize", json=body).raise_for_status().json()["job_id"]
            status = f"/v2/classifier/{job_id}/status"
            wait_until(lambda: http.get(status).json()["status"] == "COMPLETED")
            _trained[world.local.data] = str(http.get(status).json()["model_id"])
    return _trained[world.local.data]


JOB_CASES: list[Case] = [
    Train(),
    TrainAndResume(),
    RagBuild(),
    RagRefresh(),
    RagAdd(),
    ClassifierTrain(),
    UploadDataset(),
    DownloadModel(),
]
