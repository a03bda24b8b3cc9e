"""A training that holds everything that could spoil a resumption, and a way to run it in a process that can be killed."""

import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import GeneralTracker, on_main_process
from torch import Tensor, nn

from tutelage.data import TensorData
from tutelage.signals import Batch, CrossEntropy, Outputs, Signal
from tutelage.training import Budget, Fitted, Optimization, Plan, checkpoint, fit
from tutelage.weighting import Weighting

N, C = 22, 3  # two batches of 8 and one of 6
EPOCHS, BATCHES = 3, 3
ADAMW = Optimization(optimizer="adamw", lr=0.02, schedule="cosine", warmup=0.2, clip_norm=1.0, batch_size=8)
SGD = Optimization(optimizer="sgd", lr=0.1, momentum=0.9, nesterov=True, schedule="quartiles", batch_size=8)


def points(size: int = N, seed: int = 1) -> TensorData:
    input = torch.randn(size, 2, generator=torch.Generator().manual_seed(seed))
    return TensorData(input=input, label=(input > 0).long().sum(1))


def network(seed: int = 2) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, C))


class PowerCut(Exception):
    pass


def power_cut() -> None:
    raise PowerCut


class Jitter:
    """An augmentation that can be slow, and to which something can happen at a training batch, counted from here."""

    def __init__(self, seconds: float = 0.0, at: int | None = None, happens: Callable[[], None] = power_cut) -> None:
        self.seconds = seconds
        self.at = at
        self.happens = happens
        self.calls = 0

    def config(self) -> dict[str, Any]:
        return {"name": "jitter"}  # whatever happens meanwhile

    def __call__(self, input: Tensor) -> Tensor:
        if len(input) <= ADAMW.batch_size:  # and not the larger ones of a `predict`
            if self.calls == self.at:
                self.happens()
            self.calls += 1
        time.sleep(self.seconds)
        return input + 0.1 * torch.randn_like(input)


class Moody(Weighting):
    """A weighting that remembers something of every example, and learns from held-out data."""

    def __init__(self, size: int = N) -> None:
        super().__init__()
        self.register_buffer("seen_N", torch.zeros(size))
        self.mood = nn.Parameter(torch.tensor(1.0))

    seen_N: Tensor

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        self.seen_N[batch["index"]] += losses_BK[:, 0]
        return (self.mood.detach() / (1 + self.seen_N[batch["index"]]))[:, None].expand_as(losses_BK)

    def learned(self) -> dict[str, Any]:
        return {"mood": self.mood.item()}

    def adapt(self, objective: Any, batch: Batch, held_out: Batch, optimizer: torch.optim.Optimizer) -> None:
        with torch.no_grad():
            self.mood.mul_(1 + 0.1 * objective(held_out)[:, 0].mean().tanh())


class Echo(Signal):
    """Cross-entropy with what the model itself said before the epoch."""

    def __init__(self, size: int = N) -> None:
        super().__init__("echo")
        self.register_buffer("said_N", torch.full((size,), -1))

    said_N: Tensor

    def begin_epoch(self, epoch: int, predict_fn: Any) -> None:
        index, outputs = predict_fn(augmented=True)
        self.said_N[index] = outputs.argmax(1)

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        said_B = self.said_N[batch["index"]]
        assert (said_B >= 0).all()
        return nn.functional.cross_entropy(self.own_output(outputs), said_B, reduction="none")


def accuracy(outputs: Outputs, batch: Batch) -> float:
    assert isinstance(outputs, Tensor)
    return float((outputs.argmax(1) == batch["label"]).double().mean())


def planned(arguments: dict[str, Any]) -> Fitted:
    """Call `fit` with its own arguments and those of its plan, mixed as they are."""
    mixed = dict(arguments)
    plan = Plan(**{each.name: mixed.pop(each.name) for each in fields(Plan) if each.name in mixed})
    return fit(plan=plan, **mixed)


def whole_training(
    out: Path | None, optimization: Optimization = ADAMW, jitter: Jitter | None = None, **changed: Any
) -> Fitted:
    """Dropout, normalisation, augmentation, schedules, selection, self-labels and a learned weighting, all at once."""
    arguments: dict[str, Any] = {
        "model": network(),
        "train": points(),
        "signals": [CrossEntropy(), Echo()],
        "budget": Budget(epochs=EPOCHS),
        "optimization": optimization,
        "weighting": Moody(),
        "held_out": points(10, seed=3),
        "adapt_every": 2,
        "augment": jitter or Jitter(),
        "val": points(12, seed=4),
        "select_by": accuracy,
        "seed": 5,
        "out": out,
    }
    return planned(arguments | changed)


def every_step_is_saved() -> None:
    """Checkpoint after each step of this process, not each half minute."""
    checkpoint.due = lambda *_: True  # type: ignore[assignment]


def same(one: Any, other: Any, path: str = "") -> None:
    """Assert that two nested states hold the same bits, and say where not."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            same(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for place, pair in enumerate(zip(one, other, strict=True)):
            same(*pair, f"{path}/{place}")
    elif isinstance(one, Tensor):
        assert one.dtype == other.dtype, path
        assert torch.equal(one, other), path
    else:
        assert one == other or (one != one and other != other), path


class Recorder(GeneralTracker):
    """An experiment tracker that keeps what it is told, with the step."""

    name, requires_logging_directory = "recorder", False

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[int, dict[str, Any]]] = []

    @property
    def tracker(self) -> "Recorder":
        return self

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None: ...

    @on_main_process
    def log(self, values: dict[str, Any], step: int, **_: Any) -> None:
        self.logged.append((step, dict(values)))
