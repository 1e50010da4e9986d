"""No secret and no row appears in a log, an error or a trigger, even if the platform repeats everything that it was sent.

The tests search what tasks produce before Airflow masks anything.
"""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_lamini.hooks.lamini import LaminiHook
from tests.support.blob_store import BlobStore
from tests.support.faulty_platform import MODEL, Fault, faulty_platform
from tests.support.tasks import TI, execute, first_event, load_trigger
from tests.support.traces import Traces, collect_logs

KEY = "sk-live-Zq81Kd02mXvT93hL"
HEADER = "tenant-credential-7Hf2Lw9PqA"
PROXY = "proxy-password-5Tg8Bn3Vc"
TOKEN = "hf_private_Rr4Jk7Yx1Mn6Qs"
SIGNATURE = "sig%2Bwith%2Fodd%3Dcharacters"
PROXY_HEADER = base64.b64encode(f"someone:{PROXY}".encode()).decode()
SECRETS = {
    "key": KEY,
    "proxy header": PROXY_HEADER,
    "header": HEADER,
    "proxy": PROXY,
    "token": TOKEN,
    "signature": SIGNATURE,
}

PROMPT = "what of the merger with ACME by friday"
ANSWER = "the patient of row 4711 has a broken leg"
DOCUMENT = "salaries of the board in the coming year"
DATA = {"prompt": PROMPT, "answer": ANSWER, "document": DOCUMENT}
ROWS = [{"input": f"{PROMPT} {number}", "output": ANSWER} for number in range(3)]
HOLD_ROWS = ("part-*", "errors-*", "predictions.jsonl", "report.md", "report.html", "documents/*")

TO_FOLDER = {"input": ROWS, "prompt": "input", "output": "{out}"}
JUDGED = TO_FOLDER | {"answer": "output"}
RECORDED = {"state_path": "{state}"}
DOCUMENTS = {"files": "{documents}", "model_name": MODEL}
CLASSES = {"classes": {"spam": ANSWER, "ham": "good"}, "examples": {"spam": [PROMPT], "ham": [DOCUMENT]}}
INFER = "batch_inference.LaminiBatchInferenceOperator"
OPERATORS = {
    "batch": (INFER, TO_FOLDER | {"model_name": MODEL}),
    "completions": (INFER, TO_FOLDER | {"model_name": MODEL, "endpoint": "completions"}),
    "chat rows": (INFER, TO_FOLDER | {"model_name": MODEL, "endpoint": "chat"}),
    "completion": ("completion.LaminiCompletionOperator", {"prompt": [PROMPT, PROMPT], "model_name": MODEL}),
    "chat": ("chat.LaminiChatOperator", {"messages": PROMPT, "system": ANSWER, "model_name": MODEL}),
    "vectors": ("embedding.LaminiEmbeddingOperator", TO_FOLDER),
    "embedding": ("embedding.LaminiEmbeddingOperator", {"input": [PROMPT, ANSWER]}),
    "classify": ("classify.LaminiClassifyOperator", TO_FOLDER | {"model_id": "model-c1"}),
    "train": ("train.LaminiTrainOperator", RECORDED | {"input": ROWS, "model_name": MODEL}),
    "upload": ("upload_dataset.LaminiUploadDatasetOperator", RECORDED | {"input": ROWS}),
    "download": (
        "download_model.LaminiDownloadModelOperator",
        {"model_name": "org/private", "hub_conn_id": "hub"},
    ),
    "memory rag": ("memory_rag_build.LaminiMemoryRagBuildOperator", RECORDED | DOCUMENTS),
    "refresh": (
        "memory_rag_refresh.LaminiMemoryRagRefreshOperator",
        DOCUMENTS | {"manifest": "{state}/index.json"},
    ),
    "query": ("memory_rag_query.LaminiMemoryRagQueryOperator", TO_FOLDER | {"index_id": "1"}),
    "classifier": (
        "classifier_train.LaminiClassifierTrainOperator",
        RECORDED | CLASSES | {"project": "mail", "model_name": MODEL},
    ),
    "evaluate": ("evaluate.LaminiEvaluateOperator", JUDGED | {"model_name": MODEL, "gate": "return"}),
    "evaluate classifier": (
        "evaluate_classifier.LaminiEvaluateClassifierOperator",
        JUDGED | {"model_id": "model-c1"},
    ),
    "resume": ("job_control.LaminiResumeJobOperator", RECORDED | {"job_id": "1"}),
    "cancel": ("job_control.LaminiCancelJobOperator", {"job_id": "1"}),
    "sensor": ("sensors.job.LaminiJobSensor", {"job_id": "1"}),
}
WITHOUT_JOB = ("completion", "chat", "upload", "cancel", "evaluate classifier")
"""Operators without a job to wait for."""

ECHOES = {
    "a detail": lambda sent: json.dumps({"detail": sent}),
    "a list of validation errors": lambda sent: json.dumps(
        {"detail": [{"loc": ["body", "prompt"], "msg": sent, "input": sent}]}
    ),
    "plain text": lambda sent: sent,
    "an object": lambda sent: json.dumps(
        {"status": sent[:300], "model_name": sent, "id": [sent], "job_id": [sent]}
    ),
}


def as_failed_job(answer):
    """Return a response changed to that of a failed job whose reason contains the key."""
    if isinstance(answer, list):
        return [as_failed_job(item) for item in answer]
    why = {"status": "FAILED", "prev_download_error": f"Bearer {KEY} was refused", "logs": [KEY]}
    return answer | why if isinstance(answer, dict) else answer


FAULTS = {
    "none": None,
    "401": Fault(times=None, status=401, echo=ECHOES["a detail"]),
    "422": Fault(times=None, status=422, echo=ECHOES["a list of validation errors"]),
    "500": Fault(times=None, status=500, after=True, echo=ECHOES["plain text"]),
    "200 without JSON": Fault(times=None, after=True, echo=ECHOES["plain text"]),
    "200 and another object": Fault(times=None, echo=ECHOES["an object"]),
    "the job fails": Fault(times=None, change=lambda answer, _: as_failed_job(answer)),
    "dropped": Fault(times=None, after=True, drop=True),
}
WHERE = {"submitting": "(POST|PUT) .*", "polling": "(GET .*|POST .*/status)"}


@contextmanager
def secretive_platform(monkeypatch, conn_id):
    """A platform that is its own proxy, checks the key, and stores its datasets in a blob store."""
    blobs = BlobStore()
    blobs.url = "http://blobs.invalid"
    with faulty_platform() as serving:
        serving.key, serving.blobs = KEY, blobs
        port = serving.url.rsplit(":", 1)[1]
        extra = {
            "proxy": f"http://someone:{PROXY}@127.0.0.1:{port}",
            "headers": {"X-Tenant-Auth": f"Basic {HEADER}"},
            "retry_budget": 0,
            "model_loading_budget": 0,
            "read_timeout": 10,
        }
        fields = {"conn_type": "lamini", "host": "http://platform.invalid", "password": KEY, "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))
        monkeypatch.setenv("AIRFLOW_CONN_HUB", json.dumps({"conn_type": "http", "password": TOKEN}))
        yield serving


@pytest.fixture
def platform(monkeypatch):
    """A platform; ``lamini_default`` connects to it."""
    with secretive_platform(monkeypatch, "lamini_default") as serving:
        yield serving


def prepare(platform, folder):
    """Create a finished job, an index, a classifier, and documents."""
    platform.clear_faults()
    platform.script = [("CREATED", "COMPLETED")]
    platform.polls_needed = 1
    platform.datasets["given"] = 3
    body = {"dataset_id": "given", "upload_file_path": "/given.jsonl", "model_name": MODEL}
    platform.respond("POST", "/v1/train", f"Bearer {KEY}", json.dumps(body).encode())
    platform._build({"files": {"a.txt": b"a"}, "model_name": MODEL}).clear()
    platform.indexes["1"].states = ["COMPLETED"]
    platform.downloads["org/private"] = ["queued", "queued", "available"]
    (folder / "documents").mkdir(parents=True)
    (folder / "documents" / "a.txt").write_text(f"{DOCUMENT}\n")


def operator_maker(name, folder, **more):
    """Return a function that creates an operator."""
    from importlib import import_module

    path, arguments = OPERATORS[name]
    module, kind = path.rsplit(".", 1)
    paths = {f"{{{name}}}": str(folder / name) for name in ("out", "state", "documents")}
    values = {"task_id": "infer"} | more
    if name not in WITHOUT_JOB:
        interval = "poke_interval" if name == "sensor" else "poll_interval"
        values |= {"deferrable": True, "timeout": 1, interval: 0.3} | more
    for key, value in arguments.items():
        for braces, path in paths.items():
            value = value.replace(braces, path) if isinstance(value, str) else value  # noqa: PLW2901
        values[key] = value
    return lambda: getattr(
        import_module(f"airflow_provider_lamini.{'' if '.' in module else 'operators.'}{module}"), kind
    )(**values)


def run(make, traces):
    """Run a task until it ends, and collect everything that it produces."""
    operator, event, method = make(), None, None
    while True:
        try:
            resume = method and getattr(operator, method)
            result = resume({"ti": TI}, event=event) if resume else execute(operator, TI)
        except TaskDeferred as deferred:
            classpath, kwargs = deferred.trigger.serialize()
            traces.add("trigger", json.dumps(kwargs))
            traces.add("trigger", deferred.trigger)
            traces.add("deferral", repr(deferred.kwargs))
            event = asyncio.run(asyncio.wait_for(first_event(load_trigger(classpath, kwargs)), 30))
            traces.add("event", json.dumps(event))
            add_operator(operator, traces)
            operator, method = make(), deferred.method_name
        else:
            traces.add("xcom", json.dumps(result))
            add_operator(operator, traces)
            return


def add_operator(operator, traces):
    """Collect an operator's repr, fields and attributes."""
    traces.add("operator", repr(operator))
    traces.add("arguments", repr({name: getattr(operator, name) for name in operator.template_fields}))
    for name in ("task_run", "hook", "settings"):
        traces.add(name, repr(getattr(operator, name, None)))


def run_with_each_fault(name, platform, folder, traces):
    """Run an operator with each fault; return the errors."""
    failed = []
    for fault_name, fault in FAULTS.items():
        for where, requests in WHERE.items() if fault else {"": ""}.items():
            here = folder / f"{name} {fault_name} {where}".strip().replace(" ", "-")
            prepare(platform, here)
            options = {} if fault or name in WITHOUT_JOB else {"timeout": 20}
            if fault:
                platform.inject(requests, fault)
            try:
                run(operator_maker(name, here, lamini_conn_id=conn_id_of(name), **options), traces)
            except Exception as error:  # noqa: BLE001 - any error is fine
                traces.add_error(f"{name}, {fault_name} while {where}", error)
                failed.append(f"{fault_name}: {error!r}")
    return failed


def conn_id_of(name):
    """Return the connection id of an operator's platform."""
    return f"lamini_{name.replace(' ', '_')}"


@pytest.mark.long
def test_no_secret_and_no_row_is_in_any_trace_of_a_task(monkeypatch, tmp_path):
    """All operators run at the same time, because they mostly wait."""
    traces = Traces()
    with ExitStack() as stack:
        platforms = {
            name: stack.enter_context(secretive_platform(monkeypatch, conn_id_of(name))) for name in OPERATORS
        }
        for name in OPERATORS:  # so that no two threads import the same module
            operator_maker(name, tmp_path)()
        stack.enter_context(collect_logs(traces))
        with ThreadPoolExecutor(len(OPERATORS)) as pool:
            jobs = [
                pool.submit(run_with_each_fault, name, platforms[name], tmp_path, traces)
                for name in OPERATORS
            ]
            failed = {name: job.result(120) for name, job in zip(OPERATORS, jobs, strict=True)}
    traces.add_files(tmp_path, skip=HOLD_ROWS)
    assert min(map(len, failed.values())) >= 5, failed
    assert [each for one in failed.values() for each in one if each.startswith("none")] == []
    assert len(traces.texts) > 1000
    assert [found for secret in SECRETS.values() for found in traces.find(secret)] == []
    shown = [found for text in DATA.values() for found in traces.find(text, skip="rows")]
    assert [found for found in shown if not found.startswith("arguments")] == []


def test_the_search_finds_secrets(tmp_path):
    """Otherwise the tests of this module would prove nothing."""
    traces = Traces()
    with collect_logs(traces):
        import logging

        logging.getLogger("any.other").debug("sent %r", {"Authorization": f"Bearer {KEY}"})
    (tmp_path / "state.json").write_text(json.dumps({"prompt": PROMPT}))
    traces.add_files(tmp_path)
    traces.add_error("an error", ValueError(f"{TOKEN}"))
    assert [len(traces.find(text)) > 0 for text in (KEY, PROMPT, TOKEN, HEADER)] == [True, True, True, False]


@pytest.mark.parametrize("fault", FAULTS)
def test_neither_the_hook_nor_its_connection_test_shows_a_secret(platform, fault):
    traces = Traces()
    if FAULTS[fault]:
        platform.inject(".*", FAULTS[fault])
    with collect_logs(traces), LaminiHook("lamini_default") as hook:
        traces.add("form", hook.test_connection())
        info = hook._connection_info()
        for item in (hook, hook.client(), hook.settings(), info, vars(hook), info.settings.fingerprint):
            traces.add(type(item).__name__, item)
        traces.add("pickled hook", pickle.dumps(hook).decode("latin-1"))
        from airflow_provider_lamini.platforms.lamini.api import completions, models

        for call in (
            models.download("m", "transformer", TOKEN),
            completions.complete(model_name="m", prompt=[PROMPT]),
        ):
            traces.add("call", call)
    assert [found for secret in SECRETS.values() for found in traces.find(secret)] == []
    assert traces.find(PROMPT) == []
