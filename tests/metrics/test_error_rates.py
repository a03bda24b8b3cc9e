"""Rates that agree with the labels, and the labels that are wrong by them, against labels drawn with known errors."""

import numpy as np
import pytest
from scipy.special import expit

from tutelage.metrics import auroc
from tutelage.metrics.error_rates import most_wrong, plausible_errors, wrong_labels


def drawn(count, false_acceptable, false_defective, seed=0, shift=0.0, knows=1.0):
    rng = np.random.default_rng(seed)
    z = 2.5 * rng.normal(size=count) + shift
    truth = (rng.random(count) < expit(z)).astype(np.int64)
    wrong = rng.random(count) < np.where(truth == 0, false_acceptable, false_defective)
    return z + (1 - knows) * 4 * rng.normal(size=count), truth, np.where(wrong, 1 - truth, truth)


def test_many_labels_tell_the_rates():
    z, _, labels = drawn(6000, 0.2, 0.2)
    found = plausible_errors(z, labels)
    assert sum(weight for weight, _ in found) == pytest.approx(1)
    assert max(found)[1] == (0.2, 0.2)
    assert max(found)[0] > 0.9


def test_the_class_that_errs_is_doubted_where_defects_are_missed():
    """Four in ten defects are labelled acceptable: by the probability alone, the right labels of defects come first."""
    z, truth, labels = drawn(1500, 0.4, 0.0, shift=1.5, knows=0.7)
    rows = np.arange(1500)
    wrong = wrong_labels(z, labels, rows, plausible_errors(z, labels))
    assert auroc(wrong, (labels != truth).astype(int)) > 0.8
    first = np.argsort(-wrong)[:100]
    assert (labels[first] != truth[first]).mean() > 0.5
    assert (labels[first] == 1).mean() > 0.95


def test_a_rare_class_is_not_its_own_doubt():
    z, truth, labels = drawn(2000, 0.0, 0.0, shift=8.0, knows=0.6)
    assert 0.005 < (truth == 0).mean() < 0.1
    wrong = wrong_labels(z, labels, np.arange(2000), plausible_errors(z, labels))
    assert wrong.mean() < 0.03
    assert most_wrong(wrong)[labels == 0].sum() < 0.6 * (labels == 0).sum()


def test_as_many_are_in_doubt_as_are_wrong_and_none_without_a_label():
    wrong = np.array([0.9, 0.1, np.nan, 0.7, 0.2, 0.3])
    assert most_wrong(wrong).tolist() == [True, False, False, True, False, False]  # 2.2 of them
    z, _, labels = drawn(300, 0.2, 0.2)
    labels[:5] = -1
    found = wrong_labels(z, labels, np.arange(5, 300), [(1.0, (0.1, 0.2))])
    assert np.isnan(found[:5]).all()
    assert ((found[5:] >= 0) & (found[5:] <= 1)).all()
