"""Threads may decode the first file of a kind at the same moment. Run in new processes, where every use is the first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "0.1.0"
DECODE = """
import sys, threading
from pathlib import Path
from airflow_provider_lamini.corpus import index_manifest
from airflow_provider_lamini.rows.ledger import document
from airflow_provider_lamini.rows.output import manifest

sys.setswitchinterval(1e-6)
folder = Path(sys.argv[1])
formats = [
    (document.FORMAT, document._DOCUMENT, (folder / "ledger-submitted.json").read_bytes()),
    (document.FORMAT, document._OWNER, (folder / "ledger-submitted.json").read_bytes()),
    (manifest.FORMAT, manifest._MANIFEST, (folder / "manifest.json").read_bytes()),
    (index_manifest.FORMAT, index_manifest._MANIFEST, (folder / "index-manifest.json").read_bytes()),
]
start = threading.Barrier(16)

def decode():
    start.wait()
    for form, decoder, content in formats:
        form.decode(content, decoder, "a file")

threads = [threading.Thread(target=decode) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize("attempt", range(3))
def test_threads_decode_files_at_the_same_moment(attempt):  # noqa: ARG001 - one process crashes by chance
    done = subprocess.run(
        [sys.executable, "-c", DECODE, str(GOLDEN)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
