"""The extra fields of a connection, as one table.

The connection form of every Airflow version and the reader of connections are derived from it. The provider's
metadata is read while Airflow itself is being imported, so this module imports nothing of Airflow.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from airflow_provider_lamini.platforms.base import ConnectionField, FieldKind

if TYPE_CHECKING:
    from collections.abc import Mapping


LAMINI_FIELDS: tuple[ConnectionField, ...] = (
    ConnectionField(
        name="connect_timeout",
        kind=FieldKind.NUMBER,
        title="Connect timeout",
        help="Seconds to wait for a connection to the platform. 10 if empty.",
        minimum=0.1,
    ),
    ConnectionField(
        name="read_timeout",
        kind=FieldKind.NUMBER,
        title="Read timeout",
        help="Seconds to wait for an answer. 120 if empty.",
        minimum=0.1,
    ),
    ConnectionField(
        name="verify",
        kind=FieldKind.FLAG,
        title="Verify TLS certificate",
        help="Check the platform's certificate: true or false. True if empty.",
        default=True,
    ),
    ConnectionField(
        name="ca_path",
        kind=FieldKind.TEXT,
        title="CA bundle",
        help="Path of a PEM file with the authorities to trust, on the workers and the triggerer.",
    ),
    ConnectionField(
        name="client_cert",
        kind=FieldKind.TEXT,
        title="Client certificate",
        help="Path of a PEM file with the certificate to show to the platform.",
    ),
    ConnectionField(
        name="client_key",
        kind=FieldKind.TEXT,
        title="Client certificate's key",
        help="Path of a PEM file with the client certificate's private key, where it is a file of its own.",
    ),
    ConnectionField(
        name="proxy",
        kind=FieldKind.SECRET,
        title="Proxy",
        help="URL of a proxy, such as http://user:password@proxy.example.com:3128.",
    ),
    ConnectionField(
        name="headers",
        kind=FieldKind.MAPPING,
        title="Extra headers",
        help='Headers to send with every request, as a JSON object: {"X-Team": "data"}.',
    ),
    ConnectionField(
        name="max_connections",
        kind=FieldKind.INTEGER,
        title="Connections at most",
        help="Connections that one process holds open at most. 20 if empty.",
        minimum=1,
    ),
    ConnectionField(
        name="requests_per_second",
        kind=FieldKind.NUMBER,
        title="Requests per second",
        help="Requests that one process sends per second at most. No limit if empty.",
        minimum=0.001,
    ),
    ConnectionField(
        name="retry_budget",
        kind=FieldKind.NUMBER,
        title="Retry budget",
        help="Seconds to spend at most on passing failures of one call. 300 if empty.",
        minimum=0,
    ),
    ConnectionField(
        name="model_loading_budget",
        kind=FieldKind.NUMBER,
        title="Model loading budget",
        help="Seconds to wait at most for a model that the platform is still loading. 1800 if empty.",
        minimum=0,
    ),
    ConnectionField(
        name="web_url",
        kind=FieldKind.TEXT,
        title="Web address",
        help="URL of the platform's web pages, for links to jobs. The cloud's are known.",
    ),
    ConnectionField(
        name="state_path",
        kind=FieldKind.TEXT,
        title="State path",
        help="Folder or object storage URL for submission records, instead of [lamini] state_path.",
    ),
)

HIDDEN_FIELDS: tuple[str, ...] = ("login",)
LABELS: Mapping[str, str] = MappingProxyType(
    {"host": "Platform URL", "schema": "Scheme", "password": "API key"},
)
PLACEHOLDERS: Mapping[str, str] = MappingProxyType(
    {
        "host": "https://api.lamini.ai",
        "schema": "https (not needed with a full URL)",
        "port": "443",
        "password": "key of the platform's account page",
    },
)
