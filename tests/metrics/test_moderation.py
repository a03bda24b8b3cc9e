from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_score, recall_score, roc_curve

from tutelage.metrics import (
    lift_at_fpr,
    local_precision,
    npv_at_fpr,
    npv_floor,
    operating_point,
    recall_at_fpr,
    threshold_at_fpr,
)
from tutelage.metrics.moderation import above_gap

# Five defects and five acceptable examples, with ties within and across the classes.
SCORES = [0.1, 0.2, 0.4, 0.4, 0.9, 0.1, 0.4, 0.6, 0.8, 0.9]
LABELS = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("fpr", "threshold", "tn", "fn"),
    [
        (0.0, 0.9, 5, 5),  # no defect may pass: the threshold is the highest defect
        (0.19, 0.9, 5, 5),  # floor(0.19 * 5) = 0
        (0.2, 0.4, 4, 2),  # one may pass; the two defects tied at 0.4 are caught, and so is the acceptable one there
        (0.4, 0.4, 4, 2),  # two may, but the tie lets only one
        (0.6, 0.2, 2, 1),
        (0.99, 0.1, 1, 1),
    ],
)
def test_worked_by_hand(fpr, threshold, tn, fn):
    point = operating_point(SCORES, LABELS, fpr)
    assert (point.threshold, point.true_negatives, point.false_negatives) == (threshold, tn, fn)
    assert (point.true_positives, point.false_positives) == (5 - fn, 5 - tn)
    assert threshold_at_fpr(SCORES, LABELS, fpr) == threshold
    assert npv_at_fpr(SCORES, LABELS, fpr) == tn / (tn + fn)
    assert recall_at_fpr(SCORES, LABELS, fpr) == (5 - fn) / 5


@pytest.mark.parametrize(
    ("fpr", "threshold", "tn", "fn"),
    [
        (0.0, -np.inf, 0, 0),  # the lowest defect ties with an acceptable example: nothing may be flagged
        (0.2, 0.2, 2, 1),  # one acceptable may be flagged, the one at 0.4 not
        (0.4, 0.4, 4, 2),
        (0.99, 0.8, 4, 4),
    ],
)
def test_swapped_worked_by_hand(fpr, threshold, tn, fn):
    point = operating_point(SCORES, LABELS, fpr, "swapped")
    assert (point.threshold, point.true_negatives, point.false_negatives) == (threshold, tn, fn)
    assert npv_at_fpr(SCORES, LABELS, fpr, "swapped") == (tn / (tn + fn) if tn + fn else 0)
    assert recall_at_fpr(SCORES, LABELS, fpr, "swapped") == tn / 5
    assert local_precision(SCORES, LABELS, fpr) == npv_at_fpr(SCORES, LABELS, fpr, "swapped")


def test_the_rate_is_read_as_a_decimal():
    """0.29 * 100 is 28.999... in floating point; 29 defects may pass all the same."""
    defects = np.arange(100.0)
    scores, labels = np.append(defects, 200.0), np.append(np.zeros(100), 1)
    assert 0.29 * 100 < 29
    assert operating_point(scores, labels, 0.29).false_positives == 29
    assert operating_point(scores, labels, np.float64(0.29)).false_positives == 29


# From the paper's Table 1: teacher-test (160/960) and test (776/4656).
@pytest.mark.parametrize(
    ("defects", "acceptable", "fpr", "floor"),
    [(160, 960, 0.01, 0.1421), (776, 4656, 0.01, 0.1418), (160, 960, 0.05, 0.1367), (776, 4656, 0.05, 0.1368)],
)
def test_golden_floors(defects, acceptable, fpr, floor):
    assert npv_floor(defects, acceptable, fpr) == pytest.approx(floor, abs=5e-5)
    worst = np.append(np.ones(defects), np.zeros(acceptable))  # every defect above every acceptable example
    worst[: int(fpr * defects)] += 1
    labels = np.append(np.zeros(defects), np.ones(acceptable))
    assert npv_at_fpr(worst, labels, fpr) == npv_floor(defects, acceptable, fpr)
    assert lift_at_fpr(worst, labels, fpr) == 0


scored = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(-5, 5), st.integers(0, 1)),
    min_size=2,
    max_size=60,
).filter(lambda pairs: len({label for _, label in pairs}) == 2)
rates = st.integers(0, 990).map(lambda per_mille: per_mille / 1000)  # exact, so no tolerance is needed below


@settings(max_examples=200, deadline=None)
@given(pairs=scored, fpr=rates, convention=st.sampled_from(["paper", "swapped"]))
def test_the_threshold_is_the_best_observed_one_that_keeps_the_rate(pairs, fpr, convention):
    """Against the definition, by trying every observed score as a threshold, with scikit-learn's counts."""
    scores, labels = map(np.array, zip(*pairs, strict=True))
    defects, acceptables = scores[labels == 0], scores[labels == 1]
    point = operating_point(scores, labels, fpr, convention)
    if convention == "paper":
        threshold = min(s for s in scores if 1000 * (defects > s).sum() <= round(1000 * fpr) * defects.size)
        assert point.threshold == threshold
        assert point.false_positives == (defects > threshold).sum()
    else:
        kept = [s for s in scores if 1000 * (acceptables <= s).sum() <= round(1000 * fpr) * acceptables.size]
        assert point.threshold == max(kept, default=-np.inf)
    flagged = scores <= point.threshold
    assert point.npv == pytest.approx(precision_score(labels == 0, flagged, zero_division=0))
    recall = recall_at_fpr(scores, labels, fpr, convention)
    if convention == "paper":
        assert recall == pytest.approx(recall_score(labels == 1, ~flagged))
    else:
        assert recall == pytest.approx(recall_score(labels == 0, flagged))


@settings(max_examples=200, deadline=None)
@given(pairs=scored, fpr=rates)
def test_above_the_gap_nothing_acceptable_is_lost_and_no_more_defects_pass(pairs, fpr):
    scores, labels = map(np.array, zip(*pairs, strict=True))
    point = operating_point(scores, labels, fpr)
    cut = above_gap(point.threshold, scores, labels == 1)
    assert cut >= point.threshold
    assert ((labels == 1) & (scores <= cut)).sum() == point.false_negatives
    assert ((labels == 0) & (scores > cut)).sum() <= point.false_positives
    passing = scores[(labels == 1) & (scores > cut)]
    if passing.size:  # and no higher cut between scores blocks more
        assert not ((labels == 0) & (scores > cut) & (scores < passing.min())).any()


def test_between_classes_that_lie_apart_the_cut_is_in_the_middle():
    scores, labels = np.array([0.0, 0.1, 0.2, 0.8, 1.0]), np.array([0, 0, 0, 1, 1])
    assert above_gap(threshold_at_fpr(scores, labels, 0.4), scores, labels == 1) == 0.5
    assert above_gap(1.0, scores, labels == 1) == 1.0
    assert above_gap(0.2, np.array([0.2, np.inf]), np.array([False, True])) == 0.2


@settings(max_examples=100, deadline=None)
@given(pairs=scored, fpr=rates)
def test_recall_is_the_roc_curve_and_npv_respects_its_floor(pairs, fpr):
    scores, labels = map(np.array, zip(*pairs, strict=True))
    rate, recall, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert recall_at_fpr(scores, labels, fpr) == pytest.approx(recall[rate <= fpr + 1e-12].max())
    rate, recall, _ = roc_curve(1 - labels, -scores, drop_intermediate=False)
    assert recall_at_fpr(scores, labels, fpr, "swapped") == pytest.approx(recall[rate <= fpr + 1e-12].max())
    floor = npv_floor(int((labels == 0).sum()), int((labels == 1).sum()), fpr)
    assert npv_at_fpr(scores, labels, fpr) >= floor
    assert lift_at_fpr(scores, labels, fpr) == npv_at_fpr(scores, labels, fpr) - floor


@settings(max_examples=50, deadline=None)
@given(pairs=scored, fpr=rates, seed=st.integers(0, 100))
def test_only_the_order_of_the_scores_counts(pairs, fpr, seed):
    scores, labels = map(np.array, zip(*pairs, strict=True))
    shuffle = np.random.default_rng(seed).permutation(len(scores))
    ranks = np.unique(scores, return_inverse=True)[1]
    for convention in ("paper", "swapped"):
        value = npv_at_fpr(scores, labels, fpr, convention)
        assert npv_at_fpr(ranks, labels, fpr, convention) == value
        assert npv_at_fpr(scores[shuffle], labels[shuffle], fpr, convention) == value


def test_infinite_log_odds_are_ordered():
    scores, labels = [-np.inf, -np.inf, 0.0, np.inf], [0, 0, 1, 1]
    assert npv_at_fpr(scores, labels, 0.01) == 1
    assert npv_at_fpr(scores, labels, 0.01, "swapped") == 1
    assert recall_at_fpr(scores, labels, 0.01) == recall_at_fpr(scores, labels, 0.01, "swapped") == 1


def test_local_precision_sees_noise_that_npv_cannot():
    """A specialist that is perfect on a tenth of the defects and random elsewhere, against one of pure noise."""
    draws = np.random.default_rng(0)
    labels = np.repeat([0, 1], [160, 960])
    noise, specialist = draws.random(1120), draws.random(1120)
    specialist[:16] -= 1
    assert npv_at_fpr(specialist, labels, 0.01) == pytest.approx(npv_at_fpr(noise, labels, 0.01), abs=0.02)
    assert local_precision(specialist, labels) > 0.4
    assert local_precision(noise, labels) < 0.3


METRICS = [
    partial(npv_at_fpr, fpr=0.01),
    partial(recall_at_fpr, fpr=0.01, convention="swapped"),
    partial(threshold_at_fpr, fpr=0.01),
    partial(lift_at_fpr, fpr=0.01),
    local_precision,
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, 0.2], [1, 1], r"no example has label 0 \(defective\)"),
        ([0.1, 0.2], [0, 0], r"no example has label 1 \(acceptable\)"),
        ([], [], "no example has label 0"),
        ([0.1, np.nan, np.nan], [0, 1, 1], "scores: 2 of 3 are NaN"),
        ([0.1, 0.2], [0, -1], "labels: 1 of 2 are neither"),
        ([0.1, 0.2], [0, 1, 1], r"must both be \(N,\)"),
        ([[0.1], [0.2]], [[0], [1]], r"must both be \(N,\)"),
    ],
)
def test_errors(metric, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        metric(scores, labels)


@pytest.mark.parametrize("fpr", [-0.1, 1.0, np.nan])
def test_a_rate_outside_its_range(fpr):
    with pytest.raises(ValueError, match="fpr"):
        npv_at_fpr(SCORES, LABELS, fpr)
    with pytest.raises(ValueError, match="fpr"):
        npv_floor(10, 10, fpr)


def test_unknown_convention_and_empty_class():
    with pytest.raises(ValueError, match="choose one of paper, swapped"):
        npv_at_fpr(SCORES, LABELS, 0.1, "usual")
    with pytest.raises(ValueError, match="at least 1"):
        npv_floor(0, 10, 0.01)
