from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from tutelage.metrics import intervals_at_fpr, lift_at_fpr, npv_at_fpr, npv_floor, recall_at_fpr

FIGURES = {"npv_at_fpr": npv_at_fpr, "lift_at_fpr": lift_at_fpr, "recall_at_fpr": recall_at_fpr}


def drawn(seed: int, defects: int, apart: float = 2.5) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat([0, 1], [defects, 5 * defects])
    return np.random.default_rng(seed).normal(size=labels.size) + apart * labels, labels


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.sampled_from([0.0, 0.01, 0.05, 0.3]), st.integers(0, 1000))
def test_the_figures_are_those_of_their_functions_and_lie_in_their_intervals(defects, fpr, seed):
    scores, labels = drawn(seed, defects)
    floor = npv_floor(defects, 5 * defects, fpr)
    for name, each in intervals_at_fpr(scores, labels, fpr, draws=200).items():
        assert each.value == pytest.approx(partial(FIGURES[name], fpr=fpr)(scores, labels))
        assert each.low <= each.value + 1e-12
        assert each.value <= each.high + 1e-12
        assert each.low >= {"npv_at_fpr": floor, "lift_at_fpr": 0.0, "recall_at_fpr": 0.0}[name] - 1e-12


@pytest.mark.parametrize(("defects", "fpr"), [(160, 0.01), (160, 0.05), (40, 0.05)])
def test_the_truth_lies_beyond_either_end_at_most_as_often_as_promised(defects, fpr):
    flagged = norm.cdf(norm.ppf(1 - fpr) - 2.5)
    truth = (1 - fpr) / (1 - fpr + 5 * flagged)
    made = [intervals_at_fpr(*drawn(seed, defects), fpr, draws=1000)["npv_at_fpr"] for seed in range(300)]
    # three standard errors of a share of 0.025 in 300 data sets are 0.027
    assert np.mean([truth < each.low for each in made]) < 0.052
    assert np.mean([truth > each.high for each in made]) < 0.052


def test_where_every_score_beyond_the_highest_defect_could_be_the_threshold_the_lower_end_is_the_floor():
    """Of 160 defects none lies above the 1 % threshold in 0.99 ^ 160 = 20 % of the data sets."""
    each = intervals_at_fpr(*drawn(0, 160), 0.01)["npv_at_fpr"]
    assert each.low == pytest.approx(npv_floor(160, 800, 0.01), abs=1e-3)


def test_a_level_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="level"):
        intervals_at_fpr(*drawn(0, 20), 0.05, level=1.0)
