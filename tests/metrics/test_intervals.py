from functools import partial

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from tutelage.metrics import auroc, bootstrap, bootstrap_rows, npv_at_fpr, npv_floor, paired_bootstrap


def example(seed: int, defects: int = 60, acceptable: int = 200, gap: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [defects, acceptable])
    return draws.normal(size=labels.size) + gap * labels, labels


def difference_of_means(scores, labels):
    return scores[labels == 1].mean() - scores[labels == 0].mean()


def test_equals_scipy_for_two_independent_samples():
    """scipy draws two samples apart from each other, which is what stratified means."""
    scores, labels = example(0)
    samples = (scores[labels == 1], scores[labels == 0])
    theirs = scipy_bootstrap(
        samples, lambda a, b: a.mean() - b.mean(), n_resamples=4000, method="percentile", vectorized=False, rng=1
    ).confidence_interval
    ours = bootstrap(difference_of_means, scores, labels, resamples=4000)
    spread = theirs.high - theirs.low
    assert ours.value == difference_of_means(scores, labels)
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * spread)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * spread)


def test_covers_the_truth_about_as_often_as_it_says():
    """Two normal samples 1.5 apart: AUROC = Phi(1.5 / sqrt 2) = 0.8556."""
    covered = 0
    for seed in range(100):
        interval = bootstrap(auroc, *example(seed), level=0.8, resamples=100, seed=seed)
        covered += interval.low <= 0.8556 <= interval.high
    assert 68 <= covered <= 90  # 80 +- 3 binomial standard errors, less a little for the percentile's small bias


def test_paired_equals_the_exact_distribution_of_differences():
    """For a mean the paired difference is the mean of differences, resampled with the same draws."""
    a, labels = example(0)
    b = a + 0.1 * np.random.default_rng(9).normal(size=a.size)
    paired = paired_bootstrap(difference_of_means, a, b, labels)
    direct = bootstrap(difference_of_means, a - b, labels)
    assert (paired.value, paired.low, paired.high) == pytest.approx((direct.value, direct.low, direct.high))
    apart = bootstrap(difference_of_means, a, labels)
    assert paired.high - paired.low < 0.2 * (apart.high - apart.low)
    nothing = paired_bootstrap(auroc, a, a, labels, resamples=20)
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)


def test_every_resample_keeps_the_class_sizes_and_so_the_floor():
    scores, labels = example(1, gap=0.0)
    seen = []

    def npv(s, y):
        seen.append(np.bincount(y).tolist())
        return npv_at_fpr(s, y, 0.01)

    interval = bootstrap(npv, scores, labels, resamples=50)
    assert seen == [[60, 200]] * 51
    assert interval.low >= npv_floor(60, 200, 0.01)


def test_seeds_levels_and_words():
    scores, labels = example(2)
    npv = partial(npv_at_fpr, fpr=0.05)
    wide, narrow = (bootstrap(npv, scores, labels, level=level, resamples=200) for level in (0.95, 0.5))
    assert bootstrap(npv, scores, labels, resamples=200) == wide
    assert bootstrap(npv, scores, labels, resamples=200, seed=1) != wide
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    assert (wide.level, wide.resamples) == (0.95, 200)
    assert str(wide) == f"{wide.value:.3f} [{wide.low:.3f}, {wide.high:.3f}]"


def test_errors():
    scores, labels = example(3)
    with pytest.raises(ValueError, match="level"):
        bootstrap(auroc, scores, labels, level=95)
    with pytest.raises(ValueError, match="resamples"):
        bootstrap(auroc, scores, labels, resamples=0)
    with pytest.raises(ValueError, match=r"must all be \(N,\)"):
        paired_bootstrap(auroc, scores, scores[1:], labels)
    with pytest.raises(ValueError, match="NaN on 3 of 3 resamples"):
        bootstrap(lambda s, y: float("nan"), scores, labels, resamples=3)
    with pytest.raises(ValueError, match="2 of 260 are NaN"):
        bootstrap(auroc, np.append(scores[2:], [np.nan] * 2), labels)


def test_rows_of_any_shape_are_drawn_together():
    """By hand: the same generator's draws, of two columns with other shapes and types."""
    rng = np.random.default_rng(3)
    sets, numbers = rng.random((30, 4)) < 0.4, rng.normal(size=30)

    def figure(members, weights):
        assert members.dtype == bool
        return float((members.sum(1) * weights).mean())

    found = bootstrap_rows(figure, sets, numbers, resamples=200, seed=5)
    draws = np.random.default_rng(5)
    drawn = [draws.integers(30, size=30) for _ in range(200)]
    values = [figure(sets[rows], numbers[rows]) for rows in drawn]
    assert found.value == figure(sets, numbers)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
    same = bootstrap(lambda scores, _: float(scores.mean()), numbers, np.zeros(30, int), resamples=50)
    assert bootstrap_rows(lambda column: float(column.mean()), numbers, resamples=50) == same
    for columns in ((sets, numbers[1:]), (numbers[:0],), ()):
        with pytest.raises(ValueError, match="the same number of rows, at least one"):
            bootstrap_rows(figure, *columns)
