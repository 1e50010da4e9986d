"""What is wrong with a connection is said at once, in one sentence, without the key."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest

from airflow_provider_lamini.api.settings import ClientSettings

KEY = "sk-very-secret"


def test_a_path_prefix_is_kept_and_a_trailing_slash_is_removed():
    settings = ClientSettings(base_url=" https://host.example:8443/lamini/ ", key=KEY)
    assert settings.base_url == "https://host.example:8443/lamini"
    assert settings.origin == "https://host.example:8443"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("base_url", "", "base_url is missing"),
        ("base_url", "   ", "base_url is missing"),
        ("base_url", None, "base_url is missing"),
        ("base_url", "api.lamini.ai", "http:// or https://"),
        ("base_url", "localhost:8000", "http:// or https://"),
        ("base_url", "ftp://host", "http:// or https://"),
        ("base_url", "http://", "no valid host"),
        ("base_url", "http://:80", "no valid host"),
        ("base_url", "http://a b", "no valid host"),
        ("base_url", "http://host:99999", "not a valid URL"),
        ("base_url", "http://host:0", "no valid host"),
        ("base_url", "http://[::1", "not a valid URL"),
        ("base_url", "http://host/?a=1", "and what follows"),
        ("base_url", f"http://user:{KEY}@host", "must not contain a user name"),
        ("key", f"{KEY}\n", "key must be printable"),
        ("key", f"{KEY} x", "key must be printable"),
        ("key", f"{KEY}é", "key must be printable"),
        ("connect_timeout", 0, "connect_timeout must be a number above 0"),
        ("read_timeout", float("nan"), "read_timeout"),
        ("read_timeout", float("inf"), "read_timeout"),
        ("read_timeout", "120", "read_timeout"),
        ("retry_budget", -1, "retry_budget must be a number of at least 0"),
        ("model_loading_budget", True, "model_loading_budget"),
        ("requests_per_second", 0, "requests_per_second"),
        ("tokens_per_minute", 0, "tokens_per_minute"),
        ("max_connections", 0, "max_connections"),
        ("max_connections", 2.5, "max_connections"),
        ("verify", "", "verify"),
        ("client_key", "key.pem", "client_key is set without client_cert"),
        ("proxy", "proxy.example:3128", "proxy must be a URL"),
        ("proxy", 8, "proxy must be a URL"),
        ("headers", {"Bad Name": "x"}, "not a valid header name"),
        ("headers", {"X-A": "a\r\nX-B: b"}, "X-A must be printable"),
        ("headers", {"X-A": 5}, "X-A must be printable"),
        ("headers", {"authorization": "Basic x"}, "must not contain Authorization"),
    ],
)
def test_the_error_names_an_invalid_value(field, value, words):
    given = {"base_url": "http://host", "key": KEY, field: value}
    with pytest.raises(ValueError, match=words) as caught:
        ClientSettings(**given)
    message = str(caught.value)
    assert field in message
    assert KEY not in message
    assert "\n" not in message


def test_neither_repr_nor_fingerprint_shows_secrets():
    settings = ClientSettings(
        base_url="http://host", key=KEY, proxy=f"http://u:{KEY}@proxy:1", headers={"X-Token": KEY}
    )
    assert KEY not in repr(settings)
    assert KEY not in settings.fingerprint


def test_equal_settings_have_equal_fingerprints_and_any_change_a_different_one():
    base = {"base_url": "http://host", "key": KEY, "headers": {"a": "1", "b": "2"}}
    one = ClientSettings(**base)
    same = ClientSettings(**{**base, "headers": {"b": "2", "a": "1"}})
    assert one.fingerprint == same.fingerprint
    assert one == same
    assert len({one, same}) == 1
    others = {"key": "k2", "base_url": "http://other", "verify": False, "read_timeout": 5.0, "headers": {}}
    prints = {ClientSettings(**{**base, name: value}).fingerprint for name, value in others.items()}
    assert len(prints | {one.fingerprint}) == len(others) + 1


def test_settings_copy_their_headers():
    headers = {"X-A": "1"}
    settings = ClientSettings(base_url="http://host", key="", headers=headers)
    headers["X-A"] = "2"
    assert settings.headers == {"X-A": "1"}


def test_settings_can_be_copied_and_pickled():
    settings = ClientSettings(base_url="http://host", key=KEY)
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert copy.deepcopy(settings) == settings


def test_importing_the_settings_loads_no_http_library():
    """They are read where a Dag is parsed."""
    code = (
        "import sys, airflow_provider_lamini.api.settings, airflow_provider_lamini.api.errors\n"
        "import airflow_provider_lamini.api.output_types, airflow_provider_lamini.api.call\n"
        "heavy = {'httpx', 'pydantic', 'tenacity', 'msgspec', 'airflow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.strip() == "[]"


def test_the_whole_api_package_imports_no_airflow():
    code = (
        "import importlib, pkgutil, sys\n"
        "import airflow_provider_lamini.api as room\n"
        "names = [each.name for each in pkgutil.walk_packages(room.__path__, room.__name__ + '.')]\n"
        "for name in names: importlib.import_module(name)\n"
        "assert len(names) > 10, names\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('airflow', 'fastapi', 'uvicorn')])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.strip() == "[]"
