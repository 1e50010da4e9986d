"""A bucket that lets nobody read, or nobody write, is one error that names it, before anything is sent."""

from __future__ import annotations

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.bad_input.cases import Case
from tests.bad_input.world import GOOD, connection, operator_classes


class Bucket(MemoryFileSystem):
    """A store whose policy forbids something, as stores say it."""

    forbids = ""

    def _ask(self, what):
        if self.forbids in ("both", what):
            raise PermissionError("Access Denied")

    def cat_file(self, path, start=None, end=None, **kwargs):
        self._ask("reading")
        return super().cat_file(path, start=start, end=end, **kwargs)

    def info(self, path, **kwargs):
        self._ask("reading")
        return super().info(path, **kwargs)

    def ls(self, path, detail=True, **kwargs):
        self._ask("reading")
        return super().ls(path, detail=detail, **kwargs)

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        self._ask("writing")
        return super().pipe_file(path, value, mode=mode, **kwargs)


@pytest.fixture(params=["reading", "writing", "both"])
def bucket(request, monkeypatch):
    """``memory://guarded@...`` is this bucket."""
    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach
    monkeypatch.setattr(Bucket, "forbids", request.param)  # Airflow keeps the first store of a connection
    attach("memory", conn_id="guarded", fs=Bucket(skip_instance_cache=True))
    return "memory://guarded@team-bucket/place"


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


def test_a_bucket_that_refuses_from_the_connection_is_named_too(world, bucket, monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_LAMINI_DEFAULT", connection(world.platform.url, extra={"state_path": bucket})
    )
    world.refuses(Case("TrainOperator", {}, ("team-bucket",)))
