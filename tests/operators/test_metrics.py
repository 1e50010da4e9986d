"""The metrics of tasks and triggers in Airflow's Stats, and what a collector of OpenTelemetry receives."""

from __future__ import annotations

import inspect
import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from airflow_provider_lamini.api.errors import UnavailableError
from airflow_provider_lamini.api.traffic import TRAFFIC
from airflow_provider_lamini.hooks import telemetry
from airflow_provider_lamini.operators.chat import LaminiChatOperator
from airflow_provider_lamini.operators.emissary.batch_inference import EmissaryBatchInferenceOperator
from tests.support.forks import warm_python
from tests.support.statsd import statsd_configuration, statsd_metrics, statsd_server
from tests.support.tasks import WAITING, execute, run_to_end

PREFIX = "airflow_provider_lamini."


try:
    from airflow.sdk._shared.observability.metrics import stats
    from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
except ImportError:  # before Airflow 3.2
    from airflow.metrics.base_stats_logger import NoStatsLogger

    stats = None


class Recorder(NoStatsLogger):
    """A backend of Airflow's metrics that keeps them."""

    def __init__(self):
        self.counters = Counter()
        self.timings = []
        self.calls = 0

    def incr(self, stat, count=1, rate=1, *, tags=None):
        del rate
        if not stat.startswith(PREFIX):
            return
        self.calls += 1
        self.counters[stat, tuple(sorted((tags or {}).items()))] += count

    def timing(self, stat, dt, *, tags=None):
        if not stat.startswith(PREFIX):
            return
        self.calls += 1
        self.timings.append((stat, dt.total_seconds(), tags or {}))

    def total(self, name, **tags):
        """The sum of a counter over all metrics with these tags."""
        return sum(
            count
            for (stat, found), count in self.counters.items()
            if stat == PREFIX + name and tags.items() <= dict(found).items()
        )


@pytest.fixture
def metrics(monkeypatch):
    """What reaches Airflow's metrics."""
    recorder = Recorder()
    TRAFFIC.take()
    if hasattr(stats, "_backend"):
        monkeypatch.setattr(stats, "_backend", recorder)
    else:  # before Airflow 3.3
        from airflow.providers.common.compat.sdk import Stats

        monkeypatch.setattr(Stats, "instance", recorder, raising=False)
        monkeypatch.setattr(Stats, "_instance_pid", os.getpid(), raising=False)
    return recorder


def test_a_run_over_rows_counts_rows_tokens_requests_and_waits(inference, metrics):
    ended = run_to_end(inference(chunk_size=5))
    assert metrics.total("rows_ok", platform="lamini", kind="batch_completions") == 25
    assert metrics.total("rows_failed") == 0
    assert metrics.total("requests", operation="batch_completion_v1_batch_completions_post") == 5
    assert metrics.total("requests", platform="lamini") == metrics.total("requests") > 10
    assert metrics.total("retries") == metrics.total("failures") == 0
    waits = [(seconds, tags) for stat, seconds, tags in metrics.timings if stat == PREFIX + "wait"]
    assert len(waits) == len(ended.deferrals)
    assert all(
        tags == {"platform": "lamini", "kind": "batch_completions"} and seconds > 0 for seconds, tags in waits
    )


def test_each_row_is_counted_once_over_deferrals_and_failed_rows_apart(inference, metrics):
    rows = ["fine", "", "fine too"] * 4
    run_to_end(inference(input=rows, on_bad_row="error", max_failed_rows=None, chunk_size=3, max_in_flight=1))
    assert metrics.total("rows_ok") == 8
    assert metrics.total("rows_failed") == 4


def test_reused_rows_are_counted_apart(inference, metrics, out):
    run_to_end(inference())
    run_to_end(inference(output=f"{out}-again", reuse_from=str(out)))
    assert metrics.total("rows_reused") == 25


def test_retries_and_their_pauses_are_counted(platform, metrics):
    platform.control.fault(path="/inf/chat/completions", status=503, times=1)
    execute(LaminiChatOperator(task_id="chat", messages="hello", model_name=platform.models[0]))
    assert metrics.total("retries", platform="lamini") == 1
    (pause,) = [seconds for stat, seconds, _ in metrics.timings if stat == PREFIX + "retry_pause"]
    assert pause > 0
    assert metrics.total("rows_ok", kind="requests") == 1
    assert metrics.total("completion_tokens", kind="requests") > 0


def test_a_call_that_fails_for_good_is_counted(platform, metrics):
    platform.control.fault(path="/inf/chat/completions", status=503, times=None)
    with pytest.raises(UnavailableError):
        execute(LaminiChatOperator(task_id="chat", messages="hello", model_name=platform.models[0]))
    assert metrics.total("failures") == 1
    assert metrics.total("rows_ok") == 0


def test_emissary_is_counted_under_its_own_name(emissary, metrics, out):
    emissary.new("deployment", ("Deployed",), name="live")
    run_to_end(
        lambda: EmissaryBatchInferenceOperator(
            task_id="infer",
            input=["a", "b"],
            output=str(out),
            model_name="live",
            project_id="ms-1",
            **WAITING,
        )
    )
    assert metrics.total("rows_ok", platform="emissary", kind="requests") == 2
    assert metrics.total("prompt_tokens", platform="emissary") > 0
    assert metrics.total("requests", platform="lamini") == 0


def test_the_number_of_reports_and_of_tag_values_does_not_grow_with_the_rows(inference, metrics, out):
    run_to_end(inference(chunk_size=1000))
    small, names = metrics.calls, set(metrics.counters)
    metrics.counters.clear()
    metrics.calls = 0
    rows = [f"row {number}" for number in range(500)]
    run_to_end(inference(input=rows, output=f"{out}-large", chunk_size=1000))
    assert metrics.total("rows_ok") == 500
    # Each poll may be reported, and a slow platform is polled more often.
    assert metrics.calls <= small + metrics.total("requests")
    assert set(metrics.counters) <= names


def documented_names():
    """The names in the table of the documentation."""
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    table = page.partition("## Metrics")[2].partition("The tags take")[0]
    heads = (line.split("|")[1] for line in table.splitlines() if "|" in line)
    return {name for head in heads for name in re.findall(r"`(\w+)`", head)}


def test_the_documentation_names_every_metric_and_no_other():
    code = inspect.getsource(telemetry)
    reported = set(re.findall(r'_count\("(\w+)"', code)) | set(
        re.findall(r'timing\(f"{PREFIX}\.(\w+)"', code)
    )
    assert documented_names() == reported | {
        "rows_ok",
        "rows_failed",
        "rows_reused",
        "prompt_tokens",
        "completion_tokens",
    }


WARM = """
import httpx
from airflow.providers.common.compat.sdk import BaseOperator, conf
from opentelemetry import trace
from airflow_provider_lamini.operators import batch_inference, chat
from airflow_provider_lamini.operators.emissary import batch_inference
from tests.support import tasks
"""
SET_UP = """
import sys
from opentelemetry import trace
import airflow.settings
if hasattr(airflow.settings, "configure_otel"):  # what the import has done with the configuration of that moment
    airflow.settings.configure_otel(airflow.settings.conf)
try:
    from airflow.sdk._shared.observability.metrics import stats
    from airflow.sdk.observability.metrics import stats_utils
except ImportError:  # before Airflow 3.2
    pass
else:
    if hasattr(stats, "initialize"):
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
    else:  # Airflow 3.2
        stats.Stats.initialize(factory=stats_utils.get_stats_factory(stats.Stats))
"""
FLUSH = """
getattr(trace.get_tracer_provider(), "force_flush", lambda: None)()
"""
BATCH_RUN = """
from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
from tests.support.tasks import WAITING, run_to_end
model, output = sys.argv[1:]
with trace.get_tracer("test").start_as_current_span("worker.infer"):
    run_to_end(lambda: LaminiBatchInferenceOperator(
        task_id="infer", input=["a", "b", "c"], model_name=model, output=output, **WAITING))
"""


@pytest.fixture(scope="module")
def run_in_airflow():
    """Returns a function that runs code in a process of Airflow with a configuration."""
    with warm_python(WARM if hasattr(stats, "initialize") else "") as python:
        yield lambda code, *arguments, **configuration: python.run(
            SET_UP + code + FLUSH, *arguments, **configuration
        )


@pytest.fixture
def infer(run_in_airflow, platform, out):
    """Returns a function that runs a batch of three rows in a process of Airflow with a configuration."""
    return lambda **configuration: run_in_airflow(BATCH_RUN, platform.models[0], str(out), **configuration)


@pytest.mark.long
def test_a_collector_of_opentelemetry_receives_metrics_and_spans(infer):
    pytest.importorskip("airflow.sdk.observability")
    from tests.support.otlp import attributes, otlp_collector

    with otlp_collector() as collector:
        infer(**collector.configuration())
    prefix = f"airflow.{PREFIX}"
    (rows,) = collector.metrics[f"{prefix}rows_ok"].sum.data_points
    assert attributes(rows) == {"platform": "lamini", "kind": "batch_completions"}
    assert max(rows.as_int, rows.as_double) == 3
    names = {name.removeprefix(prefix) for name in collector.metrics if name.startswith(prefix)}
    assert {"requests", "wait"} <= names <= documented_names()

    (task,) = [span for span in collector.spans if span.name == "worker.infer"]
    ours = [span for span in collector.spans if span.name.startswith(PREFIX)]
    assert {span.name for span in ours} == {f"{PREFIX}advance", f"{PREFIX}wait"}
    assert {span.parent_span_id for span in ours} <= {task.span_id, b""}
    wait = next(span for span in ours if span.name == f"{PREFIX}wait")
    assert attributes(wait)["kind"] == "batch_completions"


EMISSARY_RUN = """
from airflow_provider_lamini.operators.emissary.batch_inference import EmissaryBatchInferenceOperator
from tests.support.tasks import execute
execute(EmissaryBatchInferenceOperator(
    task_id="infer", input=["a b", "c"], output=sys.argv[1], model_name="live", project_id="ms-1"))
"""
CHAT_RUN = """
from airflow_provider_lamini.api.errors import UnavailableError
from airflow_provider_lamini.operators.chat import LaminiChatOperator
from tests.support.tasks import execute
execute(LaminiChatOperator(task_id="chat", messages="hello", model_name=sys.argv[1]))
try:
    execute(LaminiChatOperator(task_id="chat", messages="refuse this", model_name=sys.argv[1]))
except UnavailableError:
    pass
else:
    raise AssertionError
"""


def scraped_by_statsd(run_in_airflow, code, *arguments):
    """Run code, and return what a StatsD server with tags has received: the sums by name and tags."""
    with statsd_server() as server:
        run_in_airflow(
            code, *arguments, **statsd_configuration(server), AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED="True"
        )
        received = statsd_metrics(server)
    found = Counter()
    for (name, _), values in received.items():
        head, *tags = name.split(",")
        found[head, frozenset(tag.partition("=")[::2] for tag in tags)] += sum(values)
    return found


def scraped_by_opentelemetry(run_in_airflow, code, *arguments):
    """The same for a collector of OpenTelemetry; of timers, the last time."""
    from tests.support.otlp import attributes, otlp_collector

    with otlp_collector() as collector:
        run_in_airflow(code, *arguments, **collector.configuration())
    found = Counter()
    for name, metric in collector.metrics.items():
        for point in getattr(metric, metric.WhichOneof("data")).data_points:
            tags = frozenset(attributes(point).items())
            found[name, tags] += max(point.as_int, point.as_double) if hasattr(point, "as_int") else point.sum
    return found


@pytest.fixture(params=["statsd", "airflow.sdk.observability"])
def scrape(request, run_in_airflow):
    """Returns a function that runs code in a process of Airflow and returns the received metrics with some tags."""
    pytest.importorskip(request.param)
    scraped = scraped_by_statsd if request.param == "statsd" else scraped_by_opentelemetry

    def run(code, *arguments):
        found = scraped(run_in_airflow, code, *arguments)

        def total(name, **tags):
            return sum(
                count
                for (stat, having), count in found.items()
                if stat == f"airflow.{PREFIX}{name}" and tags.items() <= dict(having).items()
            )

        return total

    return run


@pytest.mark.long
def test_rows_tokens_and_retries_of_emissary_are_scraped(emissary, scrape, out):
    emissary.new("deployment", ("Deployed",), name="live")
    emissary.fail["/v1/completions"] = [(503, "busy")]
    total = scrape(EMISSARY_RUN, str(out))
    rows = {"platform": "emissary", "kind": "requests"}
    manifest = json.loads((out / "manifest.json").read_text())
    assert total("rows_ok") == total("rows_ok", **rows) == 2
    for name in ("prompt_tokens", "completion_tokens"):
        assert total(name) == total(name, **rows) == manifest["counts"]["sums"][name] > 0
    assert total("requests", platform="emissary") == total("requests") > 2
    assert total("retries") == total("retries", platform="emissary") == 1
    assert total("retry_pause", platform="emissary") > 0


@pytest.mark.long
def test_tokens_retries_and_failures_of_lamini_are_scraped(platform, scrape):
    platform.control.fault(path="/inf/chat/completions", contains="hello", status=503, times=1)
    platform.control.fault(path="/inf/chat/completions", contains="refuse", status=503, times=None)
    total = scrape(CHAT_RUN, platform.models[0])
    assert total("rows_ok", platform="lamini", kind="requests") == 1
    assert total("prompt_tokens", platform="lamini", kind="requests") > 0
    assert total("completion_tokens", platform="lamini", kind="requests") > 0
    assert total("failures", platform="lamini") == 1
    assert total("retries", platform="lamini") > 1
    assert total("retry_pause", platform="lamini") > 0


BATCH = "batch_completion_v1_batch_completions_post"
FORMS = {
    "plain": ({}, lambda name, **_: name),
    "influxdb": (
        {"AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True"},
        lambda name, **tags: ",".join([name, *(f"{key}={value}" for key, value in tags.items())]),
    ),
    "datadog": (
        {"AIRFLOW__METRICS__STATSD_DATADOG_ENABLED": "True", "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "0"},
        lambda name, **tags: f"{name}#{','.join(f'{key}:{value}' for key, value in tags.items())}",
    ),
}
"""Dialects of StatsD: the configuration that chooses one, and how it writes a name with its tags."""


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS)
def test_a_statsd_server_receives_the_documented_names_and_tags(infer, form):
    pytest.importorskip("datadog" if form == "datadog" else "statsd")
    configuration, named = FORMS[form]
    with statsd_server() as server:
        infer(**statsd_configuration(server), **configuration)
        found = statsd_metrics(server)
    prefix = f"airflow.{PREFIX}"
    ours = {(name, kind): values for (name, kind), values in found.items() if name.startswith(prefix)}
    of_kind = {"platform": "lamini", "kind": "batch_completions"}
    assert ours[named(f"{prefix}rows_ok", **of_kind), "c"] == [3]
    submitted = named(f"{prefix}requests", platform="lamini", operation=BATCH)
    assert sum(ours[submitted, "c"]) >= 1
    assert all(value >= 0 for value in ours[named(f"{prefix}wait", **of_kind), "ms"])
    names = {re.split(r"[,#]", name)[0] for name, _ in ours}
    assert names <= {prefix + name for name in documented_names()}
