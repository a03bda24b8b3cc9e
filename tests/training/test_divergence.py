"""A training that has become useless ends with an error that says what to change, or says so."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from torch import Tensor, nn

from tutelage.data import TensorData
from tutelage.signals import CrossEntropy
from tutelage.training import Budget, Hardware, Optimization, checkpoint

SGD = Optimization(optimizer="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, batch_size=8)


def tiny_fit(**changed: Any) -> Any:
    arguments = {
        "model": runs.network(),
        "train": runs.points(),
        "signals": [CrossEntropy()],
        "budget": Budget(epochs=3),
    }
    return runs.planned(arguments | {"optimization": SGD} | changed)


class Exploding(CrossEntropy):
    """From some step on the losses are finite, and a step along their gradient is not."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.now = 0

    def begin_step(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.now = step

    def forward(self, outputs: Any, batch: Any) -> Tensor:
        losses_B = super().forward(outputs, batch)
        return losses_B + 1e30 * (1e8 * outputs.sum(1)).sin() * (self.now >= self.at)


def test_weights_that_are_not_finite_end_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutelage.training.checkpoint.due", lambda *_: True)
    with pytest.raises(ValueError, match="probe: weights are not finite") as told:
        tiny_fit(signals=[Exploding(4)], optimization=replace(SGD, lr=30.0), out=tmp_path, name="probe")
    text = str(told.value)
    step = int(re.findall(r"after step (\d+)", text)[0])
    assert step == 5
    assert "the learning rate there was 30: lower optimization.lr=30, or set optimization.clip_norm" in text
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert f"the checkpoint in {tmp_path} is of step {step - 1}, the last good one" in text
    assert state["standing"]["step"] == step - 1
    assert all(value.isfinite().all() for value in state["model"].values())


def test_an_error_without_a_checkpoint_says_that_there_is_none() -> None:
    hardware = Hardware(precision="bf16")
    with pytest.raises(ValueError, match=r"or hardware.precision=float32; there is no checkpoint before it"):
        tiny_fit(signals=[Exploding(1)], optimization=replace(SGD, lr=30.0), hardware=hardware)


def test_nothing_but_nan_is_an_error(tmp_path: Path) -> None:
    nothing = TensorData(input=torch.full((9, 2), torch.nan), label=torch.zeros(9, dtype=torch.int64))
    model = runs.network()
    with pytest.raises(
        ValueError, match=r"no example had a finite loss .* up to step 1; see whether the inputs are finite"
    ):
        tiny_fit(model=model, train=nothing, out=tmp_path)
    runs.same(dict(model.state_dict()), dict(runs.network().state_dict()))
    assert checkpoint.load(tmp_path) is None


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_learning_rate_of_a_billion_does_not_pass_in_silence(optimizer: Any) -> None:
    with pytest.warns(UserWarning, match=r"the loss has grown to .* lower optimization.lr=1e\+09"):
        tiny_fit(optimization=replace(SGD, optimizer=optimizer, lr=1e9))


def test_looking_costs_no_step_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of a tensor is asked for at evaluations alone, however many steps there are between them."""

    def asked(steps: int) -> int:
        count = 0
        originals = {name: getattr(Tensor, name) for name in ("item", "tolist", "__bool__", "__float__", "cpu")}

        def counting(name: str) -> Any:
            def wrapper(tensor: Tensor, *arguments: Any, **named: Any) -> Any:
                nonlocal count
                count += tensor.is_floating_point()  # places and indices lie on the CPU
                return originals[name](tensor, *arguments, **named)

            return wrapper

        with monkeypatch.context() as patch:
            for name in originals:
                patch.setattr(Tensor, name, counting(name))
            optimization = replace(SGD, batch_size=2)
            model = nn.Linear(2, runs.C)  # batch normalisation counts its batches itself
            tiny_fit(model=model, train=runs.points(40), optimization=optimization, budget=Budget(steps=steps))
        return count

    assert asked(15) == asked(5)
