"""What forks of a warm Python process have in common with processes of their own."""

from __future__ import annotations

import os

import pytest

from tests.support.forks import warm_python


def test_a_fork_that_still_runs_ends_with_the_block():
    with warm_python("import time") as python:
        fork = python.start("import time; time.sleep(60)", stdout=os.devnull, stderr=os.devnull)
        assert fork.poll() is None
    with pytest.raises(ProcessLookupError):
        os.kill(fork.pid, 0)


def test_a_fork_prints_the_text_that_it_exits_with():
    with warm_python("import sys") as python:
        done = python.complete("import sys; sys.exit('the disk is full')")
    assert (done.returncode, done.stderr) == (1, "the disk is full\n")
