"""The promise of a threshold, by simulation, by hand, and against SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit

from tutelage.metrics.promises import defects_needed, passing_bound, tolerated_passes
from tutelage.production.guarantee import TooFewDefects, guaranteed_threshold
from tutelage.production.sampling import inclusion_probabilities, pivotal

DRAWS = 2_000


def among_others(defects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of defects and of acceptable examples right above each, so that no gap raises the threshold."""
    return np.append(defects, defects + 1e-9), np.repeat([0, 1], len(defects))


def allowed_breaks(share: float) -> float:
    """The most of DRAWS promises that break in 999 of 1,000 repetitions of a test, if a `share` of all promises do."""
    return stats.binom.isf(0.001, DRAWS, share) / DRAWS


@pytest.mark.parametrize("rounded", [None, 2, 1], ids=["no ties", "some ties", "few distinct scores"])
@pytest.mark.parametrize("defects", [300, 520, 1000])
def test_the_promise_holds_over_2000_draws(defects: int, rounded: int | None) -> None:
    fpr, confidence = 0.01, 0.95
    rng = np.random.default_rng(defects)
    broken = 0
    for _ in range(DRAWS):
        scores = rng.normal(size=defects)
        scores = scores if rounded is None else scores.round(rounded)
        found = guaranteed_threshold(*among_others(scores), fpr, confidence)
        # P(S > t): a score of S.round(d) passes where the normal lies above t by more than half a unit of the last digit
        edge = found.threshold if rounded is None else found.threshold + 0.5 * 10.0**-rounded
        broken += stats.norm.sf(edge) > fpr
    assert broken / DRAWS <= allowed_breaks(1 - confidence)
    if rounded is None:  # and it is no more careful than the binomial distribution demands
        exact = stats.binom.cdf(tolerated_passes(defects, fpr, confidence), defects, fpr)
        assert broken / DRAWS >= stats.binom.ppf(0.001, DRAWS, exact) / DRAWS


def test_an_observed_rate_promises_nothing() -> None:
    rng = np.random.default_rng(0)
    scores = np.sort(rng.normal(size=(DRAWS, 500)), axis=1)
    assert (stats.norm.sf(scores[:, -6]) > 0.01).mean() > 0.5  # 5 of 500 pass in each draw


def test_the_promise_holds_where_the_wrong_labels_do_their_worst() -> None:
    """Two in five labels "defective" are wrong, and all those ads score below any threshold."""
    fpr, confidence, wrong, n = 0.02, 0.9, 0.4, 400
    rng = np.random.default_rng(1)
    broken = {True: 0, False: 0}
    for _ in range(DRAWS):
        scores = np.where(rng.random(n) < wrong, -100.0, rng.normal(size=n))
        for told in broken:
            found = guaranteed_threshold(*among_others(scores), fpr, confidence, wrong if told else 0.0)
            broken[told] += stats.norm.sf(found.threshold) > fpr
    assert broken[True] / DRAWS <= allowed_breaks(1 - confidence)
    assert broken[False] / DRAWS > 2 * (1 - confidence)  # the correction is needed


def test_the_promise_holds_by_the_answers_about_a_sample_that_prefers_suspicious_images() -> None:
    """A seventh of the labels is wrong, and what the model finds suspicious is drawn more often."""

    def drawn(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        z = rng.normal(0.5, 2.0, n)
        truth = (rng.random(n) < expit(1.2 * z)).astype(int)
        return z, truth, np.where(rng.random(n) < 1 / 7, 1 - truth, truth)

    z, truth, _ = drawn(np.random.default_rng(99), 200_000)
    every, broken, repeats = z[truth == 0], 0, 200
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        z, truth, labels = drawn(rng, 1500)
        suspicion = np.where(labels == 1, expit(-1.2 * z), expit(1.2 * z))
        probability = inclusion_probabilities(np.sqrt(np.maximum(suspicion, 0.01)), 500)
        inside = np.isin(np.arange(1500), pivotal(probability, rng))
        weights = np.where(inside, probability[inside].min() / probability, 0.0)
        found = guaranteed_threshold(z, truth, 0.1, 0.95, weights=weights)
        assert found.weighing < found.defects
        broken += (every > found.threshold).mean() > 0.1
    assert broken / repeats <= 0.05
    with pytest.raises(
        TooFewDefects, match=r"held-out defects, worth 3.\.. of a plain sample, .* have more test images"
    ):
        guaranteed_threshold(z, truth, 0.01, 0.95, weights=weights)
    with pytest.raises(ValueError, match="weights must be"):
        guaranteed_threshold(z, truth, 0.1, 0.95, weights=weights + 1)


def test_by_hand() -> None:
    # 0.99^299 = 0.0495 and 0.99^298 = 0.0500...: 299 defects, none of which passes
    assert defects_needed(0.01, 0.95) == 299
    scores = np.arange(300.0)
    found = guaranteed_threshold(np.append(scores, 301.0), [0] * 300 + [1], 0.01, 0.95)
    assert (found.threshold, found.passed, found.defects) == (300.0, 0, 300)  # half way to the first acceptable one
    assert found.bound == pytest.approx(1 - 0.05 ** (1 / 300))
    with pytest.raises(TooFewDefects, match=r"298 held-out defects .* 299 are needed; label 1 more") as refused:
        guaranteed_threshold(np.append(scores[:298], 1e6), [0] * 298 + [1], 0.01, 0.95)
    assert refused.value.needed == 299


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), st.floats(0.001, 0.5), st.floats(0.5, 0.999))
def test_against_scipy(defects: int, fpr: float, confidence: float) -> None:
    k = tolerated_passes(defects, fpr, confidence)
    assert stats.binom.cdf(k, defects, fpr) <= (1 - confidence) * (1 + 1e-9)
    assert stats.binom.cdf(k + 1, defects, fpr) > (1 - confidence) * (1 - 1e-9) or k + 1 == defects
    passed = min(7, defects - 1)
    bound = stats.beta.ppf(confidence, passed + 1, defects - passed)
    assert passing_bound(passed, defects, confidence) == pytest.approx(bound, rel=1e-9)
    if k >= 0:
        assert passing_bound(k, defects, confidence) <= fpr * (1 + 1e-9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fpr": 0.0}, "fpr=0.0 must be a number in"),
        ({"confidence": 1.0}, "confidence=1.0 must be"),
        ({"wrong_labels": 1.0}, "wrong_labels=1.0 must be"),
    ],
)
def test_nonsense_is_named(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        guaranteed_threshold([0.0, 1.0], [0, 1], **{"fpr": 0.5, **values})
