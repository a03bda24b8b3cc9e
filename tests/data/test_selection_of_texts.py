"""Facility location against plain greedy choice and exhaustive search."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from tutelage.data import facility_location


def similarities(features: np.ndarray) -> np.ndarray:
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-300)
    return np.maximum(unit @ unit.T, 0)


def value(similarity: np.ndarray, chosen: list[int]) -> float:
    return float(similarity[:, chosen].max(1).sum()) if chosen else 0.0


@given(st.integers(0, 40), st.integers(1, 5), st.booleans())
def test_each_choice_gains_most(seed, count, sparse):
    features = np.random.default_rng(seed).random((9, 3))
    chosen, gains = facility_location(csr_matrix(features) if sparse else features, count, block=4)
    similarity = similarities(features)
    for place in range(count):
        before = chosen[:place].tolist()
        best = max(value(similarity, [*before, j]) for j in range(9) if j not in before)
        reached = value(similarity, [*before, int(chosen[place])])
        assert reached == pytest.approx(best)
        assert gains[place] == pytest.approx(reached - value(similarity, before))
    most = max(value(similarity, list(some)) for some in itertools.combinations(range(9), count))
    assert gains.sum() >= (1 - 1 / np.e) * most


def test_what_is_known_is_neither_chosen_nor_gained_again():
    features = np.array([[1, 0], [1, 0.01], [0, 1], [0.01, 1]])
    chosen, gains = facility_location(features, 2, known=np.array([0]))
    assert set(chosen) <= {2, 3, 1}
    assert chosen[0] in (2, 3)
    assert gains[0] > 1.9
    assert gains[1] < 0.01


def test_texts_without_a_word_stand_for_nobody():
    chosen, gains = facility_location(csr_matrix(np.array([[0.0, 0], [1, 0]])), 2)
    assert chosen.tolist() == [1, 0]
    assert gains.tolist() == [1, 0]


def test_more_than_there_are():
    with pytest.raises(ValueError, match="count=2, but 1 of 2 examples are not labelled yet"):
        facility_location(np.eye(2), 2, known=np.array([0]))
