"""Label sets against hand-worked cases, and the anchors of the grid task against their closed forms."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score

from tutelage.metrics import (
    added_label_score,
    given_label_recall,
    label_sets,
    mean_average_precision,
    mean_set_size,
    pw_jaccard,
    real_accuracy,
    real_f1,
)

SCORES = np.array([[0.9, 0.3, 0.1], [0.2, 0.1, 0.15], [0.4, 0.6, 0.5]])
TRUTH = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=bool)


def test_a_set_is_the_best_class_and_all_above_the_threshold():
    assert label_sets(SCORES, 0.25).tolist() == [[True, True, False], [True, False, False], [True, True, True]]
    assert label_sets(SCORES, 0.5).tolist() == [[True, False, False], [True, False, False], [False, True, False]]
    assert label_sets(SCORES, None).sum(1).tolist() == [1, 1, 1]
    assert label_sets([[0.5, 0.5]], 0.5).tolist() == [[True, False]]  # above, not at


def test_hand_worked_figures():
    sets = label_sets(SCORES, 0.25)
    assert real_accuracy(SCORES, TRUTH) == 0.5  # the third image has no true label, and is not judged
    assert real_f1(sets, TRUTH) == 0.5  # 1 and 0
    assert real_f1(label_sets(SCORES, 0.5), TRUTH) == pytest.approx((2 / 3 + 0) / 2)
    assert mean_set_size(sets) == 2.0
    assert given_label_recall(sets, [1, 1, -1]) == 0.5


def test_mean_average_precision_is_the_mean_over_the_classes_that_there_are():
    rng = np.random.default_rng(0)
    scores, truth = rng.random((50, 4)), rng.random((50, 4)) < 0.3
    truth[:, 2] = False
    truth[:, 3] = True
    expected = [average_precision_score(truth[:, c], scores[:, c]) for c in (0, 1)]
    assert mean_average_precision(scores, truth) == pytest.approx(np.mean([*expected, 1.0]), abs=1e-12)


def grids_by_counting(digits: int = 3, cells: int = 4) -> np.ndarray:
    """All grids of a smaller task, each once: bool (digits ** cells, digits)."""
    return np.array([[digit in grid for digit in range(digits)] for grid in product(range(digits), repeat=cells)])


def test_naming_one_digit_and_naming_all_on_uniform_grids():
    """The anchors of the grid task, E 2/(1+|S|) and E 2|S|/(C+|S|), by counting all grids of a smaller one."""
    truth = grids_by_counting()
    one = np.zeros_like(truth)
    one[np.arange(len(truth)), truth.argmax(1)] = True
    size = truth.sum(1)
    assert real_f1(one, truth) == pytest.approx((2 / (1 + size)).mean(), abs=1e-15)
    assert real_f1(np.ones_like(truth), truth) == pytest.approx((2 * size / (3 + size)).mean(), abs=1e-15)


def test_the_score_of_added_labels_by_hand():
    # Best classes 0, 0, 1, 0; the second, third and fourth image miss their label; their sets add 1, 1 and 0 of 2.
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [1, 0, 0]], dtype=bool)
    scores = np.array([[0.9, 0.0, 0.0], [0.9, 0.5, 0.0], [0.0, 0.9, 0.5], [0.9, 0.0, 0.1]])
    assert added_label_score(scores, sets, [0, 1, 0, 2]) == pytest.approx((1 / 3) ** 2 / (2 / 3 / 2))
    assert added_label_score(scores, sets, [0, 0, 1, 0]) == 0  # none is missed
    assert added_label_score(scores, label_sets(scores, None), [0, 1, 0, 2]) == 0  # none is added


@given(arrays(float, (12, 4), elements=st.floats(0, 1)), arrays(int, 12, elements=st.integers(0, 3)))
def test_naming_everything_scores_one_whatever_the_model(scores, labels):
    everything = np.ones_like(scores, dtype=bool)
    missed = (labels != scores.argmax(1)).any()
    assert added_label_score(scores, everything, labels) == (1.0 if missed else 0.0)


def test_the_score_ranks_sets_as_precision_times_recall_does():
    """Further labels drawn at random from the truth, as the criterion supposes: three kinds of sets, ordered alike."""
    rng = np.random.default_rng(1)
    truth = rng.random((20_000, 8)) < 0.4
    truth[:, 0] = True  # everybody's best class
    truth = truth[truth.sum(1) > 1]
    scores = truth + 0.0
    scores[:, 0] = 2.0
    labels = np.array([rng.choice(np.flatnonzero(row[1:])) + 1 for row in truth])
    found = {}
    for name, hit, wrong in (("careful", 0.5, 0.02), ("sure", 0.95, 0.1), ("greedy", 1.0, 0.9)):
        sets = np.where(truth, rng.random(truth.shape) < hit, rng.random(truth.shape) < wrong)
        sets[:, 0] = True
        added, right = sets[:, 1:].sum(), (sets & truth)[:, 1:].sum()
        found[name] = added_label_score(scores, sets, labels), right / added * right / truth[:, 1:].sum()
    by_score, by_truth = (sorted(found, key=lambda name: found[name][place]) for place in (0, 1))
    assert by_score == by_truth
    assert by_score[-1] == "sure"


def test_precision_weighted_jaccard():
    assert pw_jaccard([[1, 1, 0, 0]], [[0, 1, 1, 0]]) == pytest.approx(1 / 6)  # a third, times a half
    assert pw_jaccard([[1, 1, 0], [0, 0, 0]], [[1, 1, 0], [0, 0, 1]]) == 0.5
    assert pw_jaccard([[1, 1, 1, 1]], [[1, 0, 0, 0]]) == pytest.approx(1 / 16)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: label_sets([0.1, 0.2], 0.5), r"must be \(N, C\)"),
        (lambda: label_sets([[0.1, np.nan]], 0.5), "1 of 1 rows hold NaN"),
        (
            lambda: real_f1(np.ones((2, 3)), np.ones((2, 2))),
            r"\(2, 3\) and truth \(2, 2\) must both be \(N, C\); give a row",
        ),
        (
            lambda: real_accuracy(np.ones((2, 2)), np.zeros((2, 2))),
            "none of the 2 images has a true label, .*; give images",
        ),
        (lambda: pw_jaccard(np.ones((2, 2)), [[1, 0], [0, 0]]), "1 of 2 images have no label"),
        (lambda: added_label_score(np.ones((2, 2)), np.ones((2, 2)), [0]), "do not fit"),
    ],
)
def test_what_cannot_be_judged_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_real_accuracy_takes_no_missing_score_for_an_answer():
    scores = np.array([[np.nan, np.nan], [0.2, 0.8]])
    with pytest.raises(ValueError, match="scores: 1 of 2 rows hold NaN"):
        real_accuracy(scores, np.eye(2, dtype=bool))
