"""The command: address, API key, output, and shutdown."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest

from airflow_provider_lamini.local import DEFAULT_KEY
from airflow_provider_lamini.local.server import ServeError, ServeOptions, is_loopback
from tests.support.local_platform import ROOT, SERVE, LocalPlatform, forking_platform, local_platform
from tests.support.upstream import TEXT_MODEL, Upstream, upstream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., subprocess.CompletedProcess[str]]


COMMAND = (sys.executable, "-m", "airflow_provider_lamini.local")


@pytest.fixture
def command() -> Command:
    """Returns a function that runs the command and waits until it exits."""
    return partial(forking_platform().complete, SERVE)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_an_address_that_other_machines_reach_needs_a_key(command: Command, host: str, data: Path) -> None:
    result = command(
        "serve", "--host", host, "--port", "0", "--data", str(data), "--upstream", "http://127.0.0.1:9/v1"
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "--key" in result.stderr
    assert not data.exists()


def test_only_loopback_has_a_default_key(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        assert ServeOptions(host=host, port=0, data=tmp_path).checked_key() == DEFAULT_KEY
    assert ServeOptions(host="0.0.0.0", port=0, key="own", data=tmp_path).checked_key() == "own"
    for host in ("0.0.0.0", "::", "", "no-such-host.invalid"):
        assert not is_loopback(host)
        with pytest.raises(ServeError, match="--key"):
            ServeOptions(host=host, port=0, data=tmp_path).checked_key()


@pytest.mark.parametrize("key", ["", "  ", "clef \u00e9", "two\nlines"])
def test_a_key_that_cannot_be_sent_in_a_header_is_rejected(key: str, tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="key"):
        ServeOptions(host="127.0.0.1", port=0, key=key, data=tmp_path).checked_key()


def test_options_do_not_show_the_key(tmp_path: Path) -> None:
    assert "sesame" not in repr(ServeOptions(host="127.0.0.1", port=0, key="sesame", data=tmp_path))


def test_a_used_port_is_reported_in_one_sentence(command: Command, engine: Upstream, data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = command("serve", "--port", port, "--data", str(data), "--upstream", engine.url)
    assert result.returncode == 1
    assert port in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_command_prints_its_url_and_models(platform: LocalPlatform) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", platform.url)
    assert TEXT_MODEL in platform.models


def test_sigterm_stops_the_platform_cleanly_within_two_seconds(data: Path) -> None:
    """Even in the middle of a response."""
    with upstream(tokens_per_second=1) as slow, local_platform(data, slow.url) as running:
        body = {"model_name": TEXT_MODEL, "prompt": "a b c d e f g h i j"}
        with running.client() as http, pytest.raises(httpx.ReadTimeout):
            http.post("/v1/completions", json=body, timeout=0.5)
        began = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - began < 2


def test_control_endpoints_are_off_by_default(command: Command, engine: Upstream, data: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--data", str(data), "--upstream", engine.url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = next(line for line in process.stdout if "serving" in line)
        url = line.split("serving ")[1].split()[0]
        headers = {"Authorization": f"Bearer {DEFAULT_KEY}"}
        assert httpx.get(f"{url}/_control/stats", headers=headers).status_code == 404
        assert httpx.get(f"{url}/v1/version", headers=headers).status_code == 200
        status = command("status", "--url", url)
        assert status.returncode == 0
        assert url in status.stdout
        assert TEXT_MODEL in status.stdout
    finally:
        process.terminate()
        assert process.wait(10) == 0
        process.stdout.close()


def test_status_says_when_no_platform_is_running(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    status = command("status", "--url", url)
    assert status.returncode == 1
    assert "no platform is running" in status.stdout.lower()
    assert url in status.stdout


def test_two_platforms_cannot_use_the_same_folder(
    command: Command, platform: LocalPlatform, engine: Upstream
) -> None:
    result = command("serve", "--port", "0", "--data", str(platform.data), "--upstream", engine.url)
    assert result.returncode == 1
    assert "Another local platform is using" in result.stderr
    assert result.stderr.count("\n") == 1


def test_help_lists_every_command(command: Command) -> None:
    help_text = command("--help").stdout
    assert all(name in help_text for name in ("serve", "pull", "status"))


def test_an_unreachable_upstream_is_reported_in_one_sentence(command: Command, data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    result = command("serve", "--port", "0", "--data", str(data), "--upstream", url)
    assert result.returncode == 1
    assert url in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("pull", "nobody/nothing"), 1, "nobody/nothing"),
        (("pull", "own", "--from", "/no/such/file.gguf"), 1, "/no/such/file.gguf"),
        (("pull", "--from", "/some/file.gguf"), 2, "--from"),
        (("serve", "--upstream", "ftp://engine", "--port", "0"), 1, "ftp://engine"),
    ],
)
def test_a_failing_command_says_why_in_one_sentence(
    command: Command, arguments: tuple[str, ...], status: int, message: str, tmp_path: Path
) -> None:
    data = ("--data", str(tmp_path / "data")) if arguments[0] == "serve" else ()
    result = command(*arguments, *data, LAMINI_LOCAL_CACHE=str(tmp_path / "cache"))
    assert result.returncode == status
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_a_missing_model_is_reported_with_the_command_to_run(
    command: Command, data: Path, tmp_path: Path
) -> None:
    result = command("serve", "--port", "0", "--data", str(data), LAMINI_LOCAL_CACHE=str(tmp_path / "cache"))
    assert result.returncode == 1
    assert "lamini-local pull" in result.stderr
    assert result.stderr.count("\n") == 1
