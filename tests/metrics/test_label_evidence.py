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
    all_evidence,
    leave_one_out,
    right,
    shares_of_neighbours,
    stacked,
    training_predictions,
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
    # Of the slopes 1/4 to 4, the least makes these two labels likeliest; T is right in eight of ten.
    first = 0.9**0.25 / (0.9**0.25 + 0.1**0.25)
    assert found == pytest.approx([0.8 * first / (0.8 * first + 0.2 * (1 - first)),
                                   0.8 * (1 - first) / (0.8 * (1 - first) + 0.2 * first)])  # fmt: skip
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


def test_the_shares_of_neighbours_agree_with_scikit_learn():
    x, y, _ = blobs()
    found = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, metric="cosine").fit(x).kneighbors(x, return_distance=False)
    near = np.array([rows[rows != row][:NEIGHBOURS] for row, rows in enumerate(found)])
    counts = (y[near][:, :, None] == np.arange(3)).sum(1)
    shares = shares_of_neighbours(y, x, 3)
    assert np.allclose(shares, (counts + 0.5 / 3) / (NEIGHBOURS + 0.5))
    assert np.allclose(shares.sum(1), 1)
    assert np.allclose(shares_of_neighbours(y[:1], x[:1], 3), 1 / 3)  # without any, it knows nothing


def log_likelihood(a: np.ndarray, logs: np.ndarray, y: np.ndarray) -> float:
    logits = np.tensordot(a, logs, 1)
    return float((logits - np.log(np.exp(logits).sum(1, keepdims=True)))[np.arange(len(y)), y].mean())


@given(st.integers(0, 10**6))
def test_no_other_weights_make_the_labels_likelier(seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 120)
    logs = rng.normal(size=(2, 120, 3)) + rng.uniform(0, 2, (2, 1, 1)) * np.eye(3)[y]
    a = stacked(y, logs)
    assert a.sum() == pytest.approx(1)
    assert (a >= 0).all()
    scales = np.geomspace(0.01, 10, 400)
    best = max(log_likelihood(scale * a, logs, y) for scale in scales)
    for share in np.linspace(0, 1, 11):
        others = np.array([share, 1 - share])
        assert best >= max(log_likelihood(scale * others, logs, y) for scale in scales[::8]) - 1e-4


def test_what_counts_against_itself_does_not_count():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    good = rng.normal(size=(300, 3)) + np.eye(3)[y]
    assert stacked(y, np.stack([good, -good - rng.normal(size=(300, 3))])).tolist() == [1, 0]
    assert stacked(y, np.stack([-good, -good])).tolist() == [0.5, 0.5]  # none knows anything


def test_what_is_learned_early_speaks_for_right_labels():
    x, y, wrong = blobs()
    z = (x - x.mean(0)) / x.std(0)
    p = training_predictions(y, z, 3)
    assert np.allclose(p.sum(1), 1)
    assert auroc(-p[np.arange(len(y)), y], wrong.astype(int)) > 0.85
    assert (p == training_predictions(y, z, 3)).all()


def test_all_evidence_together_finds_more_than_the_predictions_alone():
    digits = load_digits()
    x, truth = digits.data[:700], digits.target[:700]
    rng = np.random.default_rng(0)
    wrong = rng.random(700) < 0.3
    y = np.where(wrong, (truth + rng.integers(1, 10, 700)) % 10, truth)
    p = leave_one_out(y, x, 10)
    together = all_evidence(y, p, x)
    assert ((together >= 0) & (together <= 1)).all()
    assert auroc(-together, wrong.astype(int)) > auroc(-p[np.arange(700), y], wrong.astype(int)) + 0.002
    assert wrong[np.argsort(together)[:100]].all()


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


@pytest.mark.parametrize("unit", [1e-15, 1e12])
def test_the_unit_of_features_makes_no_difference(unit):
    draws = np.random.default_rng(0)
    y = draws.integers(0, 3, 60)
    features = draws.normal(size=(60, 4)) + np.eye(3)[y] @ draws.normal(size=(3, 4))
    features[:, 3] = 0.1  # constant, but for rounding
    p = np.full((60, 3), 1 / 3)
    assert np.allclose(all_evidence(y, p, unit * features), all_evidence(y, p, features), rtol=1e-3)
