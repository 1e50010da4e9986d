"""What the command says of options that cannot be used."""

from __future__ import annotations

import socket

import pytest

from airflow_provider_lamini.local.cli import main
from tests.support.upstream import upstream


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--max-body", "0", "must be above 0, not 0"),
        ("--client-timeout", "nan", "must be above 0, not nan"),
        ("--reactivation-delay", "-1", "must be between 0 and 3600, not -1"),
        ("--max-upload", "many", "must be a number, not 'many'"),
        ("--reactivation-delay", "soon", "must be a number, not 'soon'"),
        ("--port", "65536", "must be a whole number from 0 to 65535, not '65536'"),
        ("--port", "http", "must be a whole number from 0 to 65535, not 'http'"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_range(option, value, message, capsys):
    with pytest.raises(SystemExit):
        main(["serve", f"{option}={value}"])
    assert f"argument {option}: {message}" in capsys.readouterr().err


def test_an_address_that_is_taken_is_told_with_the_options_to_change(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port), "--data", str(tmp_path)]) == 1
    assert "Choose another --host or --port." in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_data_folder_that_cannot_be_used_is_told_with_the_option_to_change(tmp_path, capsys, folder):
    (tmp_path / "file").touch()
    with upstream() as engine:
        arguments = ["serve", "--port", "0", "--upstream", engine.url, "--data", str(tmp_path / folder)]
        assert main(arguments) == 1
    assert "lamini-local: Choose another --data folder: " in capsys.readouterr().err


def test_a_missing_package_is_told_before_anything_is_served(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("airflow_provider_lamini.local.cli._EXTRA", {"no_such_package", "uvicorn"})
    assert main(["serve", "--data", str(tmp_path / "data")]) == 1
    assert capsys.readouterr().err == (
        "lamini-local: Run pip install 'airflow-provider-lamini[local]': it brings no_such_package.\n"
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("checksum", ["abc", "g" * 64, "0" * 63, "sha256:" + "0" * 64])
def test_a_malformed_checksum_is_refused_before_anything_is_fetched(checksum, capsys):
    assert main(["pull", "mine", "--from", "hub:owner/repo/file.gguf", "--sha256", checksum]) == 2
    assert "--sha256 must be 64 hexadecimal digits" in capsys.readouterr().err


@pytest.mark.parametrize("names", [[], ["sentence-transformers/all-MiniLM-L6-v2"]])
def test_a_checksum_for_a_model_of_the_catalogue_is_refused(names, capsys):
    assert main(["pull", *names, "--sha256", "0" * 64]) == 2
    assert "Leave out --sha256" in capsys.readouterr().err


def test_a_hub_source_without_a_file_is_refused_before_anything_is_fetched(capsys):
    assert main(["pull", "mine", "--from", "hub:owner/repo"]) == 1
    assert (
        "hub:owner/repo@main names no file: use --from hub:OWNER/REPO/FILE.gguf." in capsys.readouterr().err
    )


def test_a_url_without_a_scheme_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["status", "--url", "localhost:8787"])
    assert (
        "argument --url: must begin with http:// or https://, not 'localhost:8787'" in capsys.readouterr().err
    )
