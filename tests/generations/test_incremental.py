"""Class-incremental learning with refining labels: the protocol counted, heads that grow, and what a task forgets."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from chains import assert_cuts_change_nothing
from torch import Tensor, nn

from tutelage.data import TensorData
from tutelage.data.indexed import Rows
from tutelage.generations import IncrementalSettings, IteratedSettings, learn_incrementally, refining_tasks
from tutelage.models.heads import grow_head
from tutelage.training import Budget, Optimization, Plan

# Quarters of the plane are sub-classes 2..5 of left (0) and right (1); class 6, far above, has no parent.
PARENTS = {2: 0, 3: 0, 4: 1, 5: 1}
STREAM = [(0, 6), (1,), (2, 4), (3, 5)]
PLAN = Plan(Budget(epochs=8), Optimization(lr=0.05, batch_size=32), seed=3)


def plane(size: int = 210, seed: int = 0) -> tuple[TensorData, Tensor]:
    input = torch.randn(size, 2, generator=torch.Generator().manual_seed(seed))
    input[::7, 1] += 8
    truth = torch.zeros(size, 7, dtype=torch.bool)
    far = torch.zeros(size, dtype=torch.bool)
    far[::7] = True
    right, up = input[:, 0] > 0, input[:, 1] > 0
    for number, members in {
        0: ~right,
        1: right,
        2: ~right & ~up,
        3: ~right & up,
        4: right & ~up,
        5: right & up,
    }.items():
        truth[:, number] = members & ~far
    truth[:, 6] = far
    return TensorData(input=input), truth


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))


def learned(settings: IncrementalSettings, plan: Plan = PLAN) -> Any:
    data, truth = plane()
    test, test_truth = plane(200, seed=1)
    tasks = refining_tasks(truth, PARENTS, STREAM, seed=0)
    return learn_incrementally(network(), "2", tasks, lambda rows: Rows(data, rows), test, test_truth, settings, plan)


def test_the_protocol_shows_each_image_under_one_name_at_a_time():
    _, truth = plane()
    tasks = refining_tasks(truth, PARENTS, STREAM, coarse=0.6, fine=0.6, seed=0)
    assert [task.classes for task in tasks] == STREAM
    for task in tasks:
        assert truth[task.rows, task.labels].all()  # a name that is right
        assert set(task.labels.tolist()) <= set(task.classes)
    for child, parent in PARENTS.items():
        members = set(truth[:, child].nonzero().squeeze(1).tolist())
        met = {}
        for number in (child, parent):
            task = next(task for task in tasks if number in task.classes)
            met[number] = members & set(task.rows[task.labels == number].tolist())
        assert met[child] | met[parent] == members
        assert len(met[child]) == len(met[parent]) == round(0.6 * len(members))
    alone = next(task for task in tasks if 6 in task.classes)
    assert set(alone.rows[alone.labels == 6].tolist()) == set(truth[:, 6].nonzero().squeeze(1).tolist())


def test_a_head_grows_and_keeps_what_it_knows():
    model = network()
    before = model(torch.ones(1, 2))
    grow_head(model, "2", 5)
    after = model(torch.ones(1, 2))
    assert after.shape == (1, 5)
    torch.testing.assert_close(after[:, :2], before)
    with pytest.raises(ValueError, match="has 5 already"):
        grow_head(model, "2", 4)
    with pytest.raises(ValueError, match="'1' is no linear layer"):
        grow_head(model, "1", 9)


def test_replay_forgets_less_than_fine_tuning():
    """After the last task, fine-tuning knows next to nothing of the first one's class that no later task refines."""
    replayed = learned(IncrementalSettings("replay", buffer=40))
    tuned = learned(IncrementalSettings("finetune"))
    assert len(replayed.after) == len(STREAM)
    assert [len(row) for row in replayed.by_task] == [1, 2, 3, 4]
    assert replayed.by_task[-1][0] > tuned.by_task[-1][0]
    assert all(0 <= value <= 1 for value in replayed.after)
    assert math.isclose(replayed.after[0], replayed.by_task[0][0])


def test_with_iterated_learning_and_its_budget():
    iterated = IteratedSettings(interaction=4, imitation=2, rho=0.3)
    found = learned(IncrementalSettings("replay", iterated=iterated, first=Budget(epochs=20)))
    assert len(found.after) == len(STREAM)
    assert found.after[0] > 0.8


@pytest.mark.parametrize("iterated", [None, IteratedSettings(2, 1, rho=0.3)], ids=["plain", "mile"])
def test_incremental_cut_and_run_again(tmp_path, monkeypatch, iterated):
    def chain(plan: Plan) -> nn.Module:
        short = replace(plan, budget=Budget(epochs=2), optimization=replace(PLAN.optimization, batch_size=64))
        return learned(IncrementalSettings(iterated=iterated), short).model

    assert_cuts_change_nothing(chain, tmp_path, monkeypatch, (2, 9))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tasks": [(0, 0)]}, "introduce class 0 in tasks 0, 0; name it in the first one alone"),
        ({"tasks": [(2,), (0,)]}, "class 2 comes in task 0, not after its super-class 0"),
        ({"tasks": STREAM, "coarse": 0.2, "fine": 0.2}, "leave images out"),
    ],
)
def test_streams_that_cannot_be(change, says):
    with pytest.raises(ValueError, match=says):
        refining_tasks(plane()[1], PARENTS, **change)
    with pytest.raises(ValueError, match="buffer=0"):
        IncrementalSettings(buffer=0)
