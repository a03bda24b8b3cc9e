import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from tutelage.metrics import normalised_mutual_information, purity

labellings = st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 6)), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(pairs=labellings)
def test_equals_scikit_learn(pairs):
    truth, found = map(np.array, zip(*pairs, strict=True))
    expected = normalized_mutual_info_score(truth, found)
    assert normalised_mutual_information(truth, found) == pytest.approx(expected, abs=1e-9)
    assert purity(truth, found) == contingency_matrix(truth, found).max(0).sum() / len(truth)


@settings(max_examples=50, deadline=None)
@given(pairs=labellings)
def test_symmetry_and_names(pairs):
    truth, found = map(np.array, zip(*pairs, strict=True))
    value = normalised_mutual_information(truth, found)
    assert normalised_mutual_information(found, truth) == pytest.approx(value, abs=1e-12)
    assert normalised_mutual_information(np.array(list("abcdef"))[truth + 1], 9 - found) == pytest.approx(
        value, abs=1e-12
    )
    assert normalised_mutual_information(truth, truth) == pytest.approx(1)


def test_worked_by_hand():
    truth, found = [0, 0, 1, 1], [0, 1, 2, 3]
    assert normalised_mutual_information(truth, found) == pytest.approx(2 / 3)  # log 2 / ((log 2 + log 4) / 2)
    assert purity(truth, found) == 1
    assert purity(found, truth) == 0.5
    assert normalised_mutual_information([0, 0, 1, 1], [0, 1, 0, 1]) == 0
    assert normalised_mutual_information([7, 7], [3, 3]) == 1
    assert normalised_mutual_information([0, 1], [3, 3]) == 0


@pytest.mark.parametrize("metric", [normalised_mutual_information, purity])
@pytest.mark.parametrize(("truth", "found"), [([], []), ([0, 1], [0]), ([[0]], [[0]])])
def test_errors(metric, truth, found):
    with pytest.raises(ValueError, match=r"must both be \(N,\)"):
        metric(truth, found)
