"""The scores of an evaluation, and its report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.output.groups import Chart
from airflow_provider_lamini.runs.evaluation import score
from airflow_provider_lamini.runs.report import Item, Report, quoted
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.corpus.pairs import Pair
    from airflow_provider_lamini.runs.evaluation import Metric, ThresholdResult

MAX_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class RowAnswers:
    """The models' answers to one row; ``None`` if a model failed, or there is no such model.

    :param index: the row's number
    :param pair: the question and the right answer
    :param model: the answer of the evaluated model
    :param base: the answer of the model that it is compared with
    """

    index: int
    pair: Pair
    model: Json
    base: Json = None


@dataclass(slots=True)
class Tally:
    """The sums of scores over rows.

    :param metrics: the metrics by name
    :param compared: whether there is a second model
    :param rows: number of rows so far
    :param sums: sums of scores, by model and metric
    :param better: number of rows on which the model beats the base model, by metric
    :param worse: number of rows on which the base model is better, by metric
    :param worsened: examples of rows on which the base model is better
    :param wrong: examples of wrong answers, if there is no second model
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
        """The roles of the models: ``model``, and ``base`` if there is a second one."""
        return ("model", "base") if self.compared else ("model",)

    def lines(self, answers: Iterable[RowAnswers]) -> Iterator[bytes]:
        """Score rows.

        :param answers: the rows, in order
        :return: a line of JSON for each row
        """
        for row in answers:
            self.rows += 1
            scores = {
                role: {name: self._score(name, row, role) for name in self.metrics} for role in self.roles
            }
            self._add(row, scores)
            yield msgspec.json.encode({"index": row.index, **scores}) + b"\n"

    def mean(self, role: str, metric: str) -> float:
        """The mean score of a model; 0 if there are no rows."""
        return self.sums.get(role, {}).get(metric, 0.0) / self.rows if self.rows else 0.0

    def gain(self, metric: str) -> float:
        """The model's mean minus that of the base model."""
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
            if scores["model"][first] < scores["base"][first] and len(self.worsened) < MAX_EXAMPLES:
                self.worsened.append(row)
        elif scores["model"][first] < 1 and len(self.wrong) < MAX_EXAMPLES:
            self.wrong.append(row)


def report_of(
    tally: Tally,
    results: list[ThresholdResult],
    *,
    names: Mapping[str, str],
    failed: Mapping[str, int],
    source: str,
) -> Report:
    """The report.

    :param tally: the scores
    :param results: their means, compared with the thresholds
    :param names: the models by role
    :param failed: number of failed rows, by role
    :param source: a description of the input
    """
    heads = ["metric", *(f"{role}: {names[role]}" for role in tally.roles)]
    heads += ["gain", "rows better", "rows worse"] if tally.compared else []
    bars = [
        (f"{name}, {role}", max(0.0, tally.mean(role, name)))
        for name in tally.metrics
        for role in tally.roles
    ]
    cells = ["failed rows", *(str(failed[role]) for role in tally.roles)]
    return Report(
        title=f"Evaluation of {names['model']}: {verdict(results)}",
        summary=f"{counted(tally.rows, 'row')} of {source}.",
        heads=heads,
        rows=[*_rows(tally), cells + [""] * (len(heads) - len(cells))],
        charts=[Chart("Mean scores", bars)],
        sections=[*threshold_section(results), *_examples(tally)],
    )


def verdict(results: list[ThresholdResult]) -> str:
    """Whether all thresholds are met, for the title of a report.

    :param results: scores, compared with the thresholds
    """
    if not results:
        return "no thresholds set"
    return "good enough" if all(result.met for result in results) else "not good enough"


def threshold_section(results: list[ThresholdResult]) -> list[tuple[str, list[Item]]]:
    """The part of a report about the thresholds; nothing if there are none.

    :param results: scores, compared with the thresholds
    """
    items = [Item(f"{'met' if result.met else '**missed**'}: {result}") for result in results]
    return [("Thresholds", items)] if items else []


def _rows(tally: Tally) -> Iterator[list[str]]:
    for name in tally.metrics:
        cells = [name, *(f"{tally.mean(role, name):.4f}" for role in tally.roles)]
        if tally.compared:
            cells += [
                f"{tally.gain(name):+.4f}",
                str(tally.better.get(name, 0)),
                str(tally.worse.get(name, 0)),
            ]
        yield cells


def _examples(tally: Tally) -> Iterator[tuple[str, list[Item]]]:
    examples = tally.worsened if tally.compared else tally.wrong
    if not examples:
        return
    first = next(iter(tally.metrics))
    title = f"Rows with a lower {first}" if tally.compared else f"Rows without a perfect {first}"
    items = []
    for row in examples:
        details = [f"model: {quoted(row.model)}"]
        if tally.compared:
            details.append(f"base: {quoted(row.base)}")
        items.append(Item(f"Row {row.index}, right answer: {quoted(row.pair.output)}", tuple(details)))
    yield title, items
