"""The methods, each a weighting of the same losses of the same network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from tutelage.recipes.auxiliary.network import partition_of
from tutelage.recipes.auxiliary.settings import Method, TaskSpec, WeightSettings
from tutelage.weighting import (
    AMAL,
    MAOAL,
    AuxiLearn,
    Equal,
    Fixed,
    GradientCosine,
    Joint,
    Uncertainty,
    Weighting,
)

Tasks = Sequence[TaskSpec]
Make = Callable[[nn.Module, int, Tasks, WeightSettings], Weighting]
"""From (network, number of examples, tasks, settings) to a weighting."""


def _maoal(model: nn.Module, examples: int, tasks: Tasks, settings: WeightSettings) -> Weighting:
    return MAOAL(
        model,
        len(tasks),
        partition=partition_of(model, settings.level, tasks),
        neumann_steps=settings.neumann_steps,
        neumann_lr=settings.neumann_lr,
        init=settings.init,
        constraint=settings.constraint,
        meta_optimizer=settings.meta_optimizer,
    )


def _joint(model: nn.Module, examples: int, tasks: Tasks, settings: WeightSettings) -> Weighting:
    return Joint(
        model,
        examples,
        len(tasks),
        partition=partition_of(model, settings.level, tasks),
        neumann_steps=settings.neumann_steps,
        neumann_lr=settings.neumann_lr,
        init_importance=settings.init,
        constraint=settings.constraint,
        meta_optimizer=settings.meta_optimizer,
    )


def _fixed(model: nn.Module, examples: int, tasks: Tasks, settings: WeightSettings) -> Weighting:
    if len(settings.constant) != len(tasks) - 1:
        raise ValueError(
            f"weights.constant={settings.constant} must be one weight for each of {len(tasks) - 1} auxiliary tasks"
        )
    return Fixed([1.0, *settings.constant])


def _auxilearn(model: nn.Module, examples: int, tasks: Tasks, settings: WeightSettings) -> Weighting:
    return AuxiLearn(len(tasks), neumann_steps=settings.neumann_steps, neumann_lr=settings.neumann_lr)


WEIGHTINGS: dict[Method, Make] = {
    "single": lambda model, examples, tasks, settings: Equal(),
    "equal": lambda model, examples, tasks, settings: Equal(),
    "fixed": _fixed,
    "gradient_cosine": lambda model, examples, tasks, settings: GradientCosine(
        model, partition=partition_of(model, "model", tasks)
    ),
    "uncertainty": lambda model, examples, tasks, settings: Uncertainty(len(tasks)),
    "auxilearn": _auxilearn,
    "maoal": _maoal,
    "amal": lambda model, examples, tasks, settings: AMAL(examples, len(tasks)),
    "joint": _joint,
}
"""``hpo`` trains with ``fixed`` several times."""

LEARNS: frozenset[Method] = frozenset({"auxilearn", "maoal", "amal", "joint"})
"""The methods that learn on the held-out part. The others train on it, as in the paper."""


@dataclass(frozen=True)
class Trained:
    """Which examples a method trains on, and which its weights are learned on."""

    parts: tuple[str, ...]
    held_out: str | None


def trained_on(method: Method) -> Trained:
    """Return what a method may look at besides the validation part."""
    if method in LEARNS:
        return Trained(("train",), "held_out")
    return Trained(("train", "held_out"), None)
