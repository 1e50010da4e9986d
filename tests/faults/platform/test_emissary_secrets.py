"""No key and no row appears in what Emissary's operators leave, even if the platform repeats everything that it was sent."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from tests.bad_input.world import VALID_ARGUMENTS, StrictEmissary, operator_classes
from tests.faults.platform.test_secrets import run
from tests.support.scripted_platform import Refusal, serving
from tests.support.traces import Traces, collect_logs

KEY = "em-live-Pw72Hc91nXbR40sT"
HEADER = "tenant-credential-3Kd8Vz1QmY"
PROMPT = "what of the merger with ACME by friday"
ANSWER = "the patient of row 4711 has a broken leg"
ROWS = [{"input": f"{PROMPT} {number}", "output": ANSWER} for number in range(3)]
HOLD_ROWS = ("part-*", "errors-*")
OPERATORS = {name: kind for name, kind in operator_classes().items() if name.startswith("Emissary")}
WITH_ROWS = {
    "EmissaryUploadDatasetOperator": {"input": ROWS},
    "EmissaryBatchInferenceOperator": {"input": ROWS, "prompt": "input"},
}
MAY_WAIT = {
    *("EmissaryUploadDatasetOperator", "EmissaryTrainOperator", "EmissaryGRPOTrainOperator"),
    *("EmissaryDeployOperator", "EmissaryEngineOperator", "EmissaryReactivateOperator"),
    *("EmissaryDeactivateEngineOperator", "EmissaryJobSensor"),
}


class Echo(StrictEmissary):
    """An Emissary that repeats what it was sent in its responses.

    :ivar fault: one of `FAULTS`
    :ivar methods: the methods whose requests get the fault
    """

    fault = "none"
    methods = ("GET", "POST", "DELETE")

    def respond(self, method, path, key, content):
        sent = f"{method} {path} {key} {HEADER} {content.decode(errors='replace')}"
        if self.fault == "none" or method not in self.methods:
            return super().respond(method, path, key, content)
        if self.fault == "200 and a text":
            return sent
        if self.fault == "200 and another object":
            return {"id": [sent], "name": sent, "status": sent[:300], "job_id": {"a": sent}}
        if self.fault == "the job fails":
            return as_failed_job(super().respond(method, path, key, content))
        raise Refusal(int(self.fault), sent)


def as_failed_job(answer):
    """Return a response changed to that of a failed job whose reason contains the key."""
    if isinstance(answer, list):
        return [as_failed_job(item) for item in answer]
    if not isinstance(answer, dict) or "status" not in answer:
        return answer
    return answer | {"status": "Failed", "error": f"{KEY} was refused", "failure_reason": f"{KEY}: {PROMPT}"}


FAULTS = ("none", "401", "422", "500", "200 and a text", "200 and another object", "the job fails")


@contextmanager
def platform_for(name, monkeypatch):
    """An Emissary for one operator, with a connection of its own."""
    platform = Echo()
    platform.key = KEY
    with serving(platform):
        fields = {
            "conn_type": "emissary",
            "host": platform.url,
            "password": KEY,
            "extra": {
                "headers": {"X-Tenant-Auth": HEADER},
                "retry_budget": 0,
                "model_loading_budget": 0,
                "read_timeout": 10,
            },
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))
        yield platform


def make(name, folder, timeout):
    """Return a new operator."""
    arguments = VALID_ARGUMENTS[name] | WITH_ROWS.get(name, {})
    arguments = {
        key: value.replace("{out}", str(folder / "out")) if isinstance(value, str) else value
        for key, value in arguments.items()
    }
    if name in MAY_WAIT:
        interval = "poke_interval" if name.endswith("Sensor") else "poll_interval"
        arguments |= {"deferrable": True, "timeout": timeout, interval: 0.3}
    return OPERATORS[name](task_id="one", emissary_conn_id=name, **arguments)


def run_with_each_fault(name, platform, folder, traces):
    """Run an operator with each fault; return the errors by fault."""
    failed = {}
    for fault in FAULTS:
        for methods in (("GET",), ("POST", "DELETE")) if fault != "none" else ((),):
            platform.reset()
            platform.fault, platform.methods = fault, methods
            here = folder / f"{name} {fault} {'-'.join(methods)}".strip()
            try:
                run(lambda here=here, fault=fault: make(name, here, 20 if fault == "none" else 1), traces)
            except Exception as error:  # noqa: BLE001 - any error is fine
                traces.add_error(f"{name}, {fault}, {methods}", error)
                failed[f"{fault} {methods}"] = repr(error)
    return failed


@pytest.mark.long
def test_no_secret_and_no_row_is_in_any_trace_of_an_emissary_task(monkeypatch, tmp_path):
    """All operators run at the same time, because they mostly wait."""
    assert len(OPERATORS) >= 13
    traces = Traces()
    with ExitStack() as stack:
        platforms = {name: stack.enter_context(platform_for(name, monkeypatch)) for name in OPERATORS}
        stack.enter_context(collect_logs(traces))
        with ThreadPoolExecutor(len(OPERATORS)) as pool:
            jobs = {
                name: pool.submit(run_with_each_fault, name, platforms[name], tmp_path, traces)
                for name in OPERATORS
            }
            failed = {name: job.result(120) for name, job in jobs.items()}
    traces.add_files(tmp_path, skip=HOLD_ROWS)
    assert {name: errors for name, errors in failed.items() if len(errors) < 2 or "none ()" in errors} == {}
    assert len(traces.texts) > 1000
    assert [found for secret in (KEY, HEADER) for found in traces.find(secret)] == []
    shown = [found for text in (PROMPT, ANSWER) for found in traces.find(text, skip="rows")]
    assert [found for found in shown if not found.startswith("arguments")] == []
