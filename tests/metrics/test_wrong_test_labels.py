import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from tutelage.metrics import auroc, calibrate, npv_at_fpr, npv_floor, operating_point, threshold_at_fpr
from tutelage.metrics.wrong_test_labels import (
    checked_labels,
    defective_probability,
    expected_auroc,
    expected_floor,
    expected_point,
)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_of_sure_probabilities_it_is_the_operating_point(seed, fpr):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [20, 30])
    scores = np.round(rng.normal(labels, 1.0), 1)  # with ties
    found, point = expected_point(scores, 1.0 - labels, fpr), operating_point(scores, labels, fpr)
    assert found.threshold == point.threshold
    assert found.npv == pytest.approx(point.npv)
    assert found.recall == pytest.approx(point.true_positives / 30)


def test_by_hand():
    found = expected_point([1.0, 2.0, 3.0, 4.0], [0.9, 0.6, 0.4, 0.1], 0.25)
    assert found.threshold == 2.0  # 0.5 of 2.0 lie above: a quarter
    assert found.npv == pytest.approx(1.5 / 2)
    assert found.recall == pytest.approx((0.6 + 0.9) / 2)


def test_it_comes_near_the_truth_where_counting_wrong_labels_blocks_nearly_everything():
    """Labels are wrong in 20 %, calibration and error rates are estimated on other examples."""
    rng = np.random.default_rng(0)
    z = rng.normal(2.0, 4.0, 9000)
    truth = (rng.random(9000) < expit(1.5 * z)).astype(int)
    labels = np.where(rng.random(9000) < 0.2, 1 - truth, truth)
    held_out, test = np.arange(3000), np.arange(3000, 9000)
    found = calibrate(z[held_out], labels[held_out])
    errors = found.false_acceptable, found.false_defective
    defective = defective_probability(found.log_odds(z[test]), labels[test], errors)
    for fpr in (0.01, 0.05):
        point = expected_point(z[test], defective, fpr)
        true = npv_at_fpr(z[test], truth[test], fpr)
        assert point.npv == pytest.approx(true, abs=0.06)
        passed = (z[test] > point.threshold) & (truth[test] == 0)
        assert passed.sum() / (truth[test] == 0).sum() == pytest.approx(fpr, rel=0.6)
        by_labels = threshold_at_fpr(z[test], labels[test], fpr)
        assert (z[test] <= by_labels).mean() > 0.8 > 0.6 > (z[test] <= point.threshold).mean()


def test_what_cannot_be_expected():
    for scores, defective, fpr, message in (
        ([1.0], [0.5, 0.5], 0.1, r"must both be \(N,\)"),
        ([1.0, 2.0], [0.5, 0.5], 1.0, "fpr must be a share"),
        ([1.0, 2.0], [0.0, 0.0], 0.1, "both classes must be expected"),
    ):
        with pytest.raises(ValueError, match=message):
            expected_point(scores, defective, fpr)


def test_what_no_check_of_labels_can_be():
    for true, drawn, probability, message in (
        ([1.0, 0.0], [True, True], [0.5, 0.0], r"probability\[1\]=0 must be in \(0, 1\]; give the probability"),
        ([1.0, 0.0], [True, True], [1.5, 0.5], r"probability\[0\]=1.5 must be in \(0, 1\]"),
        (
            [1.0, np.nan],
            [False, True],
            [0.5, 0.5],
            r"true\[1\] is NaN, and drawn\[1\] .*; give the answer, or set drawn",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            checked_labels([0.5, 0.5], true, drawn, probability)


def test_auroc_and_floor_of_expected_counts():
    rng = np.random.default_rng(0)
    scores, truth = rng.random(60).round(1), rng.integers(0, 2, 60)
    assert expected_auroc(scores, 1 - truth) == pytest.approx(auroc(scores, truth))
    assert expected_floor(1 - truth, 0.05) == npv_floor(int((truth == 0).sum()), int(truth.sum()), 0.05)
    d = rng.random(60)
    won = (scores[:, None] > scores[None]) + 0.5 * (scores[:, None] == scores[None])
    pairs = (1 - d)[:, None] * d[None] * (1 - np.eye(60))
    assert expected_auroc(scores, d) == pytest.approx((won * pairs).sum() / pairs.sum())
    assert expected_floor(d, 0.05) == pytest.approx(0.95 * d.sum() / (0.95 * d.sum() + 60 - d.sum()))
    assert expected_auroc([0.1, 0.2], [0.0, 0.0]) == 0.5
