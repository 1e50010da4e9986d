"""The numbers of a comparison, and its report. For tasks that run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.runs.metrics import score

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.corpus.pairs import Pair
    from airflow_provider_lamini.runs.metrics import Metric
    from airflow_provider_lamini.runs.thresholds import ThresholdResult

EXAMPLES = 5
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class RowAnswers:
    """What the models said to one row; ``None`` where they failed, or where there is no such model.

    :param index: the row's number
    :param pair: what was asked, and the answer that is right
    :param model: the model that is judged
    :param base: the one that it is compared with
    """

    index: int
    pair: Pair
    model: Json
    base: Json = None


@dataclass(slots=True)
class Tally:
    """The scores of a comparison, added up while rows pass.

    :param metrics: by name
    :param compared: whether there is a second model
    """

    metrics: Mapping[str, Metric]
    compared: bool
    rows: int = 0
    sums: dict[str, dict[str, float]] = field(default_factory=dict)
    better: dict[str, int] = field(default_factory=dict)
    worse: dict[str, int] = field(default_factory=dict)
    worsened: list[RowAnswers] = field(default_factory=list)
    wrong: list[RowAnswers] = field(default_factory=list)

    @property
    def roles(self) -> tuple[str, ...]:
        """The models that are scored."""
        return ("model", "base") if self.compared else ("model",)

    def lines(self, answers: Iterable[RowAnswers]) -> Iterator[bytes]:
        """Score rows, and give a line of JSON for each.

        :param answers: the rows, in order
        """
        for row in answers:
            self.rows += 1
            scores = {
                role: {name: self._score(name, row, role) for name in self.metrics} for role in self.roles
            }
            self._add(row, scores)
            yield msgspec.json.encode({"index": row.index, **scores}) + b"\n"

    def mean(self, role: str, metric: str) -> float:
        """The mean score of a model; 0 where there are no rows."""
        return self.sums.get(role, {}).get(metric, 0.0) / self.rows if self.rows else 0.0

    def gain(self, metric: str) -> float:
        """By how much the model's mean is above that of the base model."""
        return self.mean("model", metric) - self.mean("base", metric)

    def numbers(self) -> dict[str, dict[str, float]]:
        """Means by model and metric, and the gain."""
        found = {role: {name: self.mean(role, name) for name in self.metrics} for role in self.roles}
        return {**found, "gain": {name: self.gain(name) for name in self.metrics}} if self.compared else found

    def _score(self, name: str, row: RowAnswers, role: str) -> float:
        output = row.model if role == "model" else row.base
        return 0.0 if output is None else score(name, self.metrics[name], row.pair.output, output, row.index)

    def _add(self, row: RowAnswers, scores: Mapping[str, Mapping[str, float]]) -> None:
        first = next(iter(self.metrics))
        for role, of_role in scores.items():
            sums = self.sums.setdefault(role, {})
            for name, value in of_role.items():
                sums[name] = sums.get(name, 0.0) + value
        if self.compared:
            for name in self.metrics:
                difference = scores["model"][name] - scores["base"][name]
                self.better[name] = self.better.get(name, 0) + (difference > 0)
                self.worse[name] = self.worse.get(name, 0) + (difference < 0)
            if scores["model"][first] < scores["base"][first] and len(self.worsened) < EXAMPLES:
                self.worsened.append(row)
        elif scores["model"][first] < 1 and len(self.wrong) < EXAMPLES:
            self.wrong.append(row)


def report_of(
    tally: Tally,
    verdicts: list[ThresholdResult],
    *,
    names: Mapping[str, str],
    failed: Mapping[str, int],
    source: str,
) -> bytes:
    """The report as Markdown.

    :param tally: the scores
    :param verdicts: how they stand to their thresholds
    :param names: the models by role
    :param failed: how many rows failed, by role
    :param source: what was read, for a person
    """
    passed = all(verdict.met for verdict in verdicts)
    title = ("good enough" if passed else "not good enough") if verdicts else "no thresholds set"
    lines = [f"# Evaluation of {names['model']}: {title}", ""]
    lines += [f"{tally.rows} rows of {source}.", "", *_table(tally, names, failed), ""]
    if verdicts:
        lines += ["## Thresholds", ""]
        lines += [f"- {'met' if verdict.met else '**missed**'}: {verdict}" for verdict in verdicts]
        lines.append("")
    examples = tally.worsened if tally.compared else tally.wrong
    if examples:
        first = next(iter(tally.metrics))
        what = f"got worse by {first}" if tally.compared else f"are not right by {first}"
        lines += [f"## Rows that {what}", ""]
        for row in examples:
            lines += [
                f"- Row {row.index}, right is {_shown(row.pair.output)}",
                f"  - model: {_shown(row.model)}",
            ]
            if tally.compared:
                lines.append(f"  - base: {_shown(row.base)}")
        lines.append("")
    return "\n".join(lines).encode()


def _table(tally: Tally, names: Mapping[str, str], failed: Mapping[str, int]) -> Iterator[str]:
    heads = ["metric", *(f"{role}: {_cell(names[role])}" for role in tally.roles)]
    heads += ["gain", "rows better", "rows worse"] if tally.compared else []
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for name in tally.metrics:
        cells = [name, *(f"{tally.mean(role, name):.4f}" for role in tally.roles)]
        if tally.compared:
            cells += [
                f"{tally.gain(name):+.4f}",
                str(tally.better.get(name, 0)),
                str(tally.worse.get(name, 0)),
            ]
        yield f"| {' | '.join(cells)} |"
    cells = ["rows that failed", *(str(failed[role]) for role in tally.roles)]
    yield f"| {' | '.join(cells + [''] * (len(heads) - len(cells)))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _shown(output: Json) -> str:
    if output is None:
        return "(failed)"
    text = " ".join((output if isinstance(output, str) else msgspec.json.encode(output).decode()).split())
    text = text.replace("`", "'")
    return f"`{text if len(text) <= _LONGEST else text[:_LONGEST] + '...'}`" if text else "(empty)"
