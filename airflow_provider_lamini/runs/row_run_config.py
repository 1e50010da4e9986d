"""The settings of a run over rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.hashes import digest
from airflow_provider_lamini.rows.output.parts import USAGE_COLUMNS
from airflow_provider_lamini.rows.sources.read_once import ReadOnceInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_lamini.rows.endpoints import DirectEndpoint, JobEndpoint
    from airflow_provider_lamini.rows.limits import Budget, FailureLimit
    from airflow_provider_lamini.rows.output.parts import PartWriter
    from airflow_provider_lamini.rows.prompts.template import PromptTemplate
    from airflow_provider_lamini.rows.sources.options import InputOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRunConfig:
    """The settings of a run over rows.

    :param input: the input, as `open_source` takes it
    :param output: path or URI of the output folder; empty for `InlineRun`, which writes nothing
    :param prompt: makes the prompt of a row
    :param max_prompt_chars: maximum length of a prompt in characters; ``None`` for no limit
    :param passthrough: columns to copy into the output
    :param endpoint: sends prompts, as jobs or as direct requests
    :param model: the model that answers, for the manifest
    :param fingerprint_inputs: all other arguments that decide the results, as plain values. A folder with results for
        other values belongs to another run.
    :param writer: writes the parts
    :param chunk_size: rows per chunk
    :param max_in_flight: maximum number of jobs, or of direct requests, at the same time
    :param row_retries: how often a failed row is sent again
    :param keep_bad_rows: write rows that cannot be sent with their error instead of refusing the input
    :param reuse_from: output folder of the run whose results are reused; ``None`` for none
    :param only_failed_of: output folder of the run whose failed rows are sent, and no others; ``None`` to send all rows
    :param budget: what the run may cost at most
    :param limit_rows: process only the first rows, this many; ``None`` for all
    :param dry_run: validate and count the input, and send and write nothing
    :param failure_limit: how many rows may fail
    :param replace_other_run: replace another run's results in the folder instead of failing
    :param extend_input: continue with an input that has grown at its end
    :param submit_unknown: submit a chunk again if nobody knows whether its job was started
    :param input_options: how to read the input
    :param input_conn_id: the connection to the input's object storage
    :param output_conn_id: the connection to the output's object storage
    :param input_title: what the rows are, if the input only keeps them; ``None`` for the input itself
    """

    input: object
    output: str
    prompt: PromptTemplate
    max_prompt_chars: int | None
    passthrough: tuple[str, ...]
    endpoint: JobEndpoint | DirectEndpoint
    model: str
    fingerprint_inputs: Mapping[str, object]
    writer: type[PartWriter]
    chunk_size: int
    max_in_flight: int
    row_retries: int
    keep_bad_rows: bool
    reuse_from: str | None
    only_failed_of: str | None
    budget: Budget
    limit_rows: int | None
    dry_run: bool
    failure_limit: FailureLimit
    replace_other_run: bool
    extend_input: bool
    submit_unknown: bool
    input_options: InputOptions
    input_conn_id: str | None
    output_conn_id: str | None
    input_title: str | None = None

    @property
    def reads_bad_rows(self) -> bool:
        """Whether the input is read on after a row that cannot be used: it may be one beyond the first rows that count."""
        return self.keep_bad_rows or self.limit_rows is not None

    @property
    def read_once(self) -> ReadOnceInput | None:
        """The input if it is read once, no further than its rows count; ``None`` for another one."""
        if not isinstance(self.input, ReadOnceInput):
            return None
        # The rows that failed in an earlier run may be anywhere.
        return self.input.sample(self.limit_rows if self.only_failed_of is None else None)

    def settings(self, platform_url: str) -> str:
        """Hash of the platform, the model and the parameters: what decides the result of a prompt.

        :param platform_url: base URL of the platform
        """
        others = {name: value for name, value in self.fingerprint_inputs.items() if name != "format"}
        return digest({"platform": platform_url, **others})

    def fingerprint(self, platform_url: str) -> str:
        """Hash of everything but the input that decides the results.

        :param platform_url: base URL of the platform
        """
        return digest(
            {
                "platform": platform_url,
                "prompt": self.prompt.text,
                "passthrough": self.passthrough,
                **({} if self.only_failed_of is None else {"only_failed_of": self.only_failed_of}),
                **({"row_usage": True} if set(USAGE_COLUMNS) <= set(self.writer.columns) else {}),
                **self.fingerprint_inputs,
            }
        )
