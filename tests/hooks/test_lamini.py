"""The hook: looking a connection up, sending calls, both ways."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_lamini.api.call import Call, Retry
from airflow_provider_lamini.api.errors import AuthenticationError
from airflow_provider_lamini.hooks.connection import InvalidConnectionError
from airflow_provider_lamini.hooks.lamini import LaminiHook
from airflow_provider_lamini.platforms.lamini.api import models

KEY = "lamini-test-key-0123456789"
HEAD = Call(
    operation="head",
    method="GET",
    path="/v1alpha/downloaded_models/",
    parse=lambda body: body[:1],
    retry=Retry.SAFE,
)


async def through_a_client(hook, call):
    async with hook.aclient() as client:
        return await client.send(call)


@pytest.fixture(params=["send", "asend", "aclient"])
def send(request):
    """Sends a call through a hook in each of the three ways there are."""
    return {
        "send": lambda hook, call: hook.send(call),
        "asend": lambda hook, call: asyncio.run(hook.asend(call)),
        "aclient": lambda hook, call: asyncio.run(through_a_client(hook, call)),
    }[request.param]


def test_a_call_returns_a_typed_result(platform, connect, send):
    with connect(host=platform.url) as hook:
        found = send(hook, models.list_downloaded())
    assert [model.model_name for model in found] == ["smollm2", "minilm"]
    assert isinstance(found[0], models.DownloadedModel)


def test_custom_calls_can_be_sent(platform, connect, send):
    with connect(host=platform.url) as hook:
        assert send(hook, HEAD) == b"["


def test_headers_of_the_connection_are_sent(platform, connect, send):
    with connect(host=platform.url, extra={"headers": '{"X-Team": "data"}'}) as hook:
        send(hook, HEAD)
    assert platform.seen[0][1]["X-Team"] == "data"


def test_an_error_of_the_platform_is_raised(platform, connect, send):
    with (
        connect(host=platform.url, password="another-key-0123456789") as hook,
        pytest.raises(AuthenticationError),
    ):
        send(hook, HEAD)


def test_an_invalid_connection_fails_before_anything_is_sent(platform, connect, send):
    hook = connect(host=platform.url, extra={"verify": "perhaps"})
    with pytest.raises(
        InvalidConnectionError, match=r"Connection 'lamini_default': verify must be true or false"
    ):
        send(hook, HEAD)
    assert platform.seen == []


def test_the_error_of_a_missing_file_names_field_and_connection(connect, send):
    hook = connect(host="https://127.0.0.1:1", extra={"ca_path": "/nowhere/ca.pem"})
    with pytest.raises(
        InvalidConnectionError, match=r"Connection 'lamini_default': ca_path .*/nowhere/ca.pem"
    ):
        send(hook, HEAD)


@pytest.mark.usefixtures("airflow_db")
def test_the_error_of_a_missing_connection_names_it(send):
    with pytest.raises(AirflowNotFoundException, match="nowhere"):
        send(LaminiHook("nowhere"), HEAD)


def test_both_lookups_return_the_same_settings(connect):
    hook = connect(host="lamini.example.com", extra={"read_timeout": "7", "headers": {"X-Team": "data"}})
    assert asyncio.run(hook.asettings()) == hook.settings()


def test_many_concurrent_lookups_succeed(connect):
    hook = connect(host="lamini.example.com")

    async def at_once():
        return await asyncio.gather(*(hook.asettings() for _ in range(20)))

    assert len({settings.fingerprint for settings in asyncio.run(at_once())}) == 1


def test_the_asynchronous_lookup_sees_a_changed_key(connect):
    """A trigger lives for days: a key that was replaced in the meantime must reach it."""
    hook = connect(host="lamini.example.com")
    before = asyncio.run(hook.asettings())
    connect(host="lamini.example.com", password="a-new-key-9876543210")
    after = asyncio.run(hook.asettings())
    assert (before.key, after.key) == (KEY, "a-new-key-9876543210")


def test_a_hook_keeps_one_client_until_it_is_closed(platform, connect):
    hook = connect(host=platform.url)
    first = hook.client()
    assert hook.client() is first
    assert hook.get_conn() is first
    hook.close()
    hook.close()
    assert hook.client() is not first
    assert hook.send(HEAD) == b"["
    hook.close()


def test_the_default_connection_is_lamini_default():
    assert LaminiHook().lamini_conn_id == "lamini_default"
    assert LaminiHook(lamini_conn_id="another").lamini_conn_id == "another"


def test_creating_a_hook_does_not_look_up_the_connection():
    """Operators may make one while a Dag is parsed."""
    assert "nowhere" in LaminiHook("nowhere").lamini_conn_id


@pytest.mark.parametrize("way", ["settings", "asettings"])
def test_unknown_extras_are_logged_once(connect, caplog, way):
    hook = connect(f"warned_{way}", host="lamini.example.com", extra={"timeout": 3, "read_timeout": 3})
    with caplog.at_level(logging.WARNING, logger="airflow_provider_lamini"):
        for _ in range(2):
            looked_up = LaminiHook(hook.lamini_conn_id)
            _ = asyncio.run(looked_up.asettings()) if way == "asettings" else looked_up.settings()
    (record,) = [each for each in caplog.records if each.name.startswith("airflow_provider_lamini")]
    assert f"'warned_{way}' has unknown extras, which are ignored: timeout." in record.getMessage()


@pytest.mark.parametrize("way", ["settings", "asettings"])
def test_secrets_in_extras_are_masked_in_logs(connect, way):
    from airflow.providers.common.compat.sdk import redact

    secret, password = f"gateway-token-{way}", f"proxy-password-{way}"
    hook = connect(
        host="lamini.example.com",
        extra={
            "headers": {"X-Gateway": "on", "X-Token": f"Bearer {secret}"},
            "proxy": f"http://u:{password}@p:1",
        },
    )
    _ = asyncio.run(hook.asettings()) if way == "asettings" else hook.settings()
    assert secret not in str(redact(f"sent {secret}"))
    assert password not in str(redact(f"through http://u:{password}@p:1"))


@pytest.mark.parametrize(
    ("host", "extra", "kind", "expected"),
    [
        ("https://api.lamini.ai", {}, "tuning", "https://app.lamini.ai/train/77"),
        (
            "lamini.example.com",
            {"web_url": "https://ui.example.com/"},
            "tuning",
            "https://ui.example.com/train/77",
        ),
        ("lamini.example.com", {}, "tuning", None),
        ("https://api.lamini.ai", {}, "batch completions", None),
    ],
)
def test_a_job_has_a_url_if_the_platform_has_a_page_for_it(connect, host, extra, kind, expected):
    assert connect(host=host, extra=extra).web_job_url(kind, "77") == expected


def test_an_id_cannot_lead_out_of_the_page(connect):
    assert connect(host="https://api.lamini.ai").web_job_url("tuning", "../a?b") == (
        "https://app.lamini.ai/train/..%2Fa%3Fb"
    )


def test_the_connections_state_path_takes_precedence_over_the_configuration(connect, monkeypatch):
    assert connect("plain", host="lamini.example.com").state_path() is None
    monkeypatch.setenv("AIRFLOW__LAMINI__STATE_PATH", "/var/lib/lamini")
    assert connect("plain", host="lamini.example.com").state_path() == "/var/lib/lamini"
    own = connect("own", host="lamini.example.com", extra={"state_path": "s3://bucket/state"})
    assert own.state_path() == "s3://bucket/state"


def test_a_hook_shows_no_key(platform, connect):
    hook = connect(host=platform.url)
    hook.client()
    assert KEY not in repr(hook)
    assert KEY not in repr(hook.settings())
    assert KEY not in repr(vars(hook))
    hook.close()


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("http://platform.example.com", True),
        ("http://10.0.0.7:8080/prefix", True),
        ("https://platform.example.com", False),
        ("http://127.0.0.1:8000", False),
        ("http://localhost:8000", False),
        ("http://[::1]:8000", False),
    ],
)
def test_a_key_that_is_sent_unencrypted_is_warned_about_once(monkeypatch, caplog, host, warned):
    name = f"open_{len(host)}"
    fields = {"conn_type": "lamini", "host": host, "password": "a-key-of-some-length"}
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))
    for _ in range(2):
        LaminiHook(name).settings()
        asyncio.run(LaminiHook(name).asettings())
    found = [record.getMessage() for record in caplog.records if "unencrypted" in record.getMessage()]
    assert len(found) == int(warned)
    assert "a-key-of-some-length" not in caplog.text
