"""How well the primary task is done: one outcome an example, a figure of all outcomes, and its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutelage.metrics import Interval, bootstrap_rows, mean_iou, pixel_accuracy
from tutelage.recipes.auxiliary.settings import TaskSpec
from tutelage.signals import Batch, Outputs

Outcomes = NDArray[np.float64]
Figure = Callable[[Outcomes], float]


@dataclass(frozen=True)
class Measure:
    """A figure of outcomes.

    Attributes:
        name: of the figure, as in metrics.json.
        figure: from outcomes (n, d) to a number.
        higher: whether more is better.
    """

    name: str
    figure: Figure
    higher: bool = True


MEASURES: dict[str, tuple[Measure, ...]] = {
    "classification": (Measure("accuracy", lambda correct: float(correct.mean())),),
    "regression": (Measure("rmse", lambda squares: float(np.sqrt(squares.mean())), higher=False),),
    "segmentation": (Measure("mean_iou", mean_iou), Measure("pixel_accuracy", pixel_accuracy)),
}
"""For each kind of primary task its figures, the one that selects first."""


class Answer(nn.Module):
    """A network's answer to one task, in few bytes: the likeliest class of each example or pixel, or the number."""

    def __init__(self, model: nn.Module, task: TaskSpec, standard: tuple[float, float] = (0.0, 1.0)) -> None:
        super().__init__()
        self.model = model
        self.task = task
        self.standard = standard

    def forward(self, input: Tensor) -> Tensor:
        """Return (B,) or (B, H, W)."""
        return answer(self.model(input), self.task, self.standard)


def answer(outputs: Outputs, task: TaskSpec, standard: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """Return the answer that a network's outputs give to a task, (B,) or (B, H, W).

    Args:
        outputs: the network's.
        task: which of them is asked.
        standard: the mean and the deviation by which its numbers are standardised.
    """
    assert isinstance(outputs, Mapping)
    found = outputs[task.name]
    mean, deviation = standard
    return found[:, 0] * deviation + mean if task.kind == "regression" else found.argmax(1)


def outcomes(answers: Tensor, labels: Tensor, kind: str, classes: int) -> Outcomes:
    """Return the outcome of each example with a known label, (n, d): whether right, the squared error, or confusion counts."""
    if kind == "regression":
        known = ~torch.isnan(labels)
        return (answers[known].double() - labels[known].double()).square()[:, None].numpy()
    if kind == "classification":
        known = labels >= 0
        return (answers[known].long() == labels[known]).double()[:, None].numpy()
    known = labels >= 0
    cells = classes * labels.long() + answers.long()
    counted = [torch.bincount(cell[k], minlength=classes**2) for cell, k in zip(cells, known, strict=True) if k.any()]
    return torch.stack(counted).double().numpy()


def selects(task: TaskSpec, classes: int, standard: tuple[float, float]) -> Callable[[Outputs, Batch], float]:
    """Return what selects a checkpoint: the first figure of the task, with a sign that makes more better."""

    def value(outputs: Outputs, batch: Batch) -> float:
        assert task.target is not None
        return selected_by(task, outcomes(answer(outputs, task, standard), batch[task.target], task.kind, classes))

    return value


def selected_by(task: TaskSpec, found: Outcomes) -> float:
    """Return the first figure of a task, with a sign that makes more better."""
    measure = MEASURES[task.kind][0]
    return measure.figure(found) if measure.higher else -measure.figure(found)


def interval(measure: Measure, found: Outcomes, seed: int) -> Interval:
    """Return a figure with its bootstrap interval over the examples."""
    return bootstrap_rows(measure.figure, found, seed=seed)


def difference(measure: Measure, ours: Outcomes, theirs: Outcomes, seed: int) -> Interval:
    """Return by how much ours is better than theirs on the same examples, with its interval; positive is better."""
    sign = 1 if measure.higher else -1
    return bootstrap_rows(lambda a, b: sign * (measure.figure(a) - measure.figure(b)), ours, theirs, seed=seed)
