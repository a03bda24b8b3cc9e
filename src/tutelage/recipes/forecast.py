"""What a run is going to train, and about how long that takes, by a step of each model that is measured first."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.batches import call, map_tensors, tensors_of
from tutelage.signals.base import by_head
from tutelage.training import Budget, seeds
from tutelage.training.batches import Augmentation, Examples, fetch

PASSES = 4  # of which the fastest but the first tells the time of a step: others wait for whatever else runs


@dataclass(frozen=True)
class Training:
    """One of a run's trainings.

    Attributes:
        name: for people.
        model: what tells its model from others.
        make: builds it; which weights it has is no matter.
        steps: that it takes.
        seconds: of a step, where it has been measured; else by a forward and a backward pass.
    """

    name: str
    model: Any
    make: Callable[[], nn.Module]
    steps: int
    seconds: float | None = None


def steps_of(budget: Budget, examples: int, batch_size: int) -> int:
    """Return the steps of a budget whose epoch is a pass over so many examples."""
    return budget.total(max(1, -(-examples // batch_size)))


def forecast(
    trainings: Sequence[Training], examples: Examples, batch_size: int, augment: Augmentation | None = None
) -> str:
    """Return what is going to be trained and about how long it takes, by the time of a step of each model on one batch.

    What weighs the losses and the evaluations are not measured, and take longer.

    Args:
        trainings: of the run.
        examples: the training data.
        batch_size: of all.
        augment: the random change of a batch's input.
    """
    took: list[tuple[Any, float]] = []
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the training itself gives the same warnings
        with seeds.fixed(0, "forecast"):
            input = fetch(examples, [place % len(examples) for place in range(batch_size)])["input"]
            input = input if augment is None else augment(input)
            for training in trainings:
                if training.seconds is None and all(training.model != model for model, _ in took):
                    took.append((training.model, _seconds_of_step(training.make(), input)))
    times = [
        next(found for model, found in took if model == each.model) if each.seconds is None else each.seconds
        for each in trainings
    ]
    seconds = sum(each.steps * found for each, found in zip(trainings, times, strict=True))
    listed = ", ".join(f"{each.name} ({each.steps:,} steps)" for each in trainings)
    lasts = f"about {seconds / 60:,.0f} min" if seconds >= 90 else f"about {max(1, round(seconds))} s"
    count = "1 training" if len(trainings) == 1 else f"{len(trainings)} trainings"
    return (
        f"{count}: {listed}. By the time of a step they take {lasts}, more where weights are learned; "
        "finished ones are not run again"
    )


def _seconds_of_step(model: nn.Module, input: Any) -> float:
    """Return how long a forward and a backward pass take where the training will be; the first one is slow."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    model, input = model.to(device).train(), map_tensors(input, lambda tensor: tensor.to(device))
    took = []
    for _ in range(PASSES):
        start = time.perf_counter()
        outputs = by_head(call(model, input))
        total = sum((each.float().sum() for each in tensors_of(outputs)), torch.zeros((), device=device))
        assert isinstance(total, Tensor)
        total.backward()
        last = next((each.grad for each in model.parameters() if each.grad is not None), total)
        last.sum().item()  # waits for the device
        took.append(time.perf_counter() - start)
    return min(took[1:])
