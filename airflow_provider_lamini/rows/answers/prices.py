"""What answers cost, by the prices of a connection."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_lamini.rows.numbers import finite
from airflow_provider_lamini.rows.tokens import sum_tokens
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_lamini.rows.answers.judging import RowResult
    from airflow_provider_lamini.rows.tokens import TokenUsage

OTHER_MODELS = "*"
"""The name under which the price of all other models is."""
COST = "cost"
"""Key of `Counts.sums` for what the rows cost that have a cost."""
UNPRICED = "rows_without_cost"
"""Key of `Counts.sums` for the answered rows whose cost is not known; missing if there are none."""
MAX_PRICE = 1_000_000
"""The highest price, of a million tokens: a larger number is a mistake."""
_MILLION = 1_000_000


class Price(NamedTuple):
    """The price of a model's tokens, in any currency.

    :param input: of a million tokens of prompts
    :param output: of a million tokens of answers
    """

    input: float
    output: float


def parse_prices(value: Mapping[str, object]) -> dict[str, Price]:
    """Validate prices.

    :param value: by model, or `OTHER_MODELS`, a mapping with ``input`` and ``output``
    :raises ValueError: if it is anything else; the message follows the name of the field
    """
    return {model: _price(model, entry) for model, entry in value.items()}


def _price(model: str, entry: object) -> Price:
    if not isinstance(entry, dict) or set(entry) != set(Price._fields):
        raise ValueError("must have input and output for each model")
    for name, price in entry.items():
        if isinstance(price, str) or not 0 <= finite(price) <= MAX_PRICE:  # also not NaN
            raise ValueError(
                f"of {model}: {name} must be a number from 0 to {MAX_PRICE:,}, per million tokens"
            )
    return Price(float(entry["input"]), float(entry["output"]))


def cost_of(prices: Mapping[str, Price], model: str, usages: Iterable[TokenUsage | None]) -> float | None:
    """What answers of a model cost.

    :param prices: the prices by model
    :param model: the model
    :param usages: the tokens of each answer; ``None`` if the platform has not counted them
    :return: the cost; ``None`` unless the model has a price, and the platform has counted the tokens of all answers
    """
    price, answers = prices.get(model, prices.get(OTHER_MODELS)), list(usages)
    if price is None or not answers or not all(map(_is_counted, answers)):
        return None
    tokens = sum_tokens(answers)
    return (tokens["prompt_tokens"] * price.input + tokens["completion_tokens"] * price.output) / _MILLION


def _is_counted(usage: TokenUsage | None) -> bool:
    """Whether anybody has counted an answer's tokens, and not only both sorts together."""
    return usage is not None and bool(usage.prompt_tokens or usage.completion_tokens)


def sum_usage(
    rows: Mapping[int, RowResult], prices: Mapping[str, Price], unpriced: set[int]
) -> dict[str, float]:
    """Sum what rows have used: tokens and, if there are prices, costs.

    :param rows: the rows that were sent, by offset in their chunk
    :param prices: the prices by model
    :param unpriced: offsets of the rows whose cost is not known from an earlier try, which has counted them; receives the others
    """
    sums = sum_tokens(usage for row in rows.values() for usage in row.usages)
    if not prices:
        return sums
    costs = {
        offset: cost_of(prices, row.model, row.usages)
        for offset, row in rows.items()
        if row.model is not None
    }
    known = [cost for cost in costs.values() if cost is not None]
    if known:
        sums[COST] = math.fsum(known)
    new = {offset for offset, cost in costs.items() if cost is None} - unpriced
    if new:
        sums[UNPRICED] = float(len(new))
        unpriced |= new
    return sums


def describe_cost(sums: Mapping[str, float]) -> str | None:
    """The cost of a run for a message, such as ``0.0125`` or ``not known for 3 rows``.

    :param sums: sums over the rows
    :return: ``None`` if there are no prices, or no answers
    """
    missing = counted(int(sums.get(UNPRICED, 0)), "row")
    if COST not in sums:
        return f"not known for {missing}" if UNPRICED in sums else None
    return f"{sums[COST]:.6g}" + (f", without {missing} whose cost is not known" if UNPRICED in sums else "")
