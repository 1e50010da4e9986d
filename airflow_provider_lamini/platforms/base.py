"""What a platform is: everything that the generic code must know of it, as data.

Airflow reads the connection forms while Airflow itself is being imported, so this module imports only the standard
library.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.api.dialect import Dialect
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.listed import JobList

EXAMPLE_PRICES = '{"*": {"input": 0.2, "output": 0.6}}'
"""How a connection's prices look, for its form and its errors."""


class FieldKind(Enum):
    """The type of a field: decides how forms show it and how its value is parsed."""

    TEXT = "string"
    SECRET = "password"  # noqa: S105 - a kind of field
    NUMBER = "number"
    INTEGER = "integer"
    FLAG = "boolean"
    MAPPING = "object"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionField:
    """One extra field of a connection.

    :param name: key in the connection's extra
    :param kind: type of the value
    :param title: label in forms
    :param help: help text in forms, one or two short sentences
    :param default: initial value in forms; ``None`` leaves the field empty
    :param minimum: smallest value that forms accept
    """

    name: str
    kind: FieldKind
    title: str
    help: str
    default: bool | None = None
    minimum: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionForm:
    """The connection type of a platform. Forms, provider metadata and the connection reader are derived from it.

    :param conn_type: the connection type, which is also the platform's name and its configuration section
    :param title: the platform's name in forms and messages, such as ``Acme``
    :param hook_class_name: import path of the hook
    :param docs_url: the platform's documentation
    :param default_url: base URL of the platform's cloud
    :param web_url: URL of the cloud's web pages, without a trailing slash; ``None`` if it has none
    :param fields: the extra fields, in the order of the form
    :param hidden_fields: Airflow's own fields that the form does not show
    :param labels: labels of Airflow's own fields
    :param placeholders: sample values of Airflow's own fields
    """

    conn_type: str
    title: str
    hook_class_name: str
    docs_url: str
    default_url: str
    web_url: str | None = None
    fields: tuple[ConnectionField, ...]
    hidden_fields: tuple[str, ...] = ("login",)
    labels: Mapping[str, str] = field(
        default_factory=lambda: {"host": "Platform URL", "schema": "Scheme", "password": "API key"}
    )
    placeholders: Mapping[str, str] = field(default_factory=dict)

    @property
    def field_names(self) -> frozenset[str]:
        """Names of the extra fields."""
        return frozenset(entry.name for entry in self.fields)

    def cloud_web_url(self, base_url: str) -> str | None:
        """Return the URL of the cloud's web pages if a base URL is the cloud's.

        :param base_url: the connection's
        """
        is_cloud = urlsplit(base_url).hostname == urlsplit(self.default_url).hostname
        return self.web_url if is_cloud else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How a connection is tested.

    :param call: one cheap ``GET`` that needs the key
    :param describe: turns its result into a few words, such as ``models downloaded: 3``
    """

    call: Call[Any]
    describe: Callable[[Any], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A platform with a job API.

    :param form: its connection type
    :param dialect: how it speaks HTTP
    :param job_kinds: its kinds of jobs, by their short names
    :param probe: how a connection to it is tested
    :param job_pages: paths of web pages of jobs by the kind's short name, with ``{job_id}``
    :param job_lists: the lists of jobs that Airflow's page of jobs can show
    """

    form: ConnectionForm
    dialect: Dialect
    job_kinds: Mapping[str, JobKind]
    probe: Probe
    job_pages: Mapping[str, str] = field(default_factory=dict)
    job_lists: tuple[JobList, ...] = ()

    @property
    def name(self) -> str:
        """The name in job kinds, connections and the configuration, such as ``acme``."""
        return self.form.conn_type

    @property
    def title(self) -> str:
        """The name in messages, such as ``Acme``."""
        return self.form.title

    def job_page(self, kind: str, job_id: str) -> str | None:
        """Return the path of a job's web page; ``None`` if jobs of this kind have none.

        :param kind: short name of the kind
        :param job_id: the platform's id of the job
        """
        path = self.job_pages.get(kind)
        return path.format(job_id=quote(job_id, safe="")) if path else None


def common_fields(platform: str) -> tuple[ConnectionField, ...]:
    """Return the extra fields that the connections of all platforms have.

    :param platform: the platform's name
    """
    return (
        ConnectionField(
            name="connect_timeout",
            kind=FieldKind.NUMBER,
            title="Connect timeout",
            help="Seconds to wait for a connection to the platform. Default: 10.",
            minimum=0.1,
        ),
        ConnectionField(
            name="read_timeout",
            kind=FieldKind.NUMBER,
            title="Read timeout",
            help="Seconds to wait for a response. Default: 120.",
            minimum=0.1,
        ),
        ConnectionField(
            name="verify",
            kind=FieldKind.FLAG,
            title="Verify TLS certificate",
            help="Check the platform's certificate: true or false. Default: true.",
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
            help="Path of a PEM file with the certificate to present to the platform.",
        ),
        ConnectionField(
            name="client_key",
            kind=FieldKind.TEXT,
            title="Client certificate's key",
            help="Path of a PEM file with the client certificate's private key, if it is in a separate file.",
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
            title="Maximum connections",
            help="Maximum number of connections that one process opens. Default: 20.",
            minimum=1,
        ),
        ConnectionField(
            name="requests_per_second",
            kind=FieldKind.NUMBER,
            title="Requests per second",
            help="Maximum number of requests that one process sends per second. Default: no limit.",
            minimum=0.001,
        ),
        ConnectionField(
            name="tokens_per_minute",
            kind=FieldKind.NUMBER,
            title="Tokens per minute",
            help="Maximum number of tokens that one process sends per minute, by estimate. Default: no limit.",
            minimum=1,
        ),
        ConnectionField(
            name="retry_budget",
            kind=FieldKind.NUMBER,
            title="Retry budget",
            help="Maximum seconds that one call spends on retries of transient errors. Default: 300.",
            minimum=0,
        ),
        ConnectionField(
            name="model_loading_budget",
            kind=FieldKind.NUMBER,
            title="Model loading budget",
            help="Maximum seconds to wait for a model that the platform is still loading. Default: 1800.",
            minimum=0,
        ),
        ConnectionField(
            name="max_result_mb",
            kind=FieldKind.NUMBER,
            title="Maximum result size",
            help="Maximum size of one response with results of rows, in MB. Default: 1000.",
            minimum=1,
        ),
        ConnectionField(
            name="prices",
            kind=FieldKind.MAPPING,
            title="Prices",
            help=f"Prices per million tokens by model, * for all others: {EXAMPLE_PRICES}.",
        ),
        ConnectionField(
            name="web_url",
            kind=FieldKind.TEXT,
            title="Web address",
            help="URL of the platform's web pages, for links to jobs. Not needed for the cloud.",
        ),
        ConnectionField(
            name="state_path",
            kind=FieldKind.TEXT,
            title="State path",
            help=f"Folder or object storage URL for submission records, instead of [{platform}] state_path.",
        ),
    )
