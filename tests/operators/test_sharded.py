"""The example that maps over the files of a folder, and the merging of its shards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from airflow_provider_lamini.results import SHARDS, merge_shards, read_shards
from airflow_provider_lamini.rows.errors import IncompleteOutputError, OutputError
from tests.support.demo import EXAMPLES
from tests.support.platforms import submissions
from tests.support.tasks import run_to_end

pytestmark = pytest.mark.dags

DATA = EXAMPLES / "data" / "tickets_by_product"


@pytest.fixture
def shards(inference, tmp_path):
    """Returns a function that infers over a list of rows and writes to its own folder."""

    def infer(name, rows):
        return run_to_end(inference(input=rows, output=str(tmp_path / "all" / name))).result

    return infer


@pytest.mark.long
@pytest.mark.usefixtures("airflow_db")
def test_the_example_infers_over_each_file_of_a_folder_and_merges_the_results(load_dags, platform, tmp_path):
    dag = load_dags(EXAMPLES / "sharded_batch_inference.py")["infer"].dag
    ended = dag.test(
        run_conf={"input": str(DATA), "output": str(tmp_path), "model": platform.models[0]},
    )
    states = {(ti.task_id, ti.map_index): str(ti.state) for ti in ended.get_task_instances()}
    assert states == dict.fromkeys(
        [("list_shards", -1), *(("infer", number) for number in range(4)), ("merge", -1)], "success"
    )
    tickets = [
        json.loads(line) for file in sorted(DATA.glob("*.jsonl")) for line in file.read_text().splitlines()
    ]
    rows = list(read_shards(str(tmp_path / ended.run_id)))
    assert [row["index"] for row in rows] == list(range(len(tickets))) == list(range(60))
    assert [row["ticket_id"] for row in rows] == [ticket["ticket_id"] for ticket in tickets]
    assert submissions(platform) == 12


def test_merging_adds_up_the_counts_of_the_shards_and_can_be_repeated(shards, tmp_path):
    manifests = [shards("b", ["row one", "row two"]), shards("a", ["row three"])]
    folder = str(tmp_path / "all")
    merged = merge_shards(manifests, folder)
    assert merged == merge_shards([manifest["output"] for manifest in manifests], folder)
    assert merged["counts"]["rows"] == merged["counts"]["ok"] == 3
    assert merged["shards"] == 2
    assert [row["index"] for row in read_shards(folder)] == [0, 1, 2]
    outputs = [row["output"] for row in read_shards(folder)]
    # The shards' paths are relative, so the folder can be moved.
    shutil.move(folder, tmp_path / "moved")
    assert [row["output"] for row in read_shards(str(tmp_path / "moved"))] == outputs


def test_merging_no_shards_gives_no_rows(tmp_path):
    merged = merge_shards([], str(tmp_path))
    assert merged["counts"]["rows"] == merged["shards"] == 0
    assert list(read_shards(str(tmp_path))) == []


def test_an_incomplete_or_repeated_shard_is_not_merged(shards, tmp_path):
    done = shards("a", ["row one"])
    for invalid, problem in [
        ([done, str(tmp_path / "none")], "no manifest.json"),
        ([done, done["output"] + "/"], "occurs twice"),
    ]:
        with pytest.raises(OutputError, match=problem):
            merge_shards(invalid, str(tmp_path / "all"))
    assert not Path(tmp_path, "all", SHARDS).exists()


def test_the_error_names_a_missing_file(shards, tmp_path):
    folder = str(tmp_path / "all")
    with pytest.raises(IncompleteOutputError, match="have not been merged"):
        list(read_shards(folder))
    merge_shards([shards("a", ["row one"])], folder)
    shutil.rmtree(Path(folder, "a"))
    with pytest.raises(IncompleteOutputError, match=r"no manifest\.json"):
        list(read_shards(folder))
    Path(folder, SHARDS).write_text("{")
    with pytest.raises(
        IncompleteOutputError, match="not a file of the format airflow-provider-lamini/shards"
    ):
        list(read_shards(folder))
