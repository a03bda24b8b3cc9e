"""Who decides about an advertisement: always the same, by weight, and with the fewest moves."""

import math
from collections import Counter

import pytest

from tutelage.production.variants import assign, shadows

ADS = [f"ad-{i}" for i in range(20_000)]


def test_shares_are_those_of_the_weights():
    weights = {"old": 6.0, "new": 3.0, "newer": 1.0, "looks on": 0}
    counts = Counter(assign(ad, weights) for ad in ADS)
    assert set(counts) == {"old", "new", "newer"}
    for name, weight in list(weights.items())[:3]:
        share = weight / 10
        assert abs(counts[name] - share * len(ADS)) < 4 * math.sqrt(len(ADS) * share * (1 - share))
    assert shadows(weights) == ("looks on",)


def test_nothing_but_the_name_and_the_weights_counts():
    assert "".join(assign(ad, {"a": 1, "b": 1}) for ad in ADS[:12]) == "babaaaaabaaa"
    assert all(assign(ad, {"a": 1, "b": 1}) == assign(ad, {"b": 20, "c": 0, "a": 20}) for ad in ADS[:500])
    assert assign("\ud800", {"a": 1}) == "a"


def test_where_a_weight_is_raised_advertisements_move_to_it_only():
    before, after = ({"a": 5, "b": 4, "c": c} for c in (1, 3))
    moves = Counter((assign(ad, before), assign(ad, after)) for ad in ADS)
    assert {to for (come, to) in moves if come != to} == {"c"}


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({}, "has no weight above 0"),
        ({"a": 0}, "has no weight above 0"),
        ({"a": -1.0}, "weight -1.0 of 'a'"),
        ({"a": math.nan}, "weight nan"),
    ],
)
def test_weights_that_make_no_sense(weights, said):
    with pytest.raises(ValueError, match=said):
        assign("ad", weights)
