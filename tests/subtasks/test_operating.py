import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.subtasks import operating_points


def by_definition(scores: np.ndarray, labels: np.ndarray, precision: float, window: int) -> float:
    """Slide a window up the ranking until it is wrong."""
    ranked = sorted(zip(scores, labels, strict=True))
    for start in range(len(ranked) - window + 1):
        defects = sum(label == 0 for _, label in ranked[start : start + window])
        if defects / window < precision:
            return np.nan if start == 0 else ranked[start + window // 2][0]
    return ranked[len(ranked) - window + window // 2][0]


@given(st.data(), st.integers(3, 40), st.sampled_from([0.3, 0.5, 0.9]))
def test_where_the_first_wrong_window_lies(data, count, precision):
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    scores = np.array(data.draw(st.permutations(range(count))), dtype=np.float64)
    window = data.draw(st.integers(1, count - 1))
    found = operating_points(scores[:, None], labels, precision, window)[0]
    assert found == pytest.approx(by_definition(scores, labels, precision, window), nan_ok=True)


def test_one_worked_by_hand():
    labels = np.array([0, 0, 1, 0, 1, 1])
    scores_NK = np.stack([np.arange(6.0), 10 - np.arange(6.0), np.full(6, np.nan)], axis=1)
    points = operating_points(scores_NK, labels, 0.6, window=2)  # of 0 and 1 both are defects, of 1 and 2 only one
    assert points[0] == 2
    assert np.isnan(points[1:]).all()  # wrong from the start, and not finite


def test_a_window_of_everything():
    scores_NK = np.arange(4.0)[:, None]
    assert 0 < operating_points(scores_NK, np.array([0, 0, 0, 1]), 0.5, window=20)[0] < 3
    assert np.isnan(operating_points(scores_NK, np.array([0, 1, 1, 1]), 0.5, window=20)[0])
    assert operating_points(np.ones((1, 1)), np.array([0]), 0.5)[0] == 1
