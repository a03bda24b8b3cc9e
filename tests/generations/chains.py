"""A task on which chains of trainings take no time, and a way to cut any of them anywhere."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tutelage.data import TensorData
from tutelage.data.indexed import Rows
from tutelage.training import Budget, Optimization, Plan

N, C = 60, 3


def points(size: int = N, seed: int = 1) -> TensorData:
    """Points in the plane, and three classes by their signs; the last half is not labelled."""
    input = torch.randn(size, 2, generator=torch.Generator().manual_seed(seed))
    label = (input > 0).long().sum(1)
    label[size // 2 :] = -1
    return TensorData(input=input, label=label)


LABELLED, UNLABELLED = torch.arange(N // 2), torch.arange(N // 2, N)


def examples(rows: Tensor) -> Any:
    return Rows(points(), rows)


def network(generation: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generation)
        return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, C))


PLAN = Plan(Budget(epochs=2), Optimization(lr=0.02, batch_size=16), seed=3)


def spy_on_fit(monkeypatch: pytest.MonkeyPatch, spy: Callable[..., Any]) -> None:
    """Put ``spy`` in the place of `fit` in every chain."""
    for name, module in list(sys.modules.items()):
        if name.startswith("tutelage.generations.") and hasattr(module, "fit"):
            monkeypatch.setattr(module, "fit", spy)


class PowerCut(Exception):
    pass


class Cut:
    """An augmentation that fails at one call of all, once."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0

    def config(self) -> dict[str, Any]:
        return {"name": "cut"}  # wherever it is

    def __call__(self, input: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise PowerCut
        return input + 0.1 * torch.randn_like(input)


def assert_cuts_change_nothing(
    chain: Callable[[Plan], nn.Module], out: Path, monkeypatch: pytest.MonkeyPatch, cuts: tuple[int, ...]
) -> None:
    """Straight through against cut at these batches of the whole chain and run again: the same bits in the last model."""
    monkeypatch.setattr("tutelage.training.checkpoint.due", lambda *_: True)
    straight = chain(replace(PLAN, augment=Cut(-1), out=out / "straight"))
    for at in cuts:
        plan = replace(PLAN, augment=Cut(at), out=out / f"cut-{at}")
        with pytest.raises(PowerCut):
            chain(plan)
        again = chain(plan)
        for name, value in straight.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), (at, name)
