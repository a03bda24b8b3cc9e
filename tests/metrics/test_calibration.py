import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from tutelage.metrics import Calibration, auroc, calibrate, calibration_error, right_labels


def drawn(count: int, e0: float, e1: float, slope: float = 0.8, offset: float = 0.5, seed: int = 0):
    """Log-odds on a wrong scale, true labels that follow them, and labels that are wrong at these rates."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0.5, 4.0, count)
    true = (rng.random(count) < expit(slope * z + offset)).astype(int)
    wrong = rng.random(count) < np.where(true == 1, e1, e0)
    return z, true, np.where(wrong, 1 - true, true)


def negative_log_likelihood(theta, z, targets):
    p = theta[2] + (1 - theta[2] - theta[3]) * expit(theta[0] * z + theta[1])
    return -(targets * np.log(p) + (1 - targets) * np.log1p(-p)).sum()


def platt(y):
    ones = y.sum()
    return np.where(y == 1, (ones + 1) / (ones + 2), 1 / (len(y) - ones + 2))


def test_without_errors_it_is_platts_method_as_scikit_learn_has_it():
    z, _, y = drawn(300, 0.1, 0.2)
    model = LogisticRegression().fit(z[:, None], y)
    platts = CalibratedClassifierCV(FrozenEstimator(model)).fit(z[:, None], y)
    found = calibrate(model.decision_function(z[:, None]), y, errors="none")
    theirs = platts.predict_proba(z[:, None])[:, 1]
    assert found.probability(model.decision_function(z[:, None])) == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize(("errors", "rates"), [("one", (0.2, 0.2)), ("two", (0.05, 0.3)), ((0.05, 0.3), (0.05, 0.3))])
def test_it_is_the_maximum_likelihood_that_scipy_finds(errors, rates):
    z, _, y = drawn(1500, *rates, seed=1)
    found = calibrate(z, y, errors=errors)
    centre, scale = z.mean(), z.std()

    def loss(theta):  # in the same units, with the same weak prior on the slope of standardised log-odds
        e0, e1 = (theta[2], theta[-1]) if isinstance(errors, str) else rates
        own = np.array([theta[0] / scale, theta[1] - theta[0] / scale * centre, e0, e1])
        return negative_log_likelihood(own, z, platt(y)) + theta[0] ** 2 / 50

    free = {"one": 1, "two": 2}.get(str(errors), 0)
    bounds = [(0, None), (None, None), *[(0, 0.49)] * free]
    best = minimize(
        loss, [1.0, 0.0, *[0.1] * free], bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10}
    )
    ours = np.array(
        [found.slope * scale, found.offset + found.slope * centre, found.false_acceptable, found.false_defective]
    )
    assert loss(ours[: 2 + free]) <= best.fun + 1e-7
    assert ours[:2] == pytest.approx(best.x[:2], rel=1e-3)


@pytest.mark.parametrize(("e0", "e1"), [(0.0, 0.0), (0.2, 0.2), (0.0, 0.3), (0.1, 0.3)])
def test_it_finds_the_truth_behind_wrong_labels(e0, e1):
    """Mean over draws within four standard errors of what they were drawn with."""
    found = [calibrate(z, y) for z, _, y in (drawn(2000, e0, e1, seed=seed) for seed in range(6))]
    for name, truth in (("slope", 0.8), ("offset", 0.5), ("false_acceptable", e0), ("false_defective", e1)):
        values = np.array([getattr(each, name) for each in found])
        assert abs(values.mean() - truth) < 4 * values.std(ddof=1) / np.sqrt(len(values)) + 0.02


def test_errors_are_believed_only_where_the_data_tell():
    clean = calibrate(*drawn(400, 0, 0)[::2])
    assert (clean.false_acceptable, clean.false_defective) == (0, 0)
    unsure = np.random.default_rng(0).normal(size=400)  # never sure: its own errors look like the labels'
    labels = (np.random.default_rng(1).random(400) < expit(unsure)).astype(int)
    assert calibrate(unsure, labels).false_acceptable == 0


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-50, 50))
def test_the_scale_of_the_score_does_not_matter(seed, scale, shift):
    z, _, y = drawn(200, 0.1, 0.2, seed=seed)
    if len(set(y)) == 2:
        assert calibrate(scale * z + shift, y).probability(scale * z + shift) == pytest.approx(
            calibrate(z, y).probability(z), abs=1e-3
        )


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_is_kept_or_nothing_is_said(seed):
    rng = np.random.default_rng(seed)
    z, y = rng.normal(size=50), np.arange(50) % 2
    found = calibrate(z, y)
    assert found.slope >= 0
    assert (np.diff(found.probability(np.sort(z))) >= 0).all()


@pytest.mark.parametrize("z", [np.zeros(40), np.where(np.arange(40) % 2, -1e4, 1e4), np.linspace(-1e4, 1e4, 40)])
def test_scores_that_say_nothing_or_are_always_wrong_or_extreme(z):
    y = np.arange(40) % 2
    found = calibrate(z, y)
    assert np.isfinite([*found.plain().values()]).all()
    assert found.probability(z) == pytest.approx(np.full(40, 0.5), abs=0.05)


def test_classes_that_part_perfectly_leave_finite_odds():
    y = np.repeat([0, 1], 50)
    found = calibrate(np.where(y == 1, 5.0, -5.0) + np.linspace(-1, 1, 100), y)
    assert 0.5 < found.probability(4.0) < 1 - 1e-6
    assert auroc(found.log_odds(np.linspace(-6, 6, 100)), y) == 1


def test_whether_a_label_is_right_is_bayes_rule():
    z = np.array([-2.0, 0.3, 3.0, 0.0])
    found = Calibration(0.7, -0.2, 0.1, 0.25)
    p = expit(0.7 * z - 0.2)
    right = found.right(z, [1, 0, 1, -1])
    joint = np.array([[0.9, 0.1], [0.25, 0.75]])  # P(label | truth)
    for k, label in enumerate([1, 0, 1]):
        prior = np.array([1 - p[k], p[k]])
        assert right[k] == pytest.approx((prior * joint[:, label])[label] / (prior * joint[:, label]).sum())
    assert np.isnan(right[3])
    z, true, y = drawn(60_000, 0.1, 0.25, 0.7, -0.2)
    believed = found.right(z, y)
    for low in np.arange(0, 1, 0.1):
        chosen = (believed >= low) & (believed < low + 0.1)
        if chosen.sum() > 1000:
            assert (true == y)[chosen].mean() == pytest.approx(believed[chosen].mean(), abs=0.03)


def test_labels_without_errors_are_right():
    assert right_labels([-50.0, 50.0, 1e4, -1e4], [1, 0, 0, 1], 0.0, 0.0).tolist() == [1, 1, 1, 1]


def test_the_calibration_error_by_hand():
    assert calibration_error([0.1, 0.3, 0.8, 0.6], [0, 1, 1, 1], bins=2) == pytest.approx((0.6 + 0.6) / 4)
    z, true, _ = drawn(50_000, 0, 0)
    assert calibration_error(expit(0.8 * z + 0.5), true) < 0.01
    assert calibration_error(expit(z), true) > 0.02


def test_calibration_lowers_the_error_on_examples_that_it_has_not_seen():
    z, _, y = drawn(2000, 0.2, 0.2, seed=3)
    new, true, _ = drawn(20_000, 0.2, 0.2, seed=4)
    assert calibration_error(calibrate(z, y).probability(new), true) < 0.03
    assert calibration_error(calibrate(z, y, errors="none").probability(new), true) > 0.08  # which ends at 0.2 and 0.8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, np.inf], [0, 1]), "1 of 2 are infinite"),
        (([1.0, np.nan], [0, 1]), "1 of 2 are NaN"),
        (([1.0, 2.0], [1, 1]), "no example has label 0"),
    ],
)
def test_what_cannot_be_calibrated(arguments, message):
    with pytest.raises(ValueError, match=message):
        calibrate(*arguments)


def test_rates_that_cannot_be():
    with pytest.raises(ValueError, match=r"errors=\(0.5, 0.6\): give two rates"):
        calibrate([0.0, 1.0], [0, 1], errors=(0.5, 0.6))
    with pytest.raises(ValueError, match="bins=0"):
        calibration_error([0.1, 0.2], [0, 1], bins=0)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        calibration_error([0.1, logit(0.9)], [0, 1])
