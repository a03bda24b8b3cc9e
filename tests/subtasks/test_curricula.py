from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.subtasks import Curriculum
from tutelage.subtasks.curricula import CurriculumName

NAMES = get_args(CurriculumName)


@st.composite
def classes(draw, most: int = 5):
    """The sub-task of each place, some without one, and a score for each sub-task, often the same."""
    subtask = draw(st.lists(st.integers(-1, most - 1), min_size=1, max_size=60))
    scores = draw(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=most, max_size=most))
    return torch.tensor(subtask), torch.tensor(scores)


def sizes(task: torch.Tensor, count: int) -> torch.Tensor:
    return task[task >= 0].bincount(minlength=count)


@given(classes(), st.sampled_from(NAMES), st.integers(0, 99), st.integers(0, 9))
def test_an_epoch_visits_every_place_once(places, name, seed, epoch):
    subtask, scores = places
    order = Curriculum(subtask, name, scores, seed)(epoch)
    assert order.sort().values.tolist() == list(range(len(subtask)))


@given(classes(), st.sampled_from(["cc", "pc", "acc", "apc"]), st.integers(0, 99), st.integers(0, 9))
def test_sub_tasks_come_by_score_then_number(places, name, seed, epoch):
    subtask, scores = places
    curriculum = Curriculum(subtask, name, scores, seed)
    met = curriculum.deal(epoch)[curriculum(epoch)].tolist()
    if (subtask < 0).all():
        return
    ranks = [(float(scores[task]), task) for task in met]
    assert ranks == sorted(ranks, reverse=name in ("acc", "apc"))


@given(classes(), st.sampled_from(NAMES), st.integers(0, 99), st.integers(0, 9))
def test_whoever_has_no_sub_task_is_dealt_out_in_proportion(places, name, seed, epoch):
    subtask, scores = places
    dealt = Curriculum(subtask, name, scores, seed).deal(epoch)
    own = subtask >= 0
    assert torch.equal(dealt[own], subtask[own])
    if not own.any():
        assert torch.equal(dealt, subtask)
        return
    shares = sizes(subtask, len(scores)) / own.sum() * (~own).sum()
    assert ((sizes(dealt[~own], len(scores)) - shares).abs() <= 1).all()
    assert dealt.min() >= 0


def test_one_worked_by_hand():
    subtask = torch.tensor([0, 0, -1, 2, 1, -1, -1, 2, 0, -1])  # three of 0, one of 1, two of 2, four to deal
    scores = torch.tensor([0.9, 0.2, 0.2])
    curriculum = Curriculum(subtask, "cc", scores, seed=0)
    assert sizes(curriculum.deal(0), 3).tolist() == [3 + 2, 1 + 1, 2 + 1]  # 1 and 2 come first: ends at .67, 2, 4 of 4
    assert curriculum.deal(0)[curriculum(0)].tolist() == [1] * 2 + [2] * 3 + [0] * 5
    reverse = Curriculum(subtask, "acc", scores, seed=0)
    assert reverse.tasks == [0, 2, 1]


@given(classes(), st.sampled_from(NAMES), st.integers(0, 99), st.integers(0, 9))
def test_a_function_of_seed_and_epoch(places, name, seed, epoch):
    subtask, scores = places
    fresh, used = (Curriculum(subtask.clone(), name, scores.clone(), seed) for _ in range(2))
    used(epoch + 1)
    used.deal(epoch + 3)
    assert torch.equal(fresh(epoch), used(epoch))
    assert torch.equal(fresh.deal(epoch), used.deal(epoch))


@pytest.mark.parametrize("name", NAMES)
def test_epochs_and_seeds_differ(name):
    subtask = torch.arange(200) % 5 - 1
    orders = [Curriculum(subtask, name, torch.rand(4), seed)(epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert not torch.equal(*(Curriculum(subtask, name, torch.rand(4), 0).deal(epoch) for epoch in (0, 1)))


def test_a_sub_task_without_examples_is_passed_over():
    curriculum = Curriculum(torch.tensor([3, 3, 1, -1]), "cc", torch.tensor([0.0, 0.9, 0.0, 0.1, 0.0]), 0)
    assert curriculum.tasks == [3, 1]
    assert set(curriculum.deal(0).tolist()) <= {1, 3}


def test_mistakes():
    with pytest.raises(ValueError, match=r"name='abc' must be one of 'random', 'cc', 'pc', 'acc', 'apc'"):
        Curriculum(torch.tensor([0]), "abc", torch.ones(1), 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sub-task 2 has no score among 2"):
        Curriculum(torch.tensor([0, 2]), "cc", torch.ones(2), 0)
