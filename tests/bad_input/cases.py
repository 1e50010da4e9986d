"""Invalid arguments for each operator."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.bad_input.values import (
    BAD_ROWS,
    CHUNKED,
    CONN_IDS,
    COUNTS,
    FLAGS,
    FOLDERS,
    GATES,
    IDS,
    INPUTS,
    JOB,
    LIMITED,
    LONE_SURROGATE,
    MAPPINGS,
    NAMES,
    NUMBERS,
    OPTIONAL_NAMES,
    OUTPUT_TYPES,
    PAIRS,
    SINGLE,
    TEMPLATES,
    THRESHOLDS,
    Values,
)
from tests.bad_input.world import SECRET

if TYPE_CHECKING:
    from collections.abc import Mapping

JOB_REFERENCES: list[object] = [
    "",
    None,
    "tr-1",
    "ms-1/",
    "/tr-1",
    "a/b/c",
    "../tr-1",
    "ms-1/a b",
    7,
    ["a/b"],
]
"""Not the id of a job in a project."""
NAME_LISTS: list[object] = ["accuracy", [], [""], [7], ["a", "a"], {"a": 1}]
"""Not a list of names."""
SCHEDULES: list[object] = [
    *MAPPINGS,
    {"timezone": "Berlin"},
    {"start_time": "8:00"},
    {"end_time": "24:00"},
    {"days": ["Monday"]},
    {"days": []},
]
TRAINING: Values = {
    "project_id": IDS,
    "base_model": NAMES,
    "dataset_id": IDS,
    "base_model_option": [*OPTIONAL_NAMES, "tuned", "fine-tuned"],
    "checkpoint": COUNTS,
    "test_dataset_id": [value for value in IDS if value is not None],
    "train_test_split_ratio": [*NUMBERS, 0, 100, -5],
    "name": OPTIONAL_NAMES,
    "description": OPTIONAL_NAMES,
    "model_task": [*OPTIONAL_NAMES, "translation"],
    "parameters": [*MAPPINGS, {"learning_rate": 0}, {"num_train_epochs": "many"}],
    "hf_model_link": OPTIONAL_NAMES,
    "output": FOLDERS,
    "output_conn_id": CONN_IDS,
}

ARGUMENTS: dict[str, Values] = {
    "BatchInferenceOperator": {
        **JOB,
        **CHUNKED,
        "model_name": NAMES,
        "output_type": OUTPUT_TYPES,
        "max_new_tokens": [*COUNTS, 0],
        "endpoint": ["", "v2", None, "BATCH", 1],
    },
    "EmbeddingOperator": {
        **CHUNKED,
        "model_name": OPTIONAL_NAMES,
        "output_format": ["", "csv", None, "None"],
        "endpoint": ["", "completions", None],
        "texts_per_request": [*COUNTS, 0],
        "passthrough": [["embedding"], "id"],
    },
    "ClassifyOperator": {
        "input": INPUTS,
        "output": FOLDERS,
        "model_id": IDS,
        "top_n": [*COUNTS, 0],
        "max_prompt_chars": [1],
        "threshold": [*NUMBERS, -0.1, 1.1, "2"],
    },
    "MemoryRagQueryOperator": {
        "output": FOLDERS,
        "index_id": IDS,
        "model_name": OPTIONAL_NAMES,
        "rag_query_size": [*COUNTS, 0],
        "max_prompt_chars": [1],
        "output_type": OUTPUT_TYPES,
        "max_new_tokens": [*COUNTS, 0],
        "max_failed_rows": ["some"],
    },
    "CompletionOperator": {
        "prompt": [
            "",
            " ",
            None,
            True,
            [],
            {"prompt": SECRET},
            [SECRET, ""],
            [SECRET, True],
            ["a"] * 101,
            LONE_SURROGATE,
            [LONE_SURROGATE],
        ],
        "model_name": NAMES,
        "output_type": OUTPUT_TYPES,
        "max_new_tokens": [*COUNTS, 0],
        "max_in_flight": [*COUNTS, 0],
        "lamini_conn_id": CONN_IDS,
        "fallback_model": [
            "m",
            7,
            "",
            [],
            ["b", "m"],
            ["b", "b"],
            ["b", 7],
            ["b", ""],
            [f"b{n}" for n in range(11)],
        ],
        "fallback_conn_id": ["", 7, [], [""], ["lamini_default"], ["a"] * 11],
    },
    "ChatOperator": {
        "messages": [
            "",
            None,
            True,
            [],
            {"role": "user", "content": SECRET},
            [{"role": "user"}],
            [{"role": "", "content": SECRET}],
            [{"role": "user\n", "content": SECRET}],
            [{"role": "user", "content": [SECRET]}],
            [{"role": "user", "content": f"{SECRET}{LONE_SURROGATE}"}],
            [{"role": "user", "content": SECRET}, SECRET],
            [SECRET, []],
            [SECRET] * 101,
            f"{SECRET}{LONE_SURROGATE}",
        ],
        "model_name": NAMES,
        "system": ["", 7, [SECRET], LONE_SURROGATE],
        "output_type": OUTPUT_TYPES,
        "temperature": [*NUMBERS, -0.1, "warm"],
        "max_new_tokens": [*COUNTS, 0],
        "cache_ttl": COUNTS,
        "max_in_flight": [*COUNTS, 0],
    },
    "TrainOperator": {
        **BAD_ROWS,
        **LIMITED,
        **JOB,
        **SINGLE,
        "input": [*INPUTS[3:], *PAIRS],
        "dataset_id": ["ds1", "None", 7],  # in addition to an input
        "prompt": TEMPLATES,
        "answer": TEMPLATES,
        "model_name": NAMES,
        "custom_model_name": OPTIONAL_NAMES,
        "train_type": [*OPTIONAL_NAMES, "lora"],
        "is_public": FLAGS,
        "max_resumes": COUNTS,
        "accept_partial": FLAGS,
        "finetune_args": [
            *MAPPINGS,
            {"max_steps": 0},
            {"learning_rate": -1},
            {"max_length": 1000},
            {"optim": "sgd"},
            {"r_value": "many"},
        ],
        "gpu_config": [*MAPPINGS, {"gpus": -1}, {"nodes": "two"}],
        "output": FOLDERS,
        "output_conn_id": CONN_IDS,
    },
    "UploadDatasetOperator": {
        **BAD_ROWS,
        **LIMITED,
        "input": [*INPUTS, *PAIRS],
        "prompt": TEMPLATES,
        "answer": TEMPLATES,
        "is_public": FLAGS,
        "force_new": FLAGS,
        "state_path": FOLDERS,
        "lamini_conn_id": [*CONN_IDS, None],
        "input_conn_id": CONN_IDS,
    },
    "ClassifierTrainOperator": {
        **BAD_ROWS,
        **SINGLE,
        "project": NAMES,
        "model_name": OPTIONAL_NAMES,
        "classes": [*MAPPINGS, {}, {"spam": ""}, {"spam": 1}, {"": "a"}, {"a": "b", "a ": "c"}],
        "examples": [
            *INPUTS[:2],
            *INPUTS[3:6],
            *INPUTS[8:],
            [],
            {},
            {"spam": []},
            {"spam": SECRET},
            {"spam": [SECRET, ""]},
            {"spam": [7]},
            {7: ["a"]},
            {"": ["a"]},
            {"spam": [LONE_SURROGATE]},
            {"eggs": [SECRET]},
            [{"text": SECRET}],
            [{"text": SECRET, "class": None}],
            [{"text": SECRET, "class": "eggs"}],
        ],
        "prompt": TEMPLATES[:4],
        "answer": TEMPLATES[:4],
        "dataset_name": OPTIONAL_NAMES,
        "on_existing": ["", "None", "replace", None],
    },
    "EvaluateOperator": {
        "input": [*INPUTS, *PAIRS],
        "output": FOLDERS,
        "model_name": NAMES,
        "base_model_name": OPTIONAL_NAMES,
        "prompt": TEMPLATES,
        "answer": TEMPLATES,
        "output_field": [*OPTIONAL_NAMES, "mood"],
        "max_prompt_chars": [1],
        "metrics": [
            "exact_match",
            [],
            None,
            7,
            [7],
            ["nothing"],
            ["no.such.metric"],
            [".a"],
            ["exact_match"] * 2,
        ],
        "thresholds": [*THRESHOLDS, {"bleu": 0.5}],
        "min_gain": [*THRESHOLDS, {"exact_match": 0.1}],
        "gate": GATES,
        "output_type": OUTPUT_TYPES,
    },
    "EvaluateClassifierOperator": {
        **BAD_ROWS,
        "input": [*INPUTS, *PAIRS, [{"input": "a", "output": "b"}] * 50_001],
        "model_id": IDS,
        "base_model_id": [value for value in IDS if value is not None],
        "prompt": TEMPLATES,
        "answer": TEMPLATES,
        "thresholds": THRESHOLDS,
        "gate": GATES,
        "fuzzy_comparison": FLAGS,
        "output": FOLDERS,
        "request_timeout": [*NUMBERS, 0, -1, 1e300],
        "output_conn_id": CONN_IDS,
    },
    "MemoryRagBuildOperator": {
        **SINGLE,
        "files": [
            "",
            None,
            7,
            [],
            [None],
            [""],
            {"a": 1},
            b"docs",
            "None",
            "a\0b",
            LONE_SURROGATE,
            [LONE_SURROGATE],
            "x" * 300,
            "~nobody-of-this-name",
            "s3://[bucket",
            "zz://bucket",
            "{here}/nothing",
            "{here}/../nothing",
            "{here}/*.pdf",
            "{here}/**x",
            ["{docs}", "{here}/nothing"],
        ],
        "model_name": NAMES,
        "files_conn_id": CONN_IDS,
    },
    "MemoryRagRefreshOperator": {
        "files": [None, [], "{here}/nothing", "{here}/*.pdf"],
        "model_name": NAMES,
        "manifest": [
            *NAMES,
            "{here}",
            "{here}/",
            "{here}/file/m.json",
            "zz://b/m.json",
            "s3://[b/m.json",
            "{here}/a b",
        ],
        "text_suffixes": [".txt", None, 7, ["txt"], [1], {".txt"}, True],
        "piece_size": [*COUNTS, 0, 199],
        "manifest_conn_id": CONN_IDS,
    },
    "DownloadModelOperator": {
        **JOB,
        "model_name": NAMES,
        "model_type": ["", "None", "llama", None],
        "hub_conn_id": CONN_IDS,
        "wait": FLAGS,
    },
    "ResumeJobOperator": {**SINGLE, "job_id": IDS, "output": FOLDERS, "output_conn_id": CONN_IDS},
    "CancelJobOperator": {
        "job_id": IDS,
        "kind": ["", "None", None, "training", 7, "memory_rag", "batch_completions"],
        "lamini_conn_id": [*CONN_IDS, None],
    },
    "JobSensor": {
        "job_id": IDS,
        "kind": ["", "None", None, "training", ["tuning"]],
        "accept_partial": FLAGS,
        "lamini_conn_id": [*CONN_IDS, None],
    },
    "EmissaryProjectOperator": {"name": NAMES, "emissary_conn_id": [*CONN_IDS, None]},
    "EmissaryDeleteProjectOperator": {"project_id": IDS, "delete_contents": [*FLAGS, False]},
    "EmissaryUploadDatasetOperator": {
        **BAD_ROWS,
        **LIMITED,
        **SINGLE,
        "project_id": IDS,
        "input": [*INPUTS, *PAIRS, [{"input": "x" * 1000, "output": "y"}] * 5000],
        "prompt": TEMPLATES,
        "answer": TEMPLATES,
        "prompt_field": [*NAMES, "completion"],
        "answer_field": NAMES,
        "name": OPTIONAL_NAMES,
        "input_conn_id": CONN_IDS,
        "emissary_conn_id": CONN_IDS,
    },
    "EmissaryTrainOperator": {
        **SINGLE,
        **TRAINING,
        "test_functions": [*NAME_LISTS, ["wit"]],
        "rebalance_data": [*MAPPINGS, {"a": 1}, {"a": "much"}],
    },
    "EmissaryGRPOTrainOperator": {
        **SINGLE,
        **TRAINING,
        "test_functions": [None, *NAME_LISTS, ["brevity"]],
        "reward": [None, *MAPPINGS, {}, {"accuracy": "much"}, {"brevity": 1}],
    },
    "EmissaryChooseCheckpointOperator": {
        "project_id": IDS,
        "training_job_id": IDS,
        "checkpoint": [*COUNTS, 300],
        "metric": [*OPTIONAL_NAMES, "wit"],
        "mode": ["", "None", "best", None],
        "threshold": [*NUMBERS, 0.5],
        "gate": GATES,
    },
    "EmissaryDeployOperator": {
        **SINGLE,
        "project_id": IDS,
        "training_job_id": NAMES[:3],
        "checkpoint": COUNTS,
        "name": OPTIONAL_NAMES,
        "description": OPTIONAL_NAMES,
        "engine_id": [value for value in IDS if value is not None],
        "inactive_timeout": [*COUNTS, 0],
        "schedule": SCHEDULES,
        "reuse": FLAGS,
        "wake_timeout": [*NUMBERS, 0],
    },
    "EmissaryEngineOperator": {
        **SINGLE,
        "base_model": NAMES,
        "name": OPTIONAL_NAMES,
        "model_task": OPTIONAL_NAMES,
        "inactive_timeout": [*COUNTS, 0],
        "schedule": SCHEDULES,
        "reuse": FLAGS,
        "wake_timeout": [*NUMBERS, 0],
    },
    "EmissaryUndeployOperator": {
        "model_name": NAMES,
        "project_id": IDS,
        "engine_id": [value for value in IDS if value is not None],
    },
    "EmissaryDeleteOperator": {"job_id": JOB_REFERENCES, "kind": ["", "None", None, "project"]},
    "EmissaryReactivateOperator": {
        "job_id": JOB_REFERENCES,
        "engine_id": ["engine-1"],
        "timeout": [*NUMBERS, 0],
        "poll_interval": [*NUMBERS, 0],
    },
    "EmissaryDeactivateEngineOperator": {"engine_id": IDS, "timeout": [*NUMBERS, 0], "wait": FLAGS},
    "EmissaryBatchInferenceOperator": {
        **CHUNKED,
        "model_name": NAMES,
        "endpoint": ["", "batch", None, 1],
        "project_id": [value for value in IDS if value is not None],
        "engine_id": [value for value in IDS if value is not None],
        "wake_timeout": [*NUMBERS, 0],
        "system": ["", 7, "be brief"],
        "max_new_tokens": [*COUNTS, 0],
        "temperature": [*NUMBERS, -0.1],
        "top_p": [*NUMBERS, 1.1],
        "top_k": [*COUNTS, 0],
        "output_type": OUTPUT_TYPES,
        "messages": ["", 7, "body"],
        "overrides": [7, "{", {"seed": "s"}, {"top_k": ""}],
        "check": [7, "no.such.check"],
        "accept_answers": ["error", [7]],
        "data_format": ["", None, "percent"],
        "measures": [*NAME_LISTS, ["angle"]],
    },
    "EmissaryJobSensor": {"job_id": JOB_REFERENCES, "kind": ["", "None", None, "tuning"]},
}


@dataclass(frozen=True, slots=True)
class Case:
    """Invalid input of an operator.

    :param operator: the operator's name in `operator_classes`
    :param arguments: arguments that replace valid ones
    :param texts: the message must contain one of these
    :param files: files to create in the test's folder
    """

    operator: str
    arguments: Mapping[str, object]
    texts: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """A printable test id, the same in every process."""
        ((name, value), *_) = self.arguments.items()
        shown = re.sub(r" at 0x[0-9a-f]+", "", ascii(value))
        return f"{self.operator.removesuffix('Operator')}-{name}-{shown[:40]}"


ROWS = ("input", "files", "examples", "prompt", "answer", "passthrough")
"""Arguments about rows: the message may name the row, the file or the column instead."""
SAMPLE = 2
"""How many invalid values of an argument are tested with every operator that has it."""
LOCATIONS = (
    "row ",
    "path",
    "URI",
    "file system",
    "no column",
    "column in braces",
    "regular file",
    "not exist",
    "folder",
    "format",
    "rows",
)


def argument_cases() -> list[Case]:
    """Return each invalid value of an argument once, and two of them for every operator that has the argument."""
    cases, seen = [], set()
    for operator, arguments in ARGUMENTS.items():
        for name, invalid_values in arguments.items():
            for number, value in enumerate(invalid_values):
                key = (name, repr(value))
                if number < SAMPLE or key not in seen:
                    texts = (name, *(LOCATIONS if name in ROWS else ()))
                    cases.append(Case(operator, {name: value}, texts, {"file": b"a file"}))
                seen.add(key)
    return cases
