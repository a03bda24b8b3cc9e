"""From declared tasks to a network, its losses and its modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from tutelage.models import AUTOINT, MultiHead, MultiHeadSpec, WithSquaredNorm
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
from tutelage.weighting import Partition
from tutelage.weighting.partition import Level

MAPS = ("segmentation", "map", "normals")


def spec_of(problem: AuxiliaryTask, tasks: tuple[TaskSpec, ...], settings: AuxiliarySettings) -> MultiHeadSpec:
    """Return the network with a head for each task that has one."""
    outputs = {task.name: count for task in tasks if (count := problem.outputs(task)) is not None}
    return MultiHeadSpec(
        AUTOINT if problem.fields else settings.body.name,
        outputs,
        maps=tuple(task.name for task in tasks if task.kind in MAPS),
        fields=problem.fields,
        image_size=settings.image_size,
        hidden=settings.body.hidden,
        dropout=settings.body.dropout,
        squared_norm=any(task.kind == "l2" for task in tasks),
        options=settings.body.options,
    )


def signals_of(problem: AuxiliaryTask, tasks: tuple[TaskSpec, ...], rows: Tensor) -> list[Signal]:
    """Return the losses, in the order of the tasks.

    Each is scaled by its declared weight and, where only n of the N rows have its label, by N / n, so that its mean over a
    batch estimates its mean over those that have one.
    """
    signals: list[Signal] = []
    for task in tasks:
        made = _signal(task)
        factor = task.weight * len(rows) / max(1, problem.present(task, rows))
        signals.append(made if factor == 1 else Scaled(made, factor))
    return signals


def _signal(task: TaskSpec) -> Signal:
    if task.kind == "l2":
        return SquaredNorm(name=task.name)
    assert task.target is not None
    kinds: dict[str, Callable[..., Signal]] = {
        "classification": CrossEntropy,
        "rotation": CrossEntropy,
        "regression": SquaredError,
        "segmentation": PixelCrossEntropy,
        "map": PixelError,
        "normals": SurfaceNormals,
    }
    return kinds[task.kind](task.target, head=task.head or task.name, name=task.name)


def partition_of(model: nn.Module, level: Level, tasks: Sequence[TaskSpec]) -> Partition:
    """Divide a network with several heads.

    Heads that only their own loss trains are in no module. One that several losses reach is a module of its own: every one
    where L2 regularisation is among the tasks (the paper's sixth module of AutoInt), and one that tasks share.

    The blocks are those of the part that the network calls its encoder; what stands beside that (a decoder) is one more.
    """
    inside = model.model if isinstance(model, WithSquaredNorm) else model
    if not isinstance(inside, MultiHead):
        return Partition.of(model, level)
    prefix = "model." if inside is not model else ""
    heads = tuple(prefix + head for head in inside.heads)
    shared = {task.head for task in tasks} | {task.name for task in tasks if any(other.kind == "l2" for other in tasks)}
    left_out = [head for head in heads if head.rpartition(".")[2] not in shared]
    if level != "block":
        return Partition.of(model, level, heads=left_out)
    encoder = prefix + inside.encoder
    beside = f"{encoder.rpartition('.')[0]}.".removeprefix(".")
    within = Partition.of(inside.get_submodule(inside.encoder), "block", heads=[])
    modules: dict[str, list[str]] = {name.removeprefix("backbone."): [] for name in within.names}
    for name, _ in model.named_parameters():
        place = within.module_of.get(name.removeprefix(f"{encoder}."))
        if name.startswith(f"{encoder}.") and place is not None:
            modules[list(modules)[place]].append(name)
        elif not any(name.startswith(f"{head}.") for head in left_out):
            head = next((head for head in heads if name.startswith(f"{head}.")), None)
            own = f"head of {head.rpartition('.')[2]}" if head else name.removeprefix(beside).split(".")[0]
            modules.setdefault(own, []).append(name)
    return Partition.given(model, modules)
