"""Accuracy and F1 by hand and beside scikit-learn's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from tutelage.metrics import accuracy, f1, macro_f1

pairs = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20)


def test_by_hand():
    predicted, labels = [1, 1, 0, 0, 0], [1, 0, 1, 0, 0]
    assert accuracy(predicted, labels) == pytest.approx(0.6)
    assert f1(predicted, labels) == pytest.approx(0.5)
    assert f1(predicted, labels, positive=0) == pytest.approx(2 / 3)
    assert macro_f1(predicted, labels) == pytest.approx(7 / 12)
    assert f1([0], [0]) == 0


@given(pairs)
def test_as_scikit_learn(drawn):
    predicted, labels = zip(*drawn, strict=True)
    assert accuracy(predicted, labels) == pytest.approx(accuracy_score(labels, predicted))
    assert macro_f1(predicted, labels) == pytest.approx(f1_score(labels, predicted, average="macro"))
    ones = f1_score(labels, predicted, labels=[1], average="macro", zero_division=0)
    assert f1(predicted, labels) == pytest.approx(ones)


def test_mistakes():
    for metric in (accuracy, f1, macro_f1):
        with pytest.raises(ValueError, match=r"must both be \(N,\)"):
            metric([0, 1], [0])
        with pytest.raises(ValueError, match="N > 0"):
            metric([], [])
