"""Intervals from counts of answers: Jeffreys' interval, the bootstrap's for many examples, and wide ones for few."""

import numpy as np
import pytest

from tutelage.metrics import accuracy, bootstrap, confusion_interval, f1, macro_f1, paired_bootstrap


def drawn(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    labels = np.arange(count) % 3
    ours, theirs = (np.where(draw.random(count) < share, labels, draw.integers(0, 3, count)) for share in (0.7, 0.5))
    return labels, ours, theirs


def test_of_one_class_it_is_the_interval_of_jeffreys():
    stats = pytest.importorskip("scipy.stats")
    labels, right = np.zeros(12, int), np.array([0] * 11 + [1])
    found = confusion_interval(accuracy, right, labels, classes=2, resamples=200_000)
    assert (found.low, found.high) == pytest.approx(stats.beta(11.5, 1.5).ppf([0.025, 0.975]), abs=2e-3)


@pytest.mark.parametrize("metric", [accuracy, macro_f1])
def test_for_many_examples_it_is_that_of_the_bootstrap(metric):
    labels, ours, theirs = drawn(3000)
    one = confusion_interval(metric, ours, labels, classes=3), bootstrap(metric, ours, labels)
    two = confusion_interval(metric, ours, labels, theirs, classes=3), paired_bootstrap(metric, ours, theirs, labels)
    for found, expected in (one, two):
        assert found.value == pytest.approx(expected.value)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=4e-3)


def test_three_texts_that_are_all_right_tell_little():
    labels = np.array([0, 0, 1])
    for metric in (accuracy, macro_f1):
        found = confusion_interval(metric, labels, labels, classes=2)
        assert (found.value, found.high) == (1, 1)
        assert found.low < 0.6
    same = confusion_interval(macro_f1, labels, labels, labels, classes=2)
    assert same.value == 0
    assert same.low < -0.2
    assert same.high > 0.2


def test_what_it_does_not_know_is_refused():
    with pytest.raises(ValueError, match="is not one of accuracy, macro_f1"):
        confusion_interval(f1, [0], [0], classes=2)
    with pytest.raises(ValueError, match="is empty"):
        confusion_interval(accuracy, [], [], classes=2)
