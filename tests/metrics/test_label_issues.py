"""Confident learning, by hand and by its properties. (Once, by hand too: what cleanlab 2 finds on eight random problems.)"""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage import find_label_issues

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
ONE = np.array(
    [0.1, 0.3, 0.2, 0.9, 0.8, 0.9, 0.45, 0.3]
)  # of class 1: row 3 is labelled 0, rows 6 and 7 look like class 0
P = np.stack([1 - ONE, ONE], 1)


def test_by_hand():
    """t_0 = (.9 + .7 + .8 + .1) / 4 = .625, t_1 = (.8 + .9 + .45 + .3) / 4 = .6125; row 6 (.55, .45) is confident of neither.

    C = [[3, 1], [1, 2]]; its rows scaled to 4: [[3, 1], [4/3, 8/3]]; so one of each class is pruned, that of the
    largest margin: rows 3 (.8) and 7 (.4, against .1 of row 6).
    """
    found = find_label_issues(LABELS, P)
    assert found.ranked.tolist() == [3, 7]
    assert np.allclose(found.joint_CC, np.array([[3, 1], [4 / 3, 8 / 3]]) / 8)
    assert found.noise_rate == pytest.approx((1 + 4 / 3) / 8)
    assert found.score.tolist() == pytest.approx([0.9, 0.7, 0.8, 0.1, 0.8, 0.9, 0.45, 0.3])
    assert found.suspected.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert find_label_issues(LABELS, P, select="confident").ranked.tolist() == [3, 7]
    margin = find_label_issues(LABELS, P, rank_by="normalised_margin")
    assert margin.score.tolist() == pytest.approx([0.9, 0.7, 0.8, 0.1, 0.8, 0.9, 0.45, 0.3])  # equal, of two classes
    three = find_label_issues(
        [0, 1, 2], [[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.7, 0.1, 0.2]], rank_by="normalised_margin"
    )
    assert three.score.tolist() == pytest.approx([0.6, 0.65, 0.25])


def test_what_is_shown():
    found = find_label_issues(LABELS, P, ids=[f"img{row}" for row in range(8)], classes=["cat", "dog"])
    expected = {"row": [3, 7], "id": ["img3", "img7"], "given": ["cat", "dog"], "suspected": ["dog", "cat"]}
    table = found.table()
    assert table.drop(columns="score").to_dict("list") == expected
    assert table["score"].tolist() == pytest.approx([0.1, 0.3])
    assert repr(found).splitlines()[0] == "2 of 8 labels are in doubt; estimated to be wrong: 29.2%"
    assert "img3" in repr(found)
    assert repr(find_label_issues([0, 1], np.eye(2))) == "0 of 2 labels are in doubt; estimated to be wrong: 0.0%"


def problem(seed: int, count: int = 400, classes: int = 4) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), truth] += 4
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return np.where(rng.random(count) < 0.2, (truth + 1) % classes, truth), p, truth


@given(st.integers(0, 10**6))
def test_wrong_labels_are_found_and_rows_and_classes_may_be_permuted(seed):
    labels, p, truth = problem(seed)
    found = find_label_issues(labels, p)
    wrong = labels[found.ranked] != truth[found.ranked]
    assert wrong.mean() > 0.8
    assert wrong.sum() > 0.7 * (labels != truth).sum()
    assert found.noise_rate == pytest.approx((labels != truth).mean(), abs=0.05)
    assert (np.diff(found.score[found.ranked]) >= 0).all()
    rng = np.random.default_rng(seed)
    rows, place = rng.permutation(len(labels)), rng.permutation(4)
    moved = find_label_issues(place[labels[rows]], p[rows][:, np.argsort(place)])
    assert set(rows[moved.ranked]) == set(found.ranked)
    assert np.allclose(moved.joint_CC[place][:, place], found.joint_CC)


def test_unlabelled_rows_tensors_and_absent_classes():
    labels, p, _ = problem(0)
    rows = np.arange(0, 400, 3)
    some = np.where(np.isin(np.arange(400), rows), labels, -1)
    found = find_label_issues(torch.tensor(some), torch.tensor(p))
    alone = find_label_issues(labels[rows], p[rows])
    assert found.ranked.tolist() == rows[alone.ranked].tolist()
    assert np.isnan(found.score).sum() == 400 - len(rows)
    assert len(find_label_issues(np.zeros(400, int), p)) == 0  # nothing is known of classes that no label names
    assert len(find_label_issues(np.zeros(0, int), np.zeros((0, 3)))) == 0
    assert len(find_label_issues(np.full(3, -1), np.full((3, 2), 0.5))) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [[0.5, 0.5]]), r"labels \(2,\) and probabilities \(1, 2\): give \(N,\) and \(N, C\)"),
        (([0.0, 1.0], np.eye(2)), "labels are float64: give the classes' numbers"),
        (([0, 2], np.eye(2)), "labels lie in 0 to 2: 2 classes go from 0, -1 is no label"),
        (([0, 1], [[0.5, 0.5], [2.0, -1.0]]), r"probabilities\[1\] = \[2.0, -1.0\]: give numbers from 0 that sum to 1"),
        (([0, 1],), "probabilities or features are needed"),
        (([0, 1], np.eye(2), "x"), "select='x' is not one of"),
    ],
)
def test_senseless_arguments(arguments, message):
    options = {"select": arguments[2]} if len(arguments) == 3 else {}
    with pytest.raises(ValueError, match=message):
        find_label_issues(*arguments[:2], **options)
    with pytest.raises(ValueError, match="1 ids for 2: give one for each"):
        find_label_issues([0, 1], np.eye(2), ids=["a"])
