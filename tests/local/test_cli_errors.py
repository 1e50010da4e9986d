"""What the command says of options that cannot be used."""

from __future__ import annotations

import socket

import pytest

from airflow_provider_lamini.local.cli import main


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--max-body", "0", "must be above 0, not 0"),
        ("--client-timeout", "nan", "must be above 0, not nan"),
        ("--reactivation-delay", "-1", "must be between 0 and 3600, not -1"),
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
