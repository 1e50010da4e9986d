"""Keys, tokens and data stay where they belong, also where the platform repeats all that it was sent.

What tasks leave is searched before Airflow masks anything.
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
from tests.support.secrets_found import Left, everything_logged
from tests.support.tasks import TI, execute, first_event, made

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
HOLD_ROWS = ("part-*", "errors-*", "predictions.jsonl", "report.md", "documents/*")

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
    "resume": ("jobs.LaminiResumeJobOperator", RECORDED | {"job_id": "1"}),
    "cancel": ("jobs.LaminiCancelJobOperator", {"job_id": "1"}),
    "sensor": ("sensors.job.LaminiJobSensor", {"job_id": "1"}),
}
AT_ONCE = ("completion", "chat", "upload", "cancel", "evaluate classifier")
"""Operators that wait for no job."""

ECHOES = {
    "a detail": lambda sent: json.dumps({"detail": sent}),
    "a list of findings": lambda sent: json.dumps(
        {"detail": [{"loc": ["body", "prompt"], "msg": sent, "input": sent}]}
    ),
    "a bare text": lambda sent: sent,
    "an object": lambda sent: json.dumps(
        {"status": sent[:300], "model_name": sent, "id": [sent], "job_id": [sent]}
    ),
}


def failed_badly(answer):
    """The answer about a job that has failed; the reason repeats the key."""
    if isinstance(answer, list):
        return [failed_badly(each) for each in answer]
    why = {"status": "FAILED", "prev_download_error": f"Bearer {KEY} was refused", "logs": [KEY]}
    return answer | why if isinstance(answer, dict) else answer


FAULTS = {
    "none": None,
    "401": Fault(times=None, status=401, echo=ECHOES["a detail"]),
    "422": Fault(times=None, status=422, echo=ECHOES["a list of findings"]),
    "500": Fault(times=None, status=500, after=True, echo=ECHOES["a bare text"]),
    "200 and no JSON": Fault(times=None, after=True, echo=ECHOES["a bare text"]),
    "200 and another object": Fault(times=None, echo=ECHOES["an object"]),
    "the job fails": Fault(times=None, change=lambda answer, _: failed_badly(answer)),
    "dropped": Fault(times=None, after=True, drop=True),
}
WHERE = {"starting": "(POST|PUT) .*", "looking": "(GET .*|POST .*/status)"}


@contextmanager
def secretive_platform(monkeypatch, conn_id):
    """A platform behind a proxy that is itself; it wants the key, and its datasets lie in a blob store."""
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
    """A platform; ``lamini_default`` leads to it."""
    with secretive_platform(monkeypatch, "lamini_default") as serving:
        yield serving


def prepare(platform, folder):
    """A job, an index and a classifier of earlier, and documents."""
    platform.go_right()
    platform.script = [("CREATED", "COMPLETED")]
    platform.looks_needed = 1
    platform.datasets["given"] = 3
    body = {"dataset_id": "given", "upload_file_path": "/given.jsonl", "model_name": MODEL}
    platform.answer("POST", "/v1/train", f"Bearer {KEY}", json.dumps(body).encode())
    platform._build({"files": {"a.txt": b"a"}, "model_name": MODEL}).clear()
    platform.indexes["1"].states = ["COMPLETED"]
    platform.downloads["org/private"] = ["queued", "queued", "available"]
    (folder / "documents").mkdir(parents=True)
    (folder / "documents" / "a.txt").write_text(f"{DOCUMENT}\n")


def operator_maker(name, folder, **more):
    """Return a function that makes an operator anew."""
    from importlib import import_module

    path, arguments = OPERATORS[name]
    module, kind = path.rsplit(".", 1)
    places = {f"{{{each}}}": str(folder / each) for each in ("out", "state", "documents")}
    given = {"task_id": "infer"} | more
    if name not in AT_ONCE:
        often = "poke_interval" if name == "sensor" else "poll_interval"
        given |= {"deferrable": True, "timeout": 1, often: 0.3} | more
    for key, value in arguments.items():
        for mark, place in places.items():
            value = value.replace(mark, place) if isinstance(value, str) else value  # noqa: PLW2901 - as it is filled in
        given[key] = value
    return lambda: getattr(
        import_module(f"airflow_provider_lamini.{'' if '.' in module else 'operators.'}{module}"), kind
    )(**given)


def run(make, left):
    """Run a task to its end, and note all that is left on the way."""
    operator, event, method = make(), None, None
    while True:
        try:
            woken = method and getattr(operator, method)
            result = woken({"ti": TI}, event=event) if woken else execute(operator, TI)
        except TaskDeferred as deferred:
            classpath, kwargs = deferred.trigger.serialize()
            left.add("trigger", json.dumps(kwargs))
            left.add("trigger", deferred.trigger)
            left.add("deferral", repr(deferred.kwargs))
            event = asyncio.run(asyncio.wait_for(first_event(made(classpath, kwargs)), 30))
            left.add("event", json.dumps(event))
            note_operator(operator, left)
            operator, method = make(), deferred.method_name
        else:
            left.add("xcom", json.dumps(result))
            note_operator(operator, left)
            return


def note_operator(operator, left):
    """Note what an operator shows: its repr, its fields, and what it holds."""
    left.add("operator", repr(operator))
    left.add("arguments", repr({name: getattr(operator, name) for name in operator.template_fields}))
    for name in ("hook", "settings", "_waiting"):
        left.add(name, repr(getattr(operator, name, None)))


def through_all_faults(name, platform, folder, left):
    """Run an operator through each fault; returns what failed."""
    failed = []
    for fault, how in FAULTS.items():
        for where, requests in WHERE.items() if how else {"": ""}.items():
            here = folder / f"{name} {fault} {where}".strip().replace(" ", "-")
            prepare(platform, here)
            patience = {} if how or name in AT_ONCE else {"timeout": 20}
            if how:
                platform.go_wrong(requests, how)
            try:
                run(operator_maker(name, here, lamini_conn_id=conn_id_of(name), **patience), left)
            except Exception as error:  # noqa: BLE001 - any end will do
                left.add_error(f"{name}, {fault} while {where}", error)
                failed.append(f"{fault}: {error!r}")
    return failed


def conn_id_of(name):
    """The connection of an operator's platform."""
    return f"lamini_{name.replace(' ', '_')}"


@pytest.mark.long
def test_no_secret_and_no_data_is_left_where_others_may_read_it(monkeypatch, tmp_path):
    """All operators run at once, since they mostly wait."""
    left = Left()
    with ExitStack() as stack:
        platforms = {
            name: stack.enter_context(secretive_platform(monkeypatch, conn_id_of(name))) for name in OPERATORS
        }
        for name in OPERATORS:  # so that no two threads import the same at once
            operator_maker(name, tmp_path)()
        stack.enter_context(everything_logged(left))
        with ThreadPoolExecutor(len(OPERATORS)) as pool:
            jobs = [
                pool.submit(through_all_faults, name, platforms[name], tmp_path, left) for name in OPERATORS
            ]
            failed = {name: job.result(120) for name, job in zip(OPERATORS, jobs, strict=True)}
    left.add_files(tmp_path, but=HOLD_ROWS)
    assert min(map(len, failed.values())) >= 5, failed
    assert [each for one in failed.values() for each in one if each.startswith("none")] == []
    assert len(left.texts) > 1000
    assert [found for secret in SECRETS.values() for found in left.holding(secret)] == []
    shown = [found for text in DATA.values() for found in left.holding(text, but="rows")]
    assert [found for found in shown if not found.startswith("arguments")] == []


def test_the_search_finds_what_is_there(tmp_path):
    """Else it would prove nothing."""
    left = Left()
    with everything_logged(left):
        import logging

        logging.getLogger("any.other").debug("sent %r", {"Authorization": f"Bearer {KEY}"})
    (tmp_path / "state.json").write_text(json.dumps({"prompt": PROMPT}))
    left.add_files(tmp_path)
    left.add_error("an error", ValueError(f"{TOKEN}"))
    assert [len(left.holding(text)) > 0 for text in (KEY, PROMPT, TOKEN, HEADER)] == [True, True, True, False]


@pytest.mark.parametrize("fault", FAULTS)
def test_neither_the_hook_nor_the_test_of_a_connection_shows_a_secret(platform, fault):
    left = Left()
    if FAULTS[fault]:
        platform.go_wrong(".*", FAULTS[fault])
    with everything_logged(left), LaminiHook("lamini_default") as hook:
        left.add("form", hook.test_connection())
        info = hook._connection_info()
        for each in (hook, hook.client(), hook.settings(), info, vars(hook), info.settings.fingerprint):
            left.add(type(each).__name__, each)
        left.add("pickled hook", pickle.dumps(hook).decode("latin-1"))
        from airflow_provider_lamini.platforms.lamini.api import completions, models

        for call in (
            models.download("m", "transformer", TOKEN),
            completions.complete(model_name="m", prompt=[PROMPT]),
        ):
            left.add("call", call)
    assert [found for secret in SECRETS.values() for found in left.holding(secret)] == []
    assert left.holding(PROMPT) == []
