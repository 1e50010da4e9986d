"""The workflows of the hosted CI call what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
OTHER_VERSIONS = re.compile(r"test-(\d.*|lowest)|wheel-versions")
"""Targets that test with other versions of Airflow or of dependencies: .ci/run leaves out most of them."""


def matrix_targets(path: Path) -> set[str]:
    """The targets that the matrices of a workflow name."""
    jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"].values()
    matrices = [job.get("strategy", {}).get("matrix", {}).get("include", []) for job in jobs]
    return {entry["target"] for entries in matrices for entry in entries}


def test_the_workflows_run_all_targets_for_other_versions():
    run = set().union(*map(matrix_targets, WORKFLOWS))
    assert {target for target in TARGETS if OTHER_VERSIONS.fullmatch(target)} <= run


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_only_targets_and_scripts_that_are_there(path):
    assert matrix_targets(path) <= TARGETS
    jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"].values()
    commands = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        assert command.startswith("make ") or (ROOT / command).is_file(), command
