"""A run as an operator makes it, small enough to be killed at every step, and a platform that counts what is paid for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.hashes import fingerprint, row_keys
from airflow_provider_lamini.rows.ledger.document import Header
from airflow_provider_lamini.rows.ledger.ledger import Ledger
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
from airflow_provider_lamini.rows.output.manifest import write_manifest
from airflow_provider_lamini.rows.output.parts import PartWriter
from airflow_provider_lamini.rows.prompts.template import PromptTemplate
from airflow_provider_lamini.rows.sources.validation import needed_columns, validate_input
from airflow_provider_lamini.rows.storage.folder import OutputFolder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_lamini.rows.ledger.document import Chunk
    from airflow_provider_lamini.rows.sources.source import Source

PROMPT = PromptTemplate.parse("Say: {text}")
PASSTHROUGH = ("id",)


class KilledError(BaseException):
    """The process ends here. No handler for errors may notice it."""


@dataclass
class Fate:
    """Says at which step the process ends: before a step, or after it and before anybody knows of it."""

    kill_at: int
    step: int = 0

    def pass_by(self) -> None:
        self.step += 1
        if self.step == self.kill_at:
            raise KilledError


class MortalFolder(OutputFolder):
    """A folder whose process may end before and after each thing that it does."""

    def __init__(self, uri: str, fate: Fate) -> None:
        super().__init__(uri)
        self._fate = fate

    def write(self, name: str, data: bytes | Iterable[bytes], *, durable: bool = True) -> None:
        del (
            durable
        )  # a killed process loses nothing that it has written; waiting for the disk only takes time
        self._fate.pass_by()
        super().write(name, data, durable=False)
        self._fate.pass_by()

    def sync(self) -> None:
        """Nothing to wait for, see `write`."""

    def delete(self, name: str) -> None:
        self._fate.pass_by()
        super().delete(name)
        self._fate.pass_by()


@dataclass
class Platform:
    """Answers at once. Rows with an ``r`` fail at the first time, rows with an ``f`` always."""

    jobs: list[list[str]] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)

    def submit(self, prompts: list[str]) -> str:
        self.jobs.append(prompts)
        for prompt in prompts:
            self.asked[prompt] = self.asked.get(prompt, 0) + 1
        return str(len(self.jobs) - 1)

    def result(self, job_id: str, *, first: bool) -> list[tuple[str | None, str | None]]:
        return [
            (None, None) if "f" in prompt or ("r" in prompt and first) else (prompt.upper(), "stop")
            for prompt in self.jobs[int(job_id)]
        ]


@dataclass
class Run:
    """One task over all its tries."""

    source: Source
    output: str
    chunk_size: int
    in_flight: int
    only_failed_of: str | None = None
    platform: Platform = field(default_factory=Platform)
    unknown: int = 0
    finished: list[int] = field(default_factory=list)

    def attempt(self, fate: Fate) -> None:
        """One try, until it ends or is killed."""
        folder = MortalFolder(self.output, fate)
        seen = validate_input(self.source, PROMPT, passthrough=PASSTHROUGH)
        header = Header({"task": "t"}, "s", seen.total_rows, self.chunk_size, self.source.version())
        ledger = Ledger.open(folder, header)
        writer = PartWriter(folder, PASSTHROUGH)
        self.unknown += len(ledger.unknown_submissions)
        for chunk in ledger.unknown_submissions:
            ledger.forget(chunk)
        while not ledger.finished:
            self._refill(ledger, fate)
            self._harvest(ledger, writer, ledger.chunks[len(ledger.chunks) // 2], fate)
        write_manifest(
            folder,
            ledger,
            model="m",
            source=self.source.name(),
            only_failed_of=self.only_failed_of,
            index=lambda row: self.source.indices(row, 1)[0],
        )

    def _refill(self, ledger: Ledger, fate: Fate) -> None:
        columns = needed_columns(PROMPT, PASSTHROUGH)
        for chunk in ledger.chunks:
            if chunk.state == "planned":
                found = next(self.source.chunks(chunk.rows, chunk.start, columns=columns))
                self._submit(ledger, chunk, PROMPT.render_all(found.rows), None, fate)
        if ledger.exhausted:
            return
        for found in self.source.chunks(self.chunk_size, ledger.document.next, columns=columns):
            if len(ledger.chunks) >= self.in_flight:
                return
            prompts = PROMPT.render_all(found.rows)
            with ledger.transaction() as change:
                chunk = change.intend(change.plan(found.start, found.after, fingerprint(row_keys(prompts))))
            self._send(ledger, chunk, prompts, fate)

    def _submit(
        self, ledger: Ledger, chunk: Chunk, prompts: list[str], rows: list[int] | None, fate: Fate
    ) -> None:
        with ledger.transaction() as change:
            chunk = change.intend(chunk, rows)
        self._send(ledger, chunk, prompts if rows is None else [prompts[row] for row in rows], fate)

    def _send(self, ledger: Ledger, chunk: Chunk, prompts: list[str], fate: Fate) -> None:
        fate.pass_by()
        job_id = self.platform.submit(prompts)
        fate.pass_by()
        ledger.record_job_id(chunk, job_id)

    def _harvest(self, ledger: Ledger, writer: PartWriter, chunk: Chunk, fate: Fate) -> None:
        assert chunk.job_id is not None
        assert chunk.number not in self.finished, "a finished chunk is worked on again"
        found = next(self.source.chunks(chunk.rows, chunk.start, columns=needed_columns(PROMPT, PASSTHROUGH)))
        prompts = PROMPT.render_all(found.rows)
        assert fingerprint(row_keys(prompts)) == chunk.fingerprint
        rounds = len(chunk.rounds)
        result = writer.load_partial(chunk.number, rounds - 1, chunk.rows) or ChunkResult.pending(chunk.rows)
        sent = chunk.rounds[-1].rows or range(chunk.rows)
        for row, (output, reason) in zip(
            sent, self.platform.result(chunk.job_id, first=rounds == 1), strict=True
        ):
            if output is not None:
                result.settle(row, output, reason)
        if result.failed and rounds == 1:
            writer.save_partial(chunk.number, rounds, result)
            self._submit(ledger, chunk, prompts, result.failed, fate)
            return
        ledger.check_acquired()
        indices = self.source.indices(chunk.first_row, chunk.rows)
        writer.write(chunk.number, indices, found.rows, result)
        with ledger.transaction(later=True) as change:
            change.finish(chunk, result.counts(chunk.retried))
        ledger.commit()
        self.finished.append(chunk.number)
