"""The systemd units of ``deploy`` start the platform with arguments that it understands."""

from __future__ import annotations

import shlex
from pathlib import Path

from airflow_provider_lamini.local import cli
from airflow_provider_lamini.local.engines.upstream import PARALLEL

DEPLOY = Path(__file__).parents[2] / "deploy"


def command(unit):
    """The words of a unit's command, without the program."""
    (line,) = [
        line for line in (DEPLOY / unit).read_text("utf-8").splitlines() if line.startswith("ExecStart=")
    ]
    return shlex.split(line)[1:]


def test_the_platform_asks_the_engine_and_never_more_than_it_answers_at_once():
    platform = cli._parser().parse_args(command("lamini-local.service"))
    engine = command("vllm.service")
    assert platform.upstream == f"http://127.0.0.1:{engine[engine.index('--port') + 1]}/v1"
    assert int(engine[engine.index("--max-num-seqs") + 1]) >= PARALLEL
