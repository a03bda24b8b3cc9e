"""From declared tasks to a network, its losses and its modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from tutelage.data.augment import augmentation
from tutelage.data.encoded import RandomView
from tutelage.data.fields import Forgetful
from tutelage.models import AUTOINT, FEATURES, MultiHeadSpec
from tutelage.recipes.auxiliary.settings import AuxiliarySettings, TaskSpec
from tutelage.recipes.auxiliary.task import AuxiliaryTask
from tutelage.signals import (
    CrossEntropy,
    PixelCrossEntropy,
    PixelError,
    Scaled,
    Signal,
    SquaredError,
    SquaredNorm,
    SurfaceNormals,
)
from tutelage.training.batches import Augmentation
from tutelage.weighting import Partition
from tutelage.weighting.multi_head import of_multi_head
from tutelage.weighting.partition import Level

MAPS = ("segmentation", "map", "normals")


def spec_of(problem: AuxiliaryTask, tasks: tuple[TaskSpec, ...], settings: AuxiliarySettings) -> MultiHeadSpec:
    """Return the network with a head for each task that has one."""
    outputs = {task.name: count for task in tasks if (count := problem.outputs(task)) is not None}
    maps = tuple(task.name for task in tasks if task.kind in MAPS)
    name, options = AUTOINT if problem.fields else settings.body.name, settings.body.options
    if (name in FEATURES) != (problem.num_features is not None) or (maps and name in FEATURES):
        readers = f"with an encoder body.name must be feature_mlp, and without one, and for {', '.join(MAPS)}, another"
        raise ValueError(f"body.name={name!r} does not fit the input: {readers}")
    if problem.num_features is not None:
        options = {**options, "num_features": problem.num_features}
    if problem.codes is not None and problem.codes.numbers:
        options = {**options, "numbers": len(problem.codes.numbers)}
    return MultiHeadSpec(
        name,
        outputs,
        maps=maps,
        fields=problem.fields,
        image_size=settings.image_size,
        hidden=settings.body.hidden,
        dropout=settings.body.dropout,
        squared_norm=any(task.kind == "l2" for task in tasks),
        options=options,
    )


def augment_of(problem: AuxiliaryTask, settings: AuxiliarySettings) -> Augmentation | None:
    """Return how the input of a training batch is changed: a random view of features, some fields of one's own forgotten."""
    if problem.num_features is not None:
        return RandomView()
    if problem.codes is not None:
        return Forgetful(problem.codes.sizes, problem.codes.places)
    return None if problem.fields else augmentation(settings.augmentation)


def signals_of(problem: AuxiliaryTask, tasks: tuple[TaskSpec, ...], rows: Tensor) -> list[Signal]:
    """Return the losses, in the order of the tasks.

    Each is scaled by its declared weight and, where only n of the N rows have its label, by N / n, so that its mean over a
    batch estimates its mean over those that have one.
    """
    signals: list[Signal] = []
    for task in tasks:
        made = _signal(problem, task)
        factor = task.weight * len(rows) / max(1, problem.present(task, rows))
        signals.append(made if factor == 1 else Scaled(made, factor))
    return signals


def _signal(problem: AuxiliaryTask, task: TaskSpec) -> Signal:
    if task.kind == "l2":
        return SquaredNorm(name=task.name)
    assert task.target is not None
    if task.kind == "regression":
        mean, deviation = problem.standard(task)
        return SquaredError(task.target, mean=mean, deviation=deviation, head=task.head or task.name, name=task.name)
    kinds: dict[str, Callable[..., Signal]] = {
        "classification": CrossEntropy,
        "rotation": CrossEntropy,
        "segmentation": PixelCrossEntropy,
        "map": PixelError,
        "normals": SurfaceNormals,
    }
    return kinds[task.kind](task.target, head=task.head or task.name, name=task.name)


def partition_of(model: nn.Module, level: Level, tasks: Sequence[TaskSpec]) -> Partition:
    """Divide a network; heads that only their own loss trains are in no module, as `of_multi_head` says.

    L2 regularisation reaches every head (each is the paper's sixth module of AutoInt).
    """
    everywhere = any(task.kind == "l2" for task in tasks)
    shared = {task.head for task in tasks if task.head} | {task.name for task in tasks if everywhere}
    return of_multi_head(model, level, shared)
