"""A bucket without read or write permission raises one error that names it, before anything is sent."""

from __future__ import annotations

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.bad_input.cases import Case
from tests.bad_input.world import VALID_ARGUMENTS, connection, operator_classes

READ, WRITE = ("cat_file", "info", "ls"), ("pipe_file",)
DENIED = {"read": READ, "write": WRITE, "both": READ + WRITE}


@pytest.fixture(params=DENIED)
def bucket(request, monkeypatch):
    """A bucket whose policy denies some operations."""
    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach

    def deny(*_, **__):
        raise PermissionError("Access Denied")

    for operation in DENIED[request.param]:
        monkeypatch.setattr(MemoryFileSystem, operation, deny)
    attach("memory", fs=MemoryFileSystem())
    return "memory://team-bucket/folder"


FIELDS = {"state_path": "state_path", "output": "output_folder", "manifest": "manifest"}


def bucket_arguments():
    """Yield every operator with an argument that names a folder to write to."""
    for operator, operator_class in operator_classes().items():
        for argument, field in FIELDS.items():
            # A task with a manifest writes its record into the manifest's folder.
            used = field in operator_class.template_fields and not (
                argument == "state_path" and "manifest" in VALID_ARGUMENTS[operator]
            )
            if used and (argument == "state_path" or argument in VALID_ARGUMENTS[operator]):
                yield operator, argument


@pytest.mark.parametrize(("operator", "argument"), list(bucket_arguments()))
def test_the_error_names_a_bucket_without_permission_before_anything_is_sent(
    world, bucket, operator, argument
):
    world.assert_rejected(Case(operator, {argument: bucket}, ("team-bucket",)))


@pytest.mark.parametrize("bucket", ["write", "both"], indirect=True)
@pytest.mark.parametrize("operator", ["TrainOperator", "EvaluateClassifierOperator", "ResumeJobOperator"])
def test_the_bucket_for_results_is_checked_before_the_job_is_submitted(world, bucket, operator):
    world.platform.jobs["1"].states = ["FAILED"]  # only failed jobs can be resumed
    world.assert_rejected(Case(operator, {"output": bucket}, ("team-bucket",)))


def test_the_error_names_a_connections_bucket_without_permission(world, bucket, monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_LAMINI_DEFAULT", connection(world.platform.url, extra={"state_path": bucket})
    )
    world.assert_rejected(Case("TrainOperator", {}, ("team-bucket",)))
