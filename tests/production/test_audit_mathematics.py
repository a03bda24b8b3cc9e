"""Sampling, estimates, sequential tests, drift and agreement: against hand-worked cases, other libraries and enumeration."""

import itertools
import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from tutelage.metrics.beta import beta_cdf, beta_quantile
from tutelage.production.agreement import krippendorff_alpha
from tutelage.production.drift import drift
from tutelage.production.estimates import Rate, Stratum, relative_change, weighted_rate
from tutelage.production.sampling import allocation, inclusion_probabilities, pivotal
from tutelage.production.sequential import confidence_sequence, log_e_values


@given(st.floats(0.05, 2000), st.floats(0.05, 2000), st.floats(1e-3, 1 - 1e-3))
def test_the_beta_distribution_is_scipys(a, b, share):
    assert beta_cdf(share, a, b) == pytest.approx(stats.beta.cdf(share, a, b), rel=1e-9, abs=1e-12)
    x = beta_quantile(share, a, b)
    assert beta_cdf(x, a, b) == pytest.approx(share, rel=1e-6) or x in (0.0, 1.0) or x < 1e-290


def test_the_ends_of_the_beta_distribution():
    assert (beta_quantile(0.025, 0, 5), beta_quantile(0.975, 5, 0)) == (0.0, 1.0)
    assert beta_quantile(0.975, 1, 100) == pytest.approx(1 - 0.025**0.01)
    assert (beta_cdf(0, 2, 3), beta_cdf(1, 2, 3)) == (0, 1)


def test_probabilities_are_proportional_to_size_and_none_above_one():
    assert inclusion_probabilities([10, 2, 2, 2, 0], 2) == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3, 0])
    assert inclusion_probabilities([100, 20, 2, 2], 3).tolist() == [1, 1, 0.5, 0.5]  # the second only without the first
    assert inclusion_probabilities([3, 0, 1], 5).tolist() == [1, 0, 1]
    assert inclusion_probabilities([1, 1], 0).tolist() == [0, 0]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.integers(0, 20), st.integers(0, 2**32))
def test_any_sizes(sizes, count, seed):
    probabilities = inclusion_probabilities(sizes, count)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    expected = min(count, np.count_nonzero(sizes))
    assert probabilities.sum() == pytest.approx(expected)
    drawn = pivotal(probabilities, np.random.default_rng(seed))
    assert len(drawn) == len(set(drawn)) == expected
    assert (probabilities[drawn] > 0).all()
    assert set(np.flatnonzero(probabilities == 1)) <= set(drawn)


def exact_pivotal(probabilities: list[Fraction], order: tuple[int, ...]) -> dict[frozenset[int], Fraction]:
    """Every sample's probability, by following both ends of every fight."""
    found: Counter[frozenset[int]] = Counter()

    def fight(place: int, holder: int, held: Fraction, drawn: frozenset[int], chance: Fraction) -> None:
        if chance == 0:
            return
        if place == len(order):
            found[drawn | {holder} if held == 1 else drawn] += chance
            assert held in (0, 1)
            return
        unit, p = order[place], probabilities[order[place]]
        total = held + p
        if total < 1:
            fight(place + 1, holder, total, drawn, chance * held / total)
            fight(place + 1, unit, total, drawn, chance * p / total)
        else:
            fight(place + 1, unit, total - 1, drawn | {holder}, chance * (1 - p) / (2 - total))
            fight(place + 1, holder, total - 1, drawn | {unit}, chance * (1 - held) / (2 - total))

    fight(0, -1, Fraction(0), frozenset(), Fraction(1))
    return found


PROBABILITIES = [Fraction(n, 20) for n in (3, 14, 9, 16, 7, 11)]  # of which three are drawn


class Ordered:
    """Random numbers of which the order is given."""

    def __init__(self, order: tuple[int, ...], seed: int) -> None:
        self.order, self.generator = order, np.random.default_rng(seed)

    def permutation(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        return units[list(self.order)]

    def random(self, *size: int) -> Any:
        return self.generator.random(*size)


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (3, 1, 5, 0, 4, 2)])
def test_samples_come_as_often_as_they_should(order):
    exact = exact_pivotal(PROBABILITIES, order)
    assert sum(exact.values()) == 1
    assert [sum(p for sample, p in exact.items() if unit in sample) for unit in range(6)] == PROBABILITIES
    generator: Any = Ordered(order, 0)
    floats, count = [float(p) for p in PROBABILITIES], 20_000
    drawn = Counter(frozenset(pivotal(floats, generator).tolist()) for _ in range(count))
    assert set(drawn) <= set(exact)
    samples = list(exact)
    assert stats.chisquare([drawn[s] for s in samples], [float(exact[s]) * count for s in samples]).pvalue > 0.001


@pytest.mark.parametrize("order", list(itertools.permutations(range(6)))[::97])
def test_counts_of_defects_are_no_wider_than_binomial_ones(order):
    """What the sequential test rests on: inequality (1) of `sequential`, by enumeration, for every set of defects."""
    exact = exact_pivotal(PROBABILITIES, order)
    for size in range(1, 6):
        for defects in itertools.combinations(range(6), size):
            mean = float(sum(PROBABILITIES[unit] for unit in defects)) / 3
            for exponent in (-4, -1, -0.1, 0.1, 1, 4):
                moment = sum(float(p) * math.exp(exponent * len(sample & set(defects))) for sample, p in exact.items())
                assert moment <= (1 + mean * math.expm1(exponent)) ** 3 * (1 + 1e-12)


def test_what_is_no_probability_is_refused():
    for wrong in ([1.1], [-0.1], [math.nan]):
        with pytest.raises(ValueError, match="must be in"):
            pivotal(wrong, np.random.default_rng(0))
    for sizes in ([-1.0], [math.nan], [math.inf]):
        with pytest.raises(ValueError, match="a number from 0"):
            inclusion_probabilities(sizes, 1)
    with pytest.raises(ValueError, match="count=-1"):
        inclusion_probabilities([1.0], -1)


def test_budgets_are_shared_between_variants_and_by_impressions_within():
    totals = {
        ("w1", "old"): (900.0, 500),
        ("w2", "old"): (2700.0, 500),
        ("w1", "new"): (10.0, 60),
        ("w2", "new"): (10.0, 60),
    }
    given = allocation(totals, 160)
    assert given == {("w1", "old"): 20, ("w2", "old"): 60, ("w1", "new"): 40, ("w2", "new"): 40}
    assert allocation({**totals, ("w1", "new"): (10.0, 1)}, 160)["w1", "new"] == 1
    assert sum(allocation(totals, 10_000).values()) == 1120
    with pytest.raises(ValueError, match="budget=7 must be at least 8: two for each of 4 strata"):
        allocation(totals, 7)


def drawn(x: NDArray[np.float64], y: NDArray[np.float64], count: int, seed: int) -> Stratum:
    probabilities = inclusion_probabilities(x, count)
    units = pivotal(probabilities, np.random.default_rng(seed))
    return Stratum(x[units], probabilities[units], y[units], float(x.sum()))


def test_a_simple_random_sample_has_the_textbook_s_variance_and_interval():
    y = np.array([1.0] * 6 + [0.0] * 34)
    found = weighted_rate([Stratum(np.ones(40), np.full(40, 0.4), y, 100.0)])
    assert found.value == pytest.approx(0.15)
    assert found.variance == pytest.approx((1 - 0.4) * 0.15 * 0.85 / 39)
    assert (found.verdicts, found.missing, found.covered) == (40, 0, 1)
    exact = stats.binomtest(6, 40).proportion_ci(method="exact")  # no more than 40 draws
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_a_census_is_exact_and_no_defects_have_clopper_and_pearson_s_bound():
    census = weighted_rate([Stratum(np.array([3.0, 1.0]), np.ones(2), np.array([0.0, 1.0]), 4.0)])
    assert (census.value, census.variance) == (0.25, 0)
    none = weighted_rate([Stratum(np.ones(50), np.full(50, 0.1), np.zeros(50), 500.0)])
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 50))


def test_strata_are_weighed_by_impressions_and_missing_verdicts_are_counted():
    strata = [
        Stratum(np.ones(10), np.full(10, 0.1), np.array([1.0] + [0.0] * 9), 300.0),
        Stratum(np.ones(4), np.full(4, 0.1), np.array([1.0, 0.5, 0.0, math.nan]), 100.0),
        Stratum(np.ones(2), np.full(2, 0.1), np.full(2, math.nan), 100.0),
    ]
    found = weighted_rate(strata)
    assert found.value == pytest.approx(0.75 * 0.1 + 0.25 * 0.5)
    assert (found.verdicts, found.missing, found.covered) == (13, 3, pytest.approx(0.8))
    first, second = (weighted_rate([stratum]).variance for stratum in strata[:2])
    assert found.variance == pytest.approx(0.75**2 * first + 0.25**2 * second)
    with pytest.raises(ValueError, match="no stratum has a verdict"):
        weighted_rate(strata[2:])


def test_the_estimate_is_unbiased_and_its_variance_right():
    generator = np.random.default_rng(0)
    x, y = generator.lognormal(0, 1.3, 300), (generator.random(300) < 0.2).astype(float)
    found = [weighted_rate([drawn(x, y, 60, seed)]) for seed in range(1500)]
    values = np.array([each.value for each in found])
    truth = float(x @ y / x.sum())
    assert abs(values.mean() - truth) < 4 * values.std() / math.sqrt(len(values))
    assert np.mean([each.variance for each in found]) == pytest.approx(values.var(), rel=0.12)
    assert np.mean([each.low <= truth <= each.high for each in found]) >= 0.95


def test_a_certain_unit_stands_for_as_many_draws_as_it_has_impressions_in_one():
    x = np.array([60.0] + [1.0] * 40)
    sample = drawn(x, np.zeros(41), 11, 0)
    assert (sample.answered, sample.draws) == (11, pytest.approx(10 * 100 / 40))
    without = Stratum(np.ones(4), np.full(4, 0.5), np.zeros(4), 8.0)
    assert without.draws == without.answered == 4


def rate(value: float, low: float, high: float) -> Rate:
    return Rate(value, low, high, 0.0, 100, 0, 1.0)


def test_the_interval_of_a_change_is_fieller_s_where_both_rates_are_symmetric():
    p, d, q, e = 0.05, 0.02, 0.1, 0.03
    value, low, high = relative_change(rate(p, p - d, p + d), rate(q, q - e, q + e))
    assert value == pytest.approx(-0.5)
    for root in (low + 1, high + 1):
        assert (p - root * q) ** 2 == pytest.approx(d**2 + root**2 * e**2)
    assert low < value < high


def test_changes_at_the_ends():
    value, low, high = relative_change(rate(0, 0, 0.02), rate(0.1, 0.05, 0.2))
    assert (value, low) == (-1, -1)
    assert high == pytest.approx(0.02 / math.sqrt(0.05 * 0.15) - 1)
    value, low, high = relative_change(rate(0.1, 0.05, 0.2), rate(0, 0, 0.02))
    assert math.isnan(value)
    assert high == math.inf


@pytest.mark.parametrize(("n", "m"), [(5, 5), (12, 4), (3, 20)])
@pytest.mark.parametrize(("less", "more"), [(0.02, 0.02), (0.3, 0.3), (0.5, 0.2), (0.9, 0.9), (0.1, 0.0)])
def test_where_a_variant_is_no_better_its_e_value_is_at_most_one_in_the_mean(n, m, less, more):
    s, t = np.meshgrid(np.arange(n + 1), np.arange(m + 1), indexing="ij")
    chances = stats.binom.pmf(s, n, less) * stats.binom.pmf(t, m, more)
    found = np.exp(
        log_e_values(s[..., None], np.full_like(s, n)[..., None], t[..., None], np.full_like(t, m)[..., None])
    )
    assert (chances * found[..., 0]).sum() <= 1 + 1e-12


def test_e_values_multiply_over_weeks_for_each_alternative_and_grow_with_evidence():
    one = log_e_values([2.0], [100.0], [12.0], [100.0])
    assert log_e_values([2, 0], [100, 0], [12, 0], [100, 0])[1] == pytest.approx(one[0])  # a week without verdicts
    twice = log_e_values([2, 2], [100, 100], [12, 12], [100, 100])
    assert twice[1] > 2 * one[0] > math.log(5)  # the mixture learns
    assert log_e_values([12], [100], [2], [100])[0] < math.log(0.5)
    assert log_e_values([4, 0], [200, 0], [24, 0], [200, 0])[0] == pytest.approx(twice[1])


def test_confidence_sequences_are_where_their_evidence_is_the_limit():
    low, high = confidence_sequence([3.0, 0.0], [100.0, 50.0], alpha=0.1)
    assert ((low > 0) & (low < [0.03, 0.02]) & (high > [0.03, 0.02])).all()
    exponents = np.geomspace(0.01, 8.0, 40)
    for bound, sign in ((low[1], 1), (high[1], -1)):
        evidence = np.exp(sign * exponents * 3 - 150 * np.log1p(bound * np.expm1(sign * exponents))).mean()
        assert evidence == pytest.approx(2 / 0.1)
    nothing = confidence_sequence([0.0], [0.0])
    assert (nothing[0][0], nothing[1][0]) == pytest.approx((0, 1))


def test_confidence_sequences_hold_at_all_weeks_while_the_rate_drifts():
    rates = np.linspace(0.01, 0.09, 12)
    defects = np.random.default_rng(0).binomial(80, rates, (500, 12))
    low, high = confidence_sequence(defects, np.full_like(defects, 80))
    means = np.cumsum(rates) / np.arange(1, 13)
    assert ((low <= means) & (means <= high)).all(axis=1).mean() >= 0.95


def test_drift_by_hand_and_by_scipy():
    generator = np.random.default_rng(0)
    reference = np.arange(1000.0)
    current = np.concatenate([np.arange(250.0), 500 + np.arange(500.0), 500 + np.arange(250.0)])
    found = drift(reference, current, bins=2)
    quarter, half = 250.5 / 1001, 500.5 / 1001
    assert found.psi == pytest.approx(
        (quarter - half) * math.log(quarter / half) + (0.5 - quarter) * math.log((1 - quarter) / half), rel=1e-3
    )
    assert found.psi_expected == pytest.approx(0.002)
    for n, m, shift in ((200, 300, 0.0), (50, 400, 0.4), (300, 300, 0.15)):
        a, b = generator.normal(size=n), generator.normal(shift, size=m)
        ours, theirs = drift(a, b), stats.ks_2samp(a, b, method="exact")
        assert ours.ks == pytest.approx(theirs.statistic)
        assert ours.p == pytest.approx(theirs.pvalue, rel=0.1, abs=0.01)
    same = drift(reference, reference)
    assert (same.psi, same.ks, same.p) == (0, 0, 1)
    assert drift([1.0, 1.0, 1.0], [1.0, 1.0]).psi == 0  # tied scores
    null = [drift(generator.normal(size=400), generator.normal(size=300)) for _ in range(300)]
    assert np.mean([each.psi for each in null]) == pytest.approx(null[0].psi_expected, rel=0.1)
    for wrong in ([], [math.nan]):
        with pytest.raises(ValueError, match="finite"):
            drift([1.0], wrong)


def by_unit(*rows: str) -> list[list[str]]:
    return [[verdict for verdict in unit if verdict != "."] for unit in zip(*rows, strict=True)]


@pytest.mark.parametrize(
    ("rows", "alpha"),
    [
        (["0100000010", "1110010000"], 0.095),
        (["aabbdcccedda", "babbbcccedd" + "d"], 0.692),
        (["123321412...", "1233224125.3", ".3332342251.", "12332441251."], 0.743),
        (["0101", "0101"], 1.0),
    ],
)
def test_krippendorff_s_own_examples(rows, alpha):
    assert round(krippendorff_alpha(by_unit(*rows)), 3) == alpha


def test_agreement_of_which_nothing_can_be_told():
    assert math.isnan(krippendorff_alpha([["a"], ["b"]]))
    assert math.isnan(krippendorff_alpha([["a", "a"], ["a", "a"]]))
    assert krippendorff_alpha([["a", "b"], ["b", "a"]]) < 0
