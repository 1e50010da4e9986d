"""Whatever the value of an argument or the content of a file, the task works or raises an error of this package."""

from __future__ import annotations

import gzip
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_lamini.api.errors import PlatformError
from airflow_provider_lamini.exceptions import InvalidArgumentError, JobLostError
from tests.bad_input.files import lines, parquet, table
from tests.bad_input.world import SECRET, VALID_ARGUMENTS, operator_classes

pytestmark = pytest.mark.long


FEW_EXAMPLES = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXTS = st.text(st.characters(exclude_characters="/\\~*?["), max_size=12)
"""Texts that are not paths, so that no test reads or writes outside its folder."""
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def arguments_of(operator: str) -> list[str]:
    """Return the templated arguments under their names in a Dag."""
    fields = operator_classes()[operator].template_fields
    renamed = {"output_folder": "output", "count_only": "dry_run"}
    return sorted(renamed.get(name, name) for name in fields if not name.endswith("conn_id"))


@pytest.mark.parametrize("operator", VALID_ARGUMENTS)
@FEW_EXAMPLES
@given(data=st.data())
def test_any_value_of_any_argument_works_or_is_rejected(world, operator, data):
    name = data.draw(st.sampled_from(arguments_of(operator)))
    value = data.draw(VALUES)
    world.reset()
    world.platform.downloads["m"] = ["available"]
    shutil.rmtree(world.folder / "out", ignore_errors=True)
    world.note_files()
    error_message = None
    try:
        world.run(operator, {name: value})
    except InvalidArgumentError as error:
        error_message = str(error)
    except (
        PlatformError,
        JobLostError,
    ) as error:  # a valid name that this platform does not know
        error_message = str(error)
        world.reset()
    if error_message is not None:
        assert error_message
        assert world.work == {} or "names the metric" in error_message


def assert_reads_or_rejects(world, name: str, content: bytes) -> None:
    """Run a task over a file. It must work, or fail before anything is sent."""
    world.platform.reset()
    shutil.rmtree(world.folder / "out", ignore_errors=True)
    world.put(name, content)
    error_message = None
    try:
        world.run("BatchInferenceOperator", {"input": f"{{here}}/{name}", "endpoint": "completions"})
    except InvalidArgumentError as error:
        error_message = str(error)
    if error_message is not None:
        assert name in error_message
        assert SECRET not in error_message
        assert world.platform.work == {}
        assert not (world.folder / "out").exists()


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv", "r.tsv", "r.jsonl.gz", "r.csv.gz", "r.parquet"])
@FEW_EXAMPLES
@given(content=st.binary(max_size=200), header=st.booleans())
def test_any_bytes_are_read_or_rejected(world, name, content, header):
    text = (b"prompt\n" if "csv" in name else b'{"prompt": "a"}\n') + content if header else content
    assert_reads_or_rejects(world, name, gzip.compress(text) if header and name.endswith(".gz") else text)


GOOD_FILES = {
    "r.jsonl": lines(["prompt"], 8).replace(b"spam", SECRET.encode()),
    "r.csv": table(["prompt", "id"], 8).replace(b"spam,", f'"{SECRET}, ",'.encode()),
    "r.jsonl.gz": gzip.compress(lines(["prompt"], 8), mtime=0),
    "r.parquet": parquet(["prompt", "id"], [SECRET] * 8),
}


@pytest.mark.parametrize("name", GOOD_FILES)
@FEW_EXAMPLES
@given(data=st.data())
def test_a_damaged_file_is_read_or_rejected(world, name, data):
    content = bytearray(GOOD_FILES[name])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        change = data.draw(st.sampled_from(["turn", "cut", "insert", "drop"]))
        if change == "turn":
            content[at] ^= data.draw(st.integers(1, 255))
        elif change == "cut":
            content = content[: at + 1]
        elif change == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=3))
        elif len(content) > 1:
            del content[at]
    assert_reads_or_rejects(world, name, bytes(content))
