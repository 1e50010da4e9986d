from __future__ import annotations

import pytest

from airflow_provider_lamini.rows.columns import Table
from airflow_provider_lamini.runs.open_run import PassthroughCache

ROWS = [{"id": number, "name": f"row {number}", "prompt": "x" * 100} for number in range(10)]


def test_rows_come_back_with_their_passthrough_columns():
    cache = PassthroughCache(["name", "id"], max_bytes=1000)
    cache.put(3, ROWS)
    found = cache.pop(3)
    assert found is not None
    assert list(found) == [{"name": row["name"], "id": row["id"]} for row in ROWS]


def test_a_table_comes_back_too():
    cache = PassthroughCache(["id"], max_bytes=1000)
    cache.put(0, Table({"id": [1, None], "prompt": ["a", "b"]}, 2))
    assert list(cache.pop(0) or ()) == [{"id": 1}, {"id": None}]


def test_without_columns_the_number_of_rows_is_kept():
    cache = PassthroughCache([], max_bytes=1000)
    cache.put(0, ROWS)
    assert list(cache.pop(0) or ()) == [{}] * 10


@pytest.mark.parametrize(
    "value", [None, True, -(2**63), 2**64 - 1, 0.1, 1e300, "ü\n\0", "", [1, ["a"]], {"a": {"b": None}}]
)
def test_a_value_comes_back_as_it_was(value):
    cache = PassthroughCache(["it"], max_bytes=1000)
    cache.put(0, [{"it": value}])
    found = cache.pop(0)
    assert found is not None
    assert found[0] == {"it": value}
    assert type(found[0]["it"]) is type(value)


def test_rows_come_back_once():
    cache = PassthroughCache(["id"], max_bytes=1000)
    cache.put(0, ROWS)
    assert cache.pop(0) is not None
    assert cache.pop(0) is None
    assert cache.pop(1) is None


def test_rows_that_do_not_fit_are_not_cached_until_others_are_removed():
    cache = PassthroughCache(["name"], max_bytes=100)
    cache.put(0, ROWS)
    cache.put(1, ROWS)
    assert cache.pop(1) is None
    assert cache.pop(0) is not None
    cache.put(1, ROWS)
    assert cache.pop(1) is not None


def test_rows_that_start_short_and_grow_do_not_fit_either():
    cache = PassthroughCache(["name"], max_bytes=150)
    cache.put(0, [{"name": "a"}, {"name": "b" * 200}])
    assert cache.pop(0) is None


def test_a_cache_without_space_keeps_nothing():
    cache = PassthroughCache([], max_bytes=0)
    cache.put(0, ROWS)
    assert cache.pop(0) is None


def test_integers_with_more_than_64_bits_are_not_cached():
    cache = PassthroughCache(["id"], max_bytes=1000)
    cache.put(0, [{"id": 1}, {"id": 2**64}])
    cache.put(1, [{"id": -(2**63) - 1}])
    assert cache.pop(0) is None
    assert cache.pop(1) is None
