"""The command without the ``[local]`` extra."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.long


@pytest.mark.parametrize("missing", ["xllamacpp", "fastapi", "tokenizers"])
def test_without_the_extra_the_command_says_what_to_install(missing, tmp_path):
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from airflow_provider_lamini.local.cli import main\n"
        f"sys.exit(main(['serve', '--port', '0', '--data', {str(tmp_path)!r}]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "airflow-provider-lamini[local]" in ended.stderr
    assert "Traceback" not in ended.stderr
