"""What speaks against a label, against other libraries and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

from tutelage import find_label_issues
from tutelage.metrics import auroc
from tutelage.metrics.label_evidence import (
    NEIGHBOURS,
    RIDGE,
    doubt,
    leave_one_out,
    right,
    share_of_neighbours,
    training_margin,
)


def blobs(seed: int = 0, count: int = 400, classes: int = 3, noise: float = 0.2, spread: float = 1.5):
    """Features around a corner for each class, given labels, and which of them are wrong."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, count)
    x = 2.5 * np.eye(classes, 8)[truth] + spread * rng.normal(size=(count, 8))
    wrong = rng.random(count) < noise
    return x, np.where(wrong, (truth + rng.integers(1, classes, count)) % classes, truth), wrong


def test_leaving_one_out_is_a_regression_without_the_example():
    x, y, _ = blobs(count=40)
    z, targets = (x - x.mean(0)) / x.std(0), np.eye(3)[y]
    scores = np.empty((40, 3))
    for row in range(40):
        rest = np.arange(40) != row
        scores[row] = Ridge(alpha=RIDGE * 40).fit(z[rest], targets[rest]).predict(z[[row]])[0]
    logits = np.log(leave_one_out(y, x, 3))
    logits, scores = (each - each.mean(1, keepdims=True) for each in (logits, scores))
    slope = (logits * scores).sum() / (scores**2).sum()
    assert np.allclose(logits, slope * scores)
    assert slope > 1


def test_the_probability_of_being_right_by_hand_and_with_known_errors():
    found = right(np.array([0, 1]), np.array([[0.9, 0.1], [0.9, 0.1]]), steps=1)
    # Of the slopes 1/4 to 4, the least makes these two labels likeliest; T is right in nine of ten.
    first = 0.9**0.25 / (0.9**0.25 + 0.1**0.25)
    assert found == pytest.approx([0.9 * first / (0.9 * first + 0.1 * (1 - first)),
                                   0.9 * (1 - first) / (0.9 * (1 - first) + 0.1 * first)])  # fmt: skip
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.3, 0.3, 0.3], 5000)
    truth = np.array([rng.choice(3, p=row) for row in p])
    wrong = (truth == 2) & (rng.random(5000) < 0.4)  # a third class that is often taken for the first
    given_label = np.where(wrong, 0, truth)
    seen = p.copy()
    seen[:, 0] += 0.4 * seen[:, 2]
    seen[:, 2] *= 0.6  # what a model that has learned from such labels says
    by_matrix, own = -right(given_label, seen), -seen[np.arange(5000), given_label]
    assert auroc(by_matrix, wrong.astype(int)) > auroc(own, wrong.astype(int))


def test_the_share_of_neighbours_agrees_with_scikit_learn():
    x, y, _ = blobs()
    found = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, metric="cosine").fit(x).kneighbors(x, return_distance=False)
    same = np.array([(y[near[near != row]][:NEIGHBOURS] == y[row]).sum() for row, near in enumerate(found)])
    assert np.allclose(share_of_neighbours(y, x, 3), (same + 0.5 / 3) / (NEIGHBOURS + 0.5))
    assert share_of_neighbours(y[:1], x[:1], 3).shape == (1,)


def test_margins_are_those_of_labels_that_the_others_explain():
    x, y, wrong = blobs()
    margin = training_margin(y, (x - x.mean(0)) / x.std(0), 3)
    assert auroc(-margin, wrong.astype(int)) > 0.85
    assert (margin == training_margin(y, (x - x.mean(0)) / x.std(0), 3)).all()


def test_all_evidence_together_finds_more_than_the_predictions_alone():
    digits = load_digits()
    x, truth = digits.data[:700], digits.target[:700]
    rng = np.random.default_rng(0)
    wrong = rng.random(700) < 0.3
    y = np.where(wrong, (truth + rng.integers(1, 10, 700)) % 10, truth)
    p = leave_one_out(y, x, 10)
    together = doubt(y, p, x)
    assert together.mean() == pytest.approx(0, abs=1e-9)
    assert auroc(together, wrong.astype(int)) > auroc(-p[np.arange(700), y], wrong.astype(int)) + 0.002
    assert wrong[np.argsort(-together)[:100]].all()


@given(st.integers(0, 10**6))
def test_features_rank_and_the_predictions_select(seed):
    x, y, _ = blobs(seed, count=80)
    p = leave_one_out(y, x, 3)
    by_features, by_p = find_label_issues(y, p, features=x), find_label_issues(y, p)
    assert set(by_features.ranked) == set(by_p.ranked)
    assert ((by_features.score > 0) & (by_features.score < 1)).all()
    assert (np.diff(by_features.score[by_features.ranked]) >= 0).all()
    assert (find_label_issues(y, features=x).score == by_features.score).all()  # whose predictions are these by default
    some = np.where(np.arange(80) % 7 == 0, -1, y)
    partly = find_label_issues(some, features=x)
    assert np.isnan(partly.score[some < 0]).all()
    assert np.isfinite(partly.score[some >= 0]).all()


def test_features_that_make_no_sense():
    for features in (np.zeros(3), np.zeros((2, 4)), np.full((3, 4), np.nan)):
        with pytest.raises(ValueError, match=r"give \(N,\) and \(N, D\), finite numbers"):
            find_label_issues([0, 1, 0], features=features)
    with pytest.raises(ValueError, match="at least one; -1 is no label"):
        find_label_issues([-1, -1], features=np.zeros((2, 3)))
    constant = find_label_issues([0, 1, 0, 1], features=np.ones((4, 3)))
    assert np.isfinite(constant.score).all()
