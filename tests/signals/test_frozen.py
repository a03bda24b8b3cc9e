"""A teacher is asked once a step: a probe of the step's batch hears that answer, unless it could be another one."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from tutelage.signals import CrossEntropy, Distillation, Objective
from tutelage.signals.base import unobserved
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


def probe(frozen: Frozen, input: Tensor) -> Tensor:
    with unobserved():
        return frozen(input)


def test_probes_hear_the_answer_of_the_step_and_an_equal_input_is_another(teacher):
    frozen, input = Frozen(teacher), torch.randn(5, 4)
    first = frozen(input)
    assert probe(frozen, input) is first
    assert probe(frozen, input) is first
    assert teacher.asked == 1
    torch.testing.assert_close(probe(frozen, input.clone()), first)
    assert teacher.asked == 2
    del input
    assert frozen._last is not None
    assert frozen._last[0][0]() is None  # the batch itself is not held


def test_a_step_takes_the_answer_of_a_probe_before_it_once(teacher):
    frozen, input = Frozen(teacher), torch.randn(5, 4)
    first = probe(frozen, input)
    assert probe(frozen, input) is first
    assert frozen(input) is first
    assert teacher.asked == 1
    frozen(input)
    assert teacher.asked == 2


def test_every_step_asks_anew_as_no_version_counts_a_write_through_data(teacher):
    frozen, input = Frozen(teacher), torch.randn(5, 4)
    frozen(input)
    for parameter in teacher.parameters():
        parameter.data.mul_(0.5)
    torch.testing.assert_close(frozen(input), answer(teacher, input))


def test_it_is_asked_in_eval_mode_and_left_in_its_own(teacher):
    frozen, input = Frozen(teacher), torch.randn(5, 4)
    teacher.train()
    teacher.layer[0].eval()
    mean = teacher.layer[1].running_mean.clone()
    torch.testing.assert_close(frozen(input), answer(teacher, input))
    assert [module.training for module in teacher.modules()] == [True, True, False, True]
    assert torch.equal(teacher.layer[1].running_mean, mean)


def test_it_answers_in_inference_mode(teacher):
    objective = Objective(nn.Linear(4, 3), [CrossEntropy(), Distillation(teacher)])
    with torch.inference_mode():
        batch = {"index": torch.arange(5), "input": torch.randn(5, 4), "label": torch.zeros(5, dtype=torch.int64)}
        assert torch.isfinite(objective(batch)).all()


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
    torch.testing.assert_close(probe(frozen, input), answer(teacher, input))
    assert teacher.asked == 2


def test_a_probe_hears_the_answer_in_the_step_s_precision_and_a_step_one_in_its_own(teacher):
    frozen, input = Frozen(teacher), torch.randn(5, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        said = frozen(input)
    assert probe(frozen, input) is said
    torch.testing.assert_close(said.float(), answer(teacher, input), rtol=0.05, atol=0.05)
    other = torch.randn(5, 4)
    assert probe(frozen, other).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        frozen(other)
    assert teacher.asked == 3


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


def test_a_step_does_not_take_what_a_probe_heard_before_the_teacher_was_written_through_data(teacher):
    frozen, input = Frozen(teacher), torch.randn(5, 4)
    for write in (lambda p: p.data.mul_(0.99), lambda p: p.data.add_(0.1)):
        input = input.clone()
        heard = probe(frozen, input)
        for parameter in teacher.parameters():
            write(parameter)
        assert not torch.equal(frozen(input), heard)
        torch.testing.assert_close(frozen(input), answer(teacher, input))
