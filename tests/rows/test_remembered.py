from __future__ import annotations

import pytest

from airflow_provider_lamini.rows.columns import Table
from airflow_provider_lamini.rows.passthrough_cache import PassthroughCache

ROWS = [{"id": number, "name": f"row {number}", "prompt": "x" * 100} for number in range(10)]


def test_rows_come_back_with_the_columns_that_are_passed_through():
    remembered = PassthroughCache(["name", "id"], room=1000)
    remembered.keep(3, ROWS)
    found = remembered.take(3)
    assert found is not None
    assert list(found) == [{"name": row["name"], "id": row["id"]} for row in ROWS]


def test_rows_by_columns_come_back_too():
    remembered = PassthroughCache(["id"], room=1000)
    remembered.keep(0, Table({"id": [1, None], "prompt": ["a", "b"]}, 2))
    assert list(remembered.take(0) or ()) == [{"id": 1}, {"id": None}]


def test_without_columns_there_are_as_many_rows():
    remembered = PassthroughCache([], room=1000)
    remembered.keep(0, ROWS)
    assert list(remembered.take(0) or ()) == [{}] * 10


@pytest.mark.parametrize(
    "value", [None, True, -(2**63), 2**64 - 1, 0.1, 1e300, "ü\n\0", "", [1, ["a"]], {"a": {"b": None}}]
)
def test_a_value_comes_back_as_it_was(value):
    remembered = PassthroughCache(["it"], room=1000)
    remembered.keep(0, [{"it": value}])
    found = remembered.take(0)
    assert found is not None
    assert found[0] == {"it": value}
    assert type(found[0]["it"]) is type(value)


def test_what_was_taken_is_forgotten():
    remembered = PassthroughCache(["id"], room=1000)
    remembered.keep(0, ROWS)
    assert remembered.take(0) is not None
    assert remembered.take(0) is None
    assert remembered.take(1) is None


def test_rows_beyond_the_room_are_not_remembered_until_others_are_taken():
    remembered = PassthroughCache(["name"], room=100)
    remembered.keep(0, ROWS)
    remembered.keep(1, ROWS)
    assert remembered.take(1) is None
    assert remembered.take(0) is not None
    remembered.keep(1, ROWS)
    assert remembered.take(1) is not None


def test_rows_that_begin_short_and_go_on_long_do_not_fit_either():
    remembered = PassthroughCache(["name"], room=150)
    remembered.keep(0, [{"name": "a"}, {"name": "b" * 200}])
    assert remembered.take(0) is None


def test_a_process_that_does_not_stay_remembers_nothing():
    remembered = PassthroughCache([], room=0)
    remembered.keep(0, ROWS)
    assert remembered.take(0) is None


def test_integers_of_more_than_64_bits_are_read_again():
    remembered = PassthroughCache(["id"], room=1000)
    remembered.keep(0, [{"id": 1}, {"id": 2**64}])
    remembered.keep(1, [{"id": -(2**63) - 1}])
    assert remembered.take(0) is None
    assert remembered.take(1) is None
