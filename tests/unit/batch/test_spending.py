from decimal import Decimal, localcontext

import pytest

from airflow_provider_mps.batch.spending import (
    MAX_LISTED_VOICES,
    MAX_VOICES,
    CharacterBudget,
    Spending,
    parse_max_total_characters,
    parse_price,
)
from airflow_provider_mps.batch.summary import Summary, format_voice_table
from airflow_provider_mps.exceptions import InvalidRequestError


@pytest.mark.parametrize(
    ("given", "limit"),
    [(None, None), (0, 0), ("0", 0), (7, 7), (" 12 ", 12), (3.0, 3), ("1" * 30, int("1" * 30))],
)
def test_limit_is_a_whole_number(given, limit):
    assert parse_max_total_characters(given) == limit


@pytest.mark.parametrize(
    "given", ["", " ", -1, "-1", 1.5, "1.5", "many", "None", True, False, [3], float("nan"), float("inf")]
)
def test_limit_other_than_a_whole_number_is_an_error(given):
    with pytest.raises(InvalidRequestError, match="max_total_characters must be a whole number"):
        parse_max_total_characters(given)


@pytest.mark.parametrize(
    ("given", "price"),
    [(None, None), ("", None), (0, "0"), (0.1, "0.1"), ("0.30", "0.30"), (" 2 ", "2"), ("1e-3", "0.001"), ("-0", "0")],
)
def test_price_is_exact(given, price):
    assert str(parse_price(given)) == str(None if price is None else Decimal(price))


@pytest.mark.parametrize(
    "given",
    [
        -0.1,
        "-1",
        "nan",
        "inf",
        float("inf"),
        "-inf",
        "sNaN",
        "1e999",
        "0,5",
        "$1",
        True,
        [1],
        "None",
        pytest.param(10**5000, id="huge"),
    ],
)
def test_price_other_than_a_finite_number_is_an_error(given):
    with pytest.raises(InvalidRequestError, match="price_per_1000_characters must be a number from 0 to"):
        parse_price(given)


def test_budget_returns_only_what_is_not_kept():
    budget = CharacterBudget(10, used=3)
    assert budget.can_use(7)
    assert not budget.can_use(8)
    with budget.reserve(5):
        assert not budget.can_use(3)
    with budget.reserve(4) as kept:
        kept.is_kept = True
    with pytest.raises(OSError, match="lost"), budget.reserve(3):
        raise OSError("lost")
    assert (budget.used, budget.can_use(3), budget.can_use(4)) == (7, True, False)
    assert CharacterBudget(None).can_use(10**12)
    assert CharacterBudget(0).can_use(0)


def spend(*texts, price=None):
    spending = Spending(parse_price(price))
    for voice, characters in texts:
        spending.add(voice, characters)
    return spending


def test_cost_is_exact_and_rounded_half_up():
    # As binary fractions, three times 0.1 and a half of 0.0001 would be wrong.
    assert spend(("a", 3000), price=0.1).to_json()["cost"] == 0.3
    assert [spend(("a", count), price="0.05").to_json()["cost"] for count in (0, 1, 3)] == [0.0, 0.0001, 0.0002]
    assert spend(("a", 10**12), price="0.12345").to_json()["cost"] == 123450000.0
    most = spend(("a", 2**63 - 1), ("b", 2**63 - 1), price=10**9)
    with localcontext(prec=3):  # as other code in the process may set it
        assert str(most.compute_cost(most.total_characters)) == "18446744073709551614000000.0000"
    both = spend(("a", 1), ("b", 1), ("c", 1), price="0.05").to_json()
    assert (both["cost"], sum(both["cost_by_voice"].values())) == (0.0002, pytest.approx(0.0003))


def test_sums_by_voice_are_ordered_and_limited():
    many = spend(*((f"voice-{number}", number) for number in range(MAX_VOICES + 5)), (None, 0), price=1)
    sums = many.to_json()
    assert next(iter(sums["characters_by_voice"].items())) == ("voice-1004", 1004)
    assert len(sums["characters_by_voice"]) == MAX_VOICES + 1
    assert sums["characters_by_voice"]["other voices"] == 1 + 2 + 3 + 4
    assert sums["lines_by_voice"]["other voices"] == 6
    assert sum(sums["characters_by_voice"].values()) == many.total_characters
    assert len(format_voice_table(many).splitlines()) == 2 + MAX_LISTED_VOICES + 2
    assert many.to_line().count("; ") == MAX_LISTED_VOICES


def test_hostile_names_of_voices_are_safe_keys():
    sums = spend(
        ("other voices", 1), ("__classname__", 2), ("a\nERROR b", 3), ("x" * 10**6, 4), ("unknown", 5), ("", 6)
    )
    assert sums.to_json()["characters_by_voice"] == {
        "unknown": 11,
        "x" * 200: 4,
        "a ERROR b": 3,
        "'__classname__'": 2,  # which Airflow's serializer reserves
        "'other voices'": 1,
    }
    assert "\n" not in sums.to_line()


def test_summary_shows_cost_only_with_a_price():
    free = Summary({}, 10, spending=spend(("v", 10)))
    assert "cost" not in free.to_json()
    assert "cost" not in free.to_line() + free.to_markdown()
    priced = Summary({}, 10, spending=spend(("v|w", 10), price=2))
    assert priced.to_json()["cost_by_voice"] == {"v|w": 0.02}
    assert "10 characters accepted (cost 0.0200), " in priced.to_line()
    assert "| v\\|w | 1 | 10 | 0.0200 |\n| **total** | 1 | 10 | 0.0200 |" in priced.to_markdown()
