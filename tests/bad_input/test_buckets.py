"""A bucket that lets nobody read, or nobody write, is one error that names it, before anything is sent."""

from __future__ import annotations

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.bad_input.cases import Case
from tests.bad_input.world import GOOD, connection, operator_classes

READING, WRITING = ("cat_file", "info", "ls"), ("pipe_file",)
FORBIDDEN = {"reading": READING, "writing": WRITING, "both": READING + WRITING}


@pytest.fixture(params=FORBIDDEN)
def bucket(request, monkeypatch):
    """A bucket whose policy forbids something; the store tells it as stores do."""
    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach

    def refuse(*_, **__):
        raise PermissionError("Access Denied")

    for operation in FORBIDDEN[request.param]:
        monkeypatch.setattr(MemoryFileSystem, operation, refuse)
    attach("memory", fs=MemoryFileSystem())
    return "memory://team-bucket/place"


FIELDS = {"state_path": "state_path", "output": "output_folder", "manifest": "manifest"}


def places():
    """Every argument of an operator that may name a bucket to write to."""
    for operator, each in operator_classes().items():
        for place, field in FIELDS.items():
            # A task with a manifest keeps its record there.
            ours = field in each.template_fields and not (
                place == "state_path" and "manifest" in GOOD[operator]
            )
            if ours and (place == "state_path" or place in GOOD[operator]):
                yield operator, place


@pytest.mark.parametrize(("operator", "place"), list(places()))
def test_a_bucket_that_refuses_is_named_before_anything_is_sent(world, bucket, operator, place):
    world.refuses(Case(operator, {place: bucket}, ("team-bucket",)))


@pytest.mark.parametrize("bucket", ["writing", "both"], indirect=True)
@pytest.mark.parametrize("operator", ["TrainOperator", "EvaluateClassifierOperator", "ResumeJobOperator"])
def test_a_bucket_for_what_a_job_comes_to_is_tried_before_the_job_is_paid_for(world, bucket, operator):
    world.platform.jobs["1"].states = ["FAILED"]  # the one that is to be resumed
    world.refuses(Case(operator, {"output": bucket}, ("team-bucket",)))


def test_a_bucket_that_refuses_from_the_connection_is_named_too(world, bucket, monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_LAMINI_DEFAULT", connection(world.platform.url, extra={"state_path": bucket})
    )
    world.refuses(Case("TrainOperator", {}, ("team-bucket",)))
