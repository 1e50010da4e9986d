"""From an Airflow connection to the settings of a client."""

from __future__ import annotations

import json
import pickle
import re
from contextlib import suppress
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, BaseHook, Connection
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.hooks.connection import (
    InvalidConnectionError,
    connection_info,
    read_connection,
)
from airflow_provider_lamini.platforms.base import FieldKind
from airflow_provider_lamini.platforms.lamini.platform import PLATFORM

KEY = "lamini-test-key-0123456789"


def info_from(conn):
    return connection_info(conn, PLATFORM)


def settings_from(conn):
    return info_from(conn).settings


def connection(**changes):
    extra = changes.pop("extra", None)
    given = {
        "conn_id": "lamini_default",
        "conn_type": "lamini",
        "host": "https://api.lamini.ai",
        "password": KEY,
    }
    text = extra if extra is None or isinstance(extra, str) else json.dumps(extra)
    return Connection(**{**given, **changes}, extra=text)


def problem(**changes):
    with pytest.raises(InvalidConnectionError) as caught:
        settings_from(connection(**changes))
    assert KEY not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("host", "schema", "port", "expected"),
    [
        ("api.lamini.ai", None, None, "https://api.lamini.ai"),
        ("  api.lamini.ai\n", "", None, "https://api.lamini.ai"),
        ("https://api.lamini.ai/", None, None, "https://api.lamini.ai"),
        ("https://api.lamini.ai", None, 0, "https://api.lamini.ai"),
        ("localhost", "http", 8000, "http://localhost:8000"),
        ("localhost:8000", "HTTP", None, "http://localhost:8000"),
        ("localhost:8000", "http", 8000, "http://localhost:8000"),
        ("https://gateway.example.com/llm/lamini/", None, None, "https://gateway.example.com/llm/lamini"),
        ("gateway.example.com/llm", None, 8443, "https://gateway.example.com:8443/llm"),
        ("https://gateway.example.com", "https", 8443, "https://gateway.example.com:8443"),
        ("https://gateway.example.com:8443/llm", "https", 8443, "https://gateway.example.com:8443/llm"),
        ("::1", "http", 8000, "http://[::1]:8000"),
        ("http://[::1]:8000", None, None, "http://[::1]:8000"),
    ],
)
def test_host_schema_and_port_make_one_url(host, schema, port, expected):
    assert settings_from(connection(host=host, schema=schema, port=port)).base_url == expected


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"host": None},
            "Platform URL (host) is empty: set it to the platform's URL, such as https://api.lamini.ai",
        ),
        ({"host": "   "}, "Platform URL (host) is empty"),
        ({"host": "ftp://api.lamini.ai"}, "Platform URL (host) must begin with http:// or https://"),
        ({"host": "https://"}, "Platform URL (host) has no valid host"),
        (
            {"host": "https://user:pass@api.lamini.ai"},
            "Platform URL (host) must not contain a user name or password",
        ),
        ({"host": "https://api.lamini.ai/?x=1"}, "and what follows"),
        ({"host": "api.lamini.ai:https"}, "Platform URL (host) is not a valid URL"),
        (
            {"host": "http://api.lamini.ai", "schema": "https"},
            "Platform URL (host) begins with http://, but Scheme is https",
        ),
        (
            {"host": "https://api.lamini.ai:8443", "port": 443},
            "Platform URL (host) contains port 8443, but Port is 443",
        ),
        (
            {"schema": "v1"},
            "Scheme must be http or https, not 'v1'; to give a path, put the full URL into Platform URL",
        ),
        ({"port": 70000}, "Port must be between 1 and 65535, not 70000"),
        ({"password": None}, "API key (password) is empty: set it to the platform's key"),
        ({"password": " \n"}, "API key (password) is empty"),
        ({"password": f"{KEY} and more"}, "API key (password) must be printable ASCII"),
    ],
)
def test_the_error_of_an_invalid_field_is_one_sentence_that_names_it(changes, named):
    message = problem(**changes)
    assert message.startswith("Connection 'lamini_default': ")
    assert named in message
    assert message.endswith(".")
    assert not message.endswith("..")


def test_a_connection_of_another_type_is_named_first():
    assert problem(conn_type="http", password=None) == (
        "Connection 'lamini_default': It has type 'http', not 'lamini': use a connection of that type. "
        "API key (password) is empty: set it to the platform's key."
    )


def test_a_connection_of_another_type_is_warned_of_once(monkeypatch, caplog):
    fields = {"conn_type": "http", "host": "https://api.lamini.ai", "password": KEY}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER_TYPE", json.dumps(fields))
    for _ in range(2):
        read_connection("other_type", PLATFORM)
    # Airflow 3.0 warns of a missing key of its own.
    ours = [record for record in caplog.records if record.name.startswith("airflow_provider_lamini")]
    assert [record.getMessage() for record in ours if record.levelname == "WARNING"] == [
        "Connection 'other_type' has type 'http', not 'lamini': check that it leads to the platform."
    ]


def test_a_password_in_the_host_is_not_shown():
    assert "hunter2" not in problem(host="https://user:hunter2@api.lamini.ai")
    assert "hunter2" not in problem(host="user:hunter2")


def test_a_key_is_trimmed_and_never_shown():
    info = info_from(connection(password=f" {KEY}\n"))
    assert info.settings.key == KEY
    assert KEY not in repr(info)


def test_the_environment_does_not_replace_a_missing_key(monkeypatch):
    monkeypatch.setenv("LAMINI_API_KEY", KEY)
    assert "API key (password) is empty" in problem(password=None)


def test_extras_become_settings():
    settings = settings_from(
        connection(
            extra={
                "connect_timeout": 3,
                "read_timeout": 4.5,
                "ca_path": "/certs/ca.pem",
                "client_cert": "/certs/client.pem",
                "client_key": "/certs/client.key",
                "proxy": "http://proxy.example.com:3128",
                "headers": {"X-Team": "data", "X-Number": 7},
                "max_connections": 5,
                "requests_per_second": 0.5,
                "tokens_per_minute": 90000,
                "retry_budget": 0,
                "model_loading_budget": 60,
            }
        )
    )
    assert (settings.connect_timeout, settings.read_timeout) == (3.0, 4.5)
    assert (settings.verify, settings.client_cert) == ("/certs/ca.pem", "/certs/client.pem")
    assert settings.client_key == "/certs/client.key"
    assert settings.proxy == "http://proxy.example.com:3128"
    assert settings.headers == {"X-Team": "data", "X-Number": "7"}
    assert (settings.max_connections, settings.requests_per_second) == (5, 0.5)
    assert settings.tokens_per_minute == 90_000.0
    assert (settings.retry_budget, settings.model_loading_budget) == (0.0, 60.0)


def test_extras_as_text_have_the_same_meaning():
    as_json = {
        "connect_timeout": 3,
        "verify": False,
        "headers": {"X-Team": "data"},
        "max_connections": 5,
        "requests_per_second": 0.5,
        "tokens_per_minute": 90000,
    }
    as_text = {
        "extra__lamini__connect_timeout": " 3 ",
        "verify": "False",
        "headers": '{"X-Team": "data"}',
        "max_connections": "5",
        "requests_per_second": "0.5",
        "tokens_per_minute": "90000",
    }
    assert settings_from(connection(extra=as_json)) == settings_from(connection(extra=as_text))


def test_empty_extras_mean_the_default():
    """Forms deliver an empty text or null for a field that nobody filled in."""
    plain = settings_from(connection())
    for nothing in ("", "  ", None):
        assert settings_from(connection(extra=dict.fromkeys(names(), nothing))) == plain


def test_a_plain_name_takes_precedence_over_the_prefixed_one_of_older_forms():
    both = {"read_timeout": 7, "extra__lamini__read_timeout": "9"}
    assert settings_from(connection(extra=both)).read_timeout == 7


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"connect_timeout": "soon"}, "connect_timeout must be a number, not 'soon'"),
        ({"connect_timeout": True}, "connect_timeout must be a number"),
        ({"connect_timeout": 0}, "connect_timeout must be a number above 0"),
        ({"read_timeout": "inf"}, "read_timeout must be a number above 0"),
        ({"retry_budget": -1}, "retry_budget must be a number of at least 0"),
        ({"verify": "no"}, "verify must be true or false, not 'no'"),
        ({"verify": "/certs/ca.pem"}, "verify must be true or false"),
        ({"verify": False, "ca_path": "/certs/ca.pem"}, "verify is false, but ca_path is set"),
        ({"ca_path": 7}, "ca_path must be text"),
        ({"client_key": "/certs/client.key"}, "client_key is set without client_cert"),
        ({"proxy": "proxy.example.com:3128"}, "proxy must be a URL"),
        ({"headers": "X-Team: data"}, "headers must be a JSON object"),
        ({"headers": ["X-Team"]}, "headers must be a JSON object"),
        ({"headers": {"X-Team": ["data"]}}, "headers: the value of 'X-Team' must be text"),
        ({"headers": {"X Team": "data"}}, "headers: 'X Team' is not a valid header name"),
        ({"headers": {"X-Team": "a\nb"}}, "headers: the value of X-Team must be"),
        ({"max_connections": 2.5}, "max_connections must be a whole number, not 2.5"),
        ({"max_connections": 0}, "max_connections must be a whole number of at least 1"),
        ({"requests_per_second": 0}, "requests_per_second must be a number above 0"),
        ({"tokens_per_minute": "1 million"}, "tokens_per_minute must be a number, not '1 million'"),
        ({"web_url": "app.example.com"}, "web_url must begin with http:// or https://"),
    ],
)
def test_the_error_of_an_invalid_extra_is_one_sentence_that_names_it(extra, named):
    assert named in problem(extra=extra)


@pytest.mark.filterwarnings("ignore:Encountered:DeprecationWarning")  # Airflow 2.11 warns of the same
@pytest.mark.parametrize(
    ("extra", "named"),
    [("{'connect_timeout': 3}", "Extra is not valid JSON"), ("[1]", "Extra must be a JSON object")],
)
def test_an_extra_that_is_not_a_json_object_is_refused(extra, named):
    """Airflow itself would take it for an empty one."""
    assert named in problem(extra=extra)


def test_an_invalid_value_is_shown_shortened():
    """A secret that was pasted into the wrong field must not be given away."""
    assert KEY not in problem(extra={"connect_timeout": KEY})
    assert "hunter2" not in problem(extra={"proxy": "user:hunter2@proxy.example.com"})
    assert "hunter2" not in problem(extra={"headers": {"X-Api-Key": "hunter2\nx"}})


def test_unknown_extras_are_reported_by_name():
    info = info_from(connection(extra={"read_timeout": 3, "timeout": 3, "extra__http__x": "y"}))
    assert info.unknown == ("extra__http__x", "timeout")


def test_secrets_in_extras_are_found_for_masking():
    info = info_from(
        connection(
            extra={
                "proxy": "http://user:p%40ss-word@proxy.example.com:3128",
                "headers": {"X-Gateway-Token": "Bearer gateway-secret", "Accept-Language": "en-GB"},
            }
        )
    )
    assert set(info.secrets) == {
        "http://user:p%40ss-word@proxy.example.com:3128",
        "p%40ss-word",
        "p@ss-word",
        "Bearer gateway-secret",
        "gateway-secret",
    }
    for secret in info.secrets:
        assert secret not in repr(info)


@pytest.mark.parametrize(
    ("host", "web_url", "expected"),
    [
        ("https://api.lamini.ai", None, "https://app.lamini.ai"),
        ("lamini.example.com", None, None),
        ("lamini.example.com", "https://lamini.example.com/ui/", "https://lamini.example.com/ui"),
    ],
)
def test_the_web_url_is_known_for_the_cloud_and_configured_for_others(host, web_url, expected):
    assert info_from(connection(host=host, extra={"web_url": web_url})).web_url == expected


def test_the_error_of_a_connection_survives_pickling_and_stops_retries():
    error = pickle.loads(pickle.dumps(InvalidConnectionError("c", "Platform URL (host) is empty.")))
    assert str(error) == "Connection 'c': Platform URL (host) is empty."
    assert (error.conn_id, error.problem) == ("c", "Platform URL (host) is empty.")
    assert isinstance(error, AirflowFailException)
    assert isinstance(error, ValueError)


def test_every_field_of_the_form_is_read():
    """A value of a wrong type in any field of the form is noticed, so each field is read."""
    for field in PLATFORM.form.fields:
        assert field.name in problem(extra={field.name: {"a": []}})


def test_defaults_in_help_texts_are_those_of_the_client():
    plain = settings_from(connection())
    told = {
        field.name: float(found[1])
        for field in PLATFORM.form.fields
        if (found := re.search(r"Default: (\d+)\.", field.help))
    }
    assert told.keys() == {
        "connect_timeout",
        "read_timeout",
        "max_connections",
        "retry_budget",
        "model_loading_budget",
        "max_result_mb",
    }
    assert told == {name: float(getattr(plain, name)) for name in told}


def test_a_uri_from_the_environment_is_read_as_airflow_reads_it(monkeypatch):
    uri = f"lamini://https://:{KEY}@gateway.example.com:8443/?read_timeout=7&verify=false&requests_per_second=2.5"
    monkeypatch.setenv("AIRFLOW_CONN_FROM_A_URI", uri)
    settings = settings_from(BaseHook.get_connection("from_a_uri"))
    assert settings.base_url == "https://gateway.example.com:8443"
    assert (settings.key, settings.read_timeout, settings.verify) == (KEY, 7.0, False)
    assert settings.requests_per_second == 2.5


def test_an_extra_may_be_an_object_as_airflow_3_2_makes_it_of_a_uri():
    given = {"host": "https://api.lamini.ai", "schema": None, "port": None, "login": None, "password": KEY}
    conn = SimpleNamespace(
        conn_id="c", conn_type="lamini", **given, extra={"read_timeout": "7", "verify": "false"}
    )
    settings = settings_from(conn)
    assert (settings.read_timeout, settings.verify) == (7.0, False)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)


def names():
    return [field.name for field in PLATFORM.form.fields]


@given(
    host=st.none() | st.text(max_size=30),
    schema=st.none() | st.sampled_from(["http", "https"]) | st.text(max_size=6),
    port=st.none() | st.integers(-1, 70000),
    extra=st.dictionaries(st.sampled_from(names()) | st.text(max_size=6), values, max_size=4),
)
def test_any_connection_gives_either_settings_or_one_kind_of_error(host, schema, port, extra):
    with suppress(InvalidConnectionError):
        info = info_from(connection(host=host, schema=schema, port=port, extra=extra))
        assert info.settings.base_url.startswith(("http://", "https://"))
        assert not info.settings.base_url.endswith("/")


def test_field_kinds_match_the_schema_of_forms():
    for field in PLATFORM.form.fields:
        assert field.minimum is None or field.kind in (FieldKind.NUMBER, FieldKind.INTEGER)
        assert field.title
        assert field.help.endswith(".")
