"""A collector of OpenTelemetry on loopback, and what it has received."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Collector:
    """What a collector has received.

    :ivar url: its address
    :ivar metrics: the metrics by name, each as it was last
    :ivar spans: all spans
    """

    url: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    spans: list[Any] = field(default_factory=list)

    def take(self, path: str, body: bytes) -> None:
        """Read the body of a request."""
        if path.endswith("/metrics"):
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in resource.scope_metrics:
                    self.metrics |= {metric.name: metric for metric in scope.metrics}
        else:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def configuration(self, *, metrics: bool = True) -> dict[str, str]:
        """Return the environment in which Airflow sends its spans, and its metrics, to the collector."""
        return {
            "AIRFLOW__METRICS__OTEL_ON": str(metrics),
            "AIRFLOW__TRACES__OTEL_ON": "True",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
        }


def attributes(item: Any) -> dict[str, str]:
    """Return the attributes of a span or of a metric's point that are texts."""
    return {each.key: each.value.string_value for each in item.attributes if each.value.string_value}


@contextmanager
def otlp_collector() -> Iterator[Collector]:
    """Run a collector during the block."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            collector.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        collector.url = f"http://{address}"
        yield collector
