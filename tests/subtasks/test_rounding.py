from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from tutelage.subtasks.rounding import round_to_minimum_size
from tutelage.subtasks.sinkhorn import sinkhorn


def total(scores_NK: torch.Tensor, labels_N: torch.Tensor) -> float:
    return float(scores_NK.gather(1, labels_N[:, None]).sum())


def sizes(labels_N: torch.Tensor, clusters: int) -> list[int]:
    return labels_N.bincount(minlength=clusters).tolist()


def by_brute_force(scores_NK: torch.Tensor, minimum: int) -> float:
    n, k = scores_NK.shape
    kept = (torch.tensor(labels) for labels in product(range(k), repeat=n))
    return max(total(scores_NK, labels) for labels in kept if minimum <= min(sizes(labels, k)))


def by_linear_sum_assignment(scores_NK: torch.Tensor, minimum: int) -> float:
    """A seat for every example that a cluster must or may take; seats that must be taken pay a bonus."""
    bonus = 1e3
    must, may = scores_NK.numpy() + bonus, scores_NK.numpy()
    seats = np.concatenate([np.repeat(must, minimum, axis=1), np.repeat(may, len(may) - minimum, axis=1)], axis=1)
    chosen = linear_sum_assignment(seats, maximize=True)
    return float(seats[chosen].sum()) - bonus * minimum * scores_NK.shape[1]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 10_000), tied=st.booleans())
def test_the_best_total_that_the_bounds_allow(data, seed, tied):
    k = data.draw(st.integers(1, 6))
    n = data.draw(st.integers(k, 30))
    minimum = data.draw(st.integers(0, n // k))
    draws = torch.Generator().manual_seed(seed)
    scores_NK = torch.randn(n, k, generator=draws, dtype=torch.float64)
    if tied:
        scores_NK = scores_NK.round()
    labels = round_to_minimum_size(scores_NK, minimum)
    assert minimum <= min(sizes(labels, k))
    assert total(scores_NK, labels) == pytest.approx(by_linear_sum_assignment(scores_NK, minimum), abs=1e-8)


@pytest.mark.parametrize(("n", "k", "minimum"), [(7, 2, 3), (7, 3, 2), (6, 3, 2), (6, 3, 1)])
def test_equals_brute_force(n, k, minimum):
    scores_NK = torch.randn(n, k, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    labels = round_to_minimum_size(scores_NK, minimum)
    assert total(scores_NK, labels) == pytest.approx(by_brute_force(scores_NK, minimum), abs=1e-9)


def test_a_case_worked_by_hand():
    """Cluster 2 is empty. Example 1 moves to it through cluster 1: 0 -> 1 costs 1, 1 -> 2 costs 1, 0 -> 2 costs 9."""
    scores_NK = torch.tensor([[9.0, 0.0, 0.0], [9.0, 8.0, 0.0], [0.0, 9.0, 8.0]])
    assert scores_NK.argmax(1).tolist() == [0, 0, 1]
    assert round_to_minimum_size(scores_NK, 1).tolist() == [0, 1, 2]


def test_nothing_changes_where_the_argmax_keeps_the_bounds():
    scores_NK = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    least = min(sizes(scores_NK.argmax(1), 5))
    assert round_to_minimum_size(scores_NK, least).equal(scores_NK.argmax(1))


def test_identical_examples_are_shared_out():
    """The argmax of a plan gives twins one label, so ten groups of twins fill at most ten of forty clusters."""
    log_p = torch.randn(10, 40, generator=torch.Generator().manual_seed(0)).log_softmax(1).repeat(40, 1)
    result = sinkhorn(log_p, 250.0)
    assert min(sizes(result.labels, 40)) == 0
    assert sizes(round_to_minimum_size(result.log_plan(), 10), 40) == [10] * 40


def test_the_papers_size_from_the_worst_start():
    """Everything in one cluster: 99 clusters must be filled from it."""
    log_p = torch.randn(2500, 100, generator=torch.Generator().manual_seed(0))
    log_p[:, 7] += 100
    found = sizes(round_to_minimum_size(log_p.log_softmax(1), 20), 100)
    assert min(found) == 20
    assert sum(found) == 2500


def test_constant_scores_and_no_bound():
    assert sizes(round_to_minimum_size(torch.zeros(10, 5), 2), 5) == [2] * 5
    assert round_to_minimum_size(torch.zeros(10, 5), 0).tolist() == [0] * 10
    assert round_to_minimum_size(torch.full((3, 1), 7.0), 3).tolist() == [0] * 3


def test_scores_are_left_alone():
    scores_NK = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    before = scores_NK.detach().clone()
    assert round_to_minimum_size(scores_NK, 5).dtype == torch.int64
    assert scores_NK.equal(before)


@pytest.mark.parametrize(
    ("scores", "minimum", "message"),
    [
        (torch.zeros(10, 3), 4, "minimum=4"),
        (torch.zeros(10, 3), -1, "minimum=-1"),
        (torch.zeros(10), 1, r"\(N, K\)"),
        (torch.tensor([[0.0, -torch.inf], [0.0, torch.nan]]), 1, "2 entries are not finite"),
    ],
)
def test_errors_name_the_argument(scores, minimum, message):
    with pytest.raises(ValueError, match=message):
        round_to_minimum_size(scores, minimum)
