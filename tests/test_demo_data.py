"""The example tickets keep what `dags_examples/data/README.md` says of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from pathlib import Path
from typing import Final

import pytest

TICKETS: Final = Path(__file__).parents[1] / "dags_examples" / "data" / "support_tickets.jsonl"
CATEGORIES: Final = {"billing", "login", "shipping", "defect", "feature request"}
REQUIRED: Final = {"ticket_id", "created_at", "product", "subject", "body"}
LONG_NUMBER: Final = re.compile(r"(?:\d[\s\-.()/]{0,2}){7,}")
"""Seven digits or more, with the separators that phone, card and account numbers are written with."""

Ticket = dict[str, str]


@pytest.fixture(scope="module")
def tickets() -> list[Ticket]:
    with TICKETS.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def labels(tickets: list[Ticket]) -> list[str | None]:
    return [ticket.get("expected_category") for ticket in tickets]


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def test_every_line_is_one_ticket_with_only_the_documented_text_fields(tickets: list[Ticket]) -> None:
    assert len(tickets) == 320
    for ticket in tickets:
        assert set(ticket) - {"expected_category"} == REQUIRED
        assert all(isinstance(value, str) and value == value.strip() != "" for value in ticket.values())


def test_ticket_ids_are_well_formed_unique_and_rising(tickets: list[Ticket]) -> None:
    ids = [ticket["ticket_id"] for ticket in tickets]
    assert all(re.fullmatch(r"T-\d{5}", ticket_id) for ticket_id in ids)
    assert all(earlier < later for earlier, later in pairwise(ids))


def test_tickets_rise_in_time_over_a_fortnight(tickets: list[Ticket]) -> None:
    times = [datetime.fromisoformat(ticket["created_at"]) for ticket in tickets]
    assert all(time.tzinfo == UTC for time in times)
    assert all(earlier < later for earlier, later in pairwise(times))
    assert len({time.date() for time in times}) == 14
    assert times[-1] - times[0] < timedelta(days=14)


def test_the_eight_products_are_about_equally_frequent(tickets: list[Ticket]) -> None:
    counts = Counter(ticket["product"] for ticket in tickets)
    assert len(counts) == 8
    assert min(counts.values()) >= 30


def test_subjects_and_bodies_have_the_documented_lengths(tickets: list[Ticket]) -> None:
    for ticket in tickets:
        assert 3 <= len(ticket["subject"].split()) <= 10, ticket["ticket_id"]
        assert 15 <= len(ticket["body"].split()) <= 70, ticket["ticket_id"]


def test_bodies_hold_what_real_text_holds(tickets: list[Ticket]) -> None:
    """Line breaks, quotation marks, non-ASCII letters and emojis: each can break a reader or a prompt."""
    bodies = [ticket["body"] for ticket in tickets]
    assert sum("\n" in body for body in bodies) >= 5
    assert sum('"' in body for body in bodies) >= 5
    assert sum(any(char.isalpha() and not char.isascii() for char in body) for body in bodies) >= 20
    assert sum(any(ord(char) > 0xFFFF for char in body) for body in bodies) >= 3


def test_250_tickets_are_labelled_with_50_of_each_category(labels: list[str | None]) -> None:
    assert Counter(label for label in labels if label is not None) == dict.fromkeys(CATEGORIES, 50)


def test_unlabelled_tickets_are_spread_evenly(labels: list[str | None]) -> None:
    for start in range(0, len(labels), 40):
        assert 4 <= labels[start : start + 40].count(None) <= 14, start


def test_the_first_60_tickets_are_a_fair_sample(labels: list[str | None]) -> None:
    """The demo takes these unless told otherwise."""
    counts = Counter(label for label in labels[:60] if label is not None)
    assert counts.total() >= 45
    assert set(counts) == CATEGORIES
    assert all(8 <= count <= 12 for count in counts.values())


def test_no_category_comes_more_than_three_times_in_a_row(labels: list[str | None]) -> None:
    for start in range(len(labels) - 3):
        run = labels[start : start + 4]
        assert None in run or len(set(run)) > 1, start


def test_no_single_word_gives_a_category_away(tickets: list[Ticket]) -> None:
    """No word stands in half of the tickets of one category unless it is common in another, too."""
    in_category: dict[str, Counter[str]] = {category: Counter() for category in CATEGORIES}
    for ticket in tickets:
        if label := ticket.get("expected_category"):
            in_category[label].update(words(f"{ticket['subject']} {ticket['body']}"))
    for category, counts in in_category.items():
        for word, count in counts.items():
            elsewhere = max(in_category[other][word] for other in CATEGORIES - {category})
            assert count < 25 or elsewhere >= 5, (category, word, count)


def test_no_two_tickets_are_near_duplicates(tickets: list[Ticket]) -> None:
    assert len({ticket["subject"].lower() for ticket in tickets}) == len(tickets)
    bodies = [(ticket["ticket_id"], words(ticket["body"])) for ticket in tickets]
    for (one, left), (other, right) in combinations(bodies, 2):
        assert len(left & right) / len(left | right) < 0.6, (one, other)


def test_no_ticket_holds_a_phone_card_or_account_number(tickets: list[Ticket]) -> None:
    for ticket in tickets:
        assert not LONG_NUMBER.search(f"{ticket['subject']} {ticket['body']}"), ticket["ticket_id"]


@pytest.mark.parametrize("number", ["+44 20 7946 0018", "(030) 1234-567", "4111-1111-1111-1111", "5550123"])
def test_the_number_check_finds_numbers_as_people_write_them(number: str) -> None:
    assert LONG_NUMBER.search(f"call {number} please")


def test_addresses_are_at_example_com_and_nothing_links_out(tickets: list[Ticket]) -> None:
    for ticket in tickets:
        text = f"{ticket['subject']} {ticket['body']}"
        assert text.count("@") == len(re.findall(r"@example\.com\b", text)), ticket["ticket_id"]
        assert not re.search(r"https?:|www\.", text), ticket["ticket_id"]


def test_the_shards_hold_tickets_of_one_product_each_as_they_came_in(tickets: list[Ticket]) -> None:
    files = sorted((TICKETS.parent / "tickets_by_product").glob("*.jsonl"))
    assert len(files) == 4
    for file in files:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert rows == [ticket for ticket in tickets if ticket["product"] == rows[0]["product"]][:15]
