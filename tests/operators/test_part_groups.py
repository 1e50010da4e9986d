"""Parts of a run of any size are grouped for mapped tasks, which take each group as input."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.results import part_groups, read_outputs
from airflow_provider_lamini.rows.sources.source import open_source
from tests.support.tasks import run_to_end

pytestmark = pytest.mark.any_airflow


@pytest.mark.parametrize(("chunk_size", "groups"), [(1, 10), (1, 100), (10, 2), (25, 5)])
def test_each_part_is_in_one_group_in_order(inference, chunk_size, groups):
    result = run_to_end(inference(chunk_size=chunk_size)).result
    found = part_groups(result, max_groups=groups)
    parts = -(-25 // chunk_size)
    assert len(found) == min(groups, parts)
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert [uri for group in found for uri in group] == result["parts"]
    indices = [row.row["index"] for group in found for row in open_source(group).read()]
    assert indices == [row["index"] for row in read_outputs(result["output"])]


def test_more_parts_than_a_result_lists_are_grouped(inference):
    result = run_to_end(inference(input=[f"text {number}" for number in range(101)], chunk_size=1)).result
    assert result["parts"] is None
    for form in (result["output"], result["manifest"], result):
        groups = part_groups(form, max_groups=10)
        assert [len(group) for group in groups] == [10] * 9 + [11]
        assert groups[-1][-1].endswith("/part-00100.jsonl")


def test_an_empty_run_has_no_groups(inference):
    assert part_groups(run_to_end(inference(input=[])).result) == []
