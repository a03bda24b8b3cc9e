"""A teacher is asked once about a batch, and again whenever its answer could be another one."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from tutelage.signals import CrossEntropy, Distillation, Objective
from tutelage.signals.distillation import Frozen
from tutelage.weighting import AMAL


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        self.asked = 0

    def forward(self, input: Tensor) -> Tensor:
        self.asked += 1
        return self.layer(input)


@pytest.fixture
def teacher() -> Counting:
    torch.manual_seed(0)
    return Counting()


def answer(teacher: Counting, input: Tensor) -> Tensor:
    with torch.no_grad():
        return copy.deepcopy(teacher).eval()(input)


def test_the_same_input_is_asked_about_once_and_an_equal_one_again(teacher):
    frozen, input = Frozen(teacher), torch.randn(5, 4)
    first = frozen(input)
    assert frozen(input) is first
    assert teacher.asked == 1
    torch.testing.assert_close(frozen(input.clone()), first)
    assert teacher.asked == 2
    del input
    assert frozen._last is not None
    assert frozen._last[0][0]() is None  # the batch itself is not held


def _overwrite(frozen: Frozen, teacher: Counting, input: Tensor) -> None:
    input.mul_(2)


def _train(frozen: Frozen, teacher: Counting, input: Tensor) -> None:
    with torch.no_grad():
        teacher.layer[0].weight.add_(1)


def _load(frozen: Frozen, teacher: Counting, input: Tensor) -> None:
    teacher.load_state_dict({name: value + 1 for name, value in teacher.state_dict().items()})


def _remember(frozen: Frozen, teacher: Counting, input: Tensor) -> None:
    teacher.layer[1].running_mean.add_(1)


def _widen(frozen: Frozen, teacher: Counting, input: Tensor) -> None:
    frozen.double().float()


@pytest.mark.parametrize("change", [_overwrite, _train, _load, _remember, _widen])
def test_a_change_is_noticed(change, teacher):
    frozen, input = Frozen(teacher), torch.randn(5, 4)
    frozen(input)
    change(frozen, teacher, input)
    torch.testing.assert_close(frozen(input), answer(teacher, input))
    assert teacher.asked == 2


def test_another_precision_is_another_question(teacher):
    frozen, input = Frozen(teacher), torch.randn(5, 4)
    assert frozen(input).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        said = frozen(input)
    assert teacher.asked == 2
    torch.testing.assert_close(said.float(), answer(teacher, input), rtol=0.05, atol=0.05)


def test_nothing_remembered_is_copied_or_saved(teacher):
    frozen, input = Frozen(teacher), torch.randn(5, 4)
    frozen(input)
    assert copy.deepcopy(frozen)._last is None
    torch.save(frozen, file := io.BytesIO())
    file.seek(0)
    assert torch.load(file, weights_only=False)._last is None


def test_an_update_of_the_weights_does_not_ask_about_the_steps_batch_again(teacher):
    model = nn.Linear(4, 3)
    objective = Objective(model, [CrossEntropy(), Distillation(teacher)])
    weighting = AMAL(6, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = {"index": torch.arange(6), "input": torch.randn(6, 4), "label": torch.arange(6) % 3}
    held_out = {"index": torch.arange(3), "input": torch.randn(3, 4), "label": torch.arange(3)}
    weighting.backward(objective(batch), batch, model)
    weighting.adapt(objective, batch, held_out, optimizer)
    once = teacher.asked
    batch = {**batch, "input": torch.randn(6, 4)}
    weighting.backward(objective(batch), batch, model)
    weighting.adapt(objective, batch, held_out, optimizer)
    assert teacher.asked == once + 1
