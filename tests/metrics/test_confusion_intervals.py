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


@pytest.mark.parametrize("classes", [2, 4, 9, 20])
def test_they_hold_the_truth_however_many_the_classes_and_however_unequal(classes):
    draw = np.random.default_rng(classes)
    held = {accuracy: [], macro_f1: []}
    for share in (1.0, 0.8):  # each class so many times as frequent as the one before
        counts = np.maximum(1, 10 * classes * share ** np.arange(classes) / (share ** np.arange(classes)).sum()).astype(
            int
        )
        labels = np.repeat(np.arange(classes), counts)
        right_C = draw.uniform(0.5, 0.95, classes)
        said_C = counts * right_C + ((counts * (1 - right_C)).sum() - counts * (1 - right_C)) / (classes - 1)
        truth = {
            accuracy: (counts * right_C).sum() / counts.sum(),
            macro_f1: np.mean(2 * counts * right_C / (counts + said_C)),
        }
        for metric, times, resamples in ((accuracy, 200, 200), (macro_f1, 30, 100)):
            for _ in range(times):
                other = (labels + draw.integers(1, classes, len(labels))) % classes
                said = np.where(draw.random(len(labels)) < right_C[labels], labels, other)
                found = confusion_interval(
                    metric, said, labels, classes=classes, resamples=resamples, seed=len(held[metric])
                )
                held[metric].append(found.low <= truth[metric] <= found.high)
    assert np.mean(held[accuracy]) >= 0.9
    assert np.mean(held[macro_f1]) >= 0.85  # of 60: three standard errors under 95 %


def test_difference_of_many_classes_holds_the_truth():
    draw, held = np.random.default_rng(5), []
    labels = np.repeat(np.arange(20), 5)
    for seed in range(200):
        wrong = (labels + draw.integers(1, 20, len(labels))) % 20
        ours, theirs = (np.where(draw.random(len(labels)) < right, labels, wrong) for right in (0.8, 0.65))
        found = confusion_interval(accuracy, ours, labels, theirs, classes=20, resamples=200, seed=seed)
        held.append(found.low <= 0.15 <= found.high)
    assert np.mean(held) >= 0.9


def test_a_class_that_does_not_occur_has_no_part_in_macro_f1():
    labels = np.array([0, 0, 1, 1])
    assert confusion_interval(macro_f1, labels, labels, classes=9).value == 1
