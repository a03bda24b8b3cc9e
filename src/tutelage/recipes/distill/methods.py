"""The methods: which losses a student follows, and what weighs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from tutelage.recipes.distill.settings import Method, MixingSettings
from tutelage.weighting import (
    AMAL,
    CRUST,
    MAOAL,
    AuxiLearn,
    DroppedTeachers,
    Equal,
    GradientCosine,
    Joint,
    LearningToReweight,
    MetaWeightNet,
    Partition,
    SuperLoss,
    Uncertainty,
    Weighting,
)


@dataclass(frozen=True)
class Recipe:
    """What a method is made of.

    Attributes:
        make: from (model, N, K, settings) to a weighting.
        teachers: whether the teachers are listened to.
        mixed: whether the losses are weighed as kd weighs them before the method does, so that weights of 1 are kd.
        learns: whether weights are learned on the held-out examples.
        uses: the names of the settings of `MixingSettings` that it depends on.
    """

    make: Callable[[nn.Module, int, int, MixingSettings], Weighting]
    teachers: bool = True
    mixed: bool = False
    learns: bool = False
    uses: tuple[str, ...] = ()


def _amal(model: nn.Module, examples: int, signals: int, mixing: MixingSettings) -> Weighting:
    return AMAL(
        examples,
        signals,
        init=mixing.init,
        lr=mixing.lr,
        normalise=mixing.normalise,
        num_updates=mixing.num_updates,
        strategy=mixing.strategy,
    )


def _joint(model: nn.Module, examples: int, signals: int, mixing: MixingSettings) -> Weighting:
    return Joint(
        model,
        examples,
        signals,
        partition=_modules(model, mixing),
        neumann_steps=mixing.neumann_steps,
        init=mixing.init,
        lr=mixing.lr,
        strategy=mixing.strategy,
    )


def _maoal(model: nn.Module, examples: int, signals: int, mixing: MixingSettings) -> Weighting:
    return MAOAL(model, signals, partition=_modules(model, mixing), neumann_steps=mixing.neumann_steps)


def _modules(model: nn.Module, mixing: MixingSettings) -> Partition:
    """Divide a student; its head is a module like any other, since the label and the teachers speak to the same one."""
    return Partition.of(model, mixing.level, heads=[])


def _gcs(model: nn.Module, examples: int, signals: int, mixing: MixingSettings) -> Weighting:
    return GradientCosine(model, partition=Partition.of(model, "model", heads=[]))


def _auxilearn(model: nn.Module, examples: int, signals: int, mixing: MixingSettings) -> Weighting:
    return AuxiLearn(signals, neumann_steps=mixing.neumann_steps)


def _crust(model: nn.Module, examples: int, signals: int, mixing: MixingSettings) -> Weighting:
    return CRUST(examples, fraction=mixing.fraction, radius=None, start=mixing.crust_start)


def _dgkd(model: nn.Module, examples: int, signals: int, mixing: MixingSettings) -> Weighting:
    return DroppedTeachers([1 - mixing.kd_weight, *[mixing.kd_weight] * (signals - 1)], mixing.keep)


def _superloss(model: nn.Module, examples: int, signals: int, mixing: MixingSettings) -> Weighting:
    return SuperLoss(num_signals=signals, regularisation=mixing.regularisation)


ADAPT = ("every", "held_out_batch_size")
METHODS: dict[Method, Recipe] = {
    "ce": Recipe(lambda *_: Equal(), teachers=False),
    "kd": Recipe(lambda *_: Equal(), mixed=True, uses=("kd_weight",)),
    "dgkd": Recipe(_dgkd, uses=("kd_weight", "keep")),
    "equal": Recipe(lambda *_: Equal()),
    "uncertainty": Recipe(lambda model, examples, signals, mixing: Uncertainty(signals)),
    "gradient_cosine": Recipe(_gcs),
    "superloss": Recipe(_superloss, mixed=True, uses=("kd_weight", "regularisation")),
    "crust": Recipe(_crust, mixed=True, uses=("kd_weight", "fraction", "crust_start")),
    "learning_to_reweight": Recipe(
        lambda *_: LearningToReweight(), mixed=True, learns=True, uses=("kd_weight", "held_out_batch_size")
    ),
    "meta_weight_net": Recipe(lambda model, examples, signals, mixing: MetaWeightNet(signals), learns=True, uses=ADAPT),
    "auxilearn": Recipe(_auxilearn, learns=True, uses=(*ADAPT, "neumann_steps")),
    "maoal": Recipe(_maoal, learns=True, uses=(*ADAPT, "neumann_steps", "level")),
    "amal": Recipe(_amal, learns=True, uses=(*ADAPT, "lr", "normalise", "num_updates", "init", "strategy")),
    "joint": Recipe(_joint, learns=True, uses=(*ADAPT, "lr", "init", "strategy", "neumann_steps", "level")),
}
"""``hpo`` trains as ``kd`` several times; ``coreset`` as ``amal``, and then as ``ce`` on a part of the examples."""


def kd_weights(share: float, teachers: int) -> list[float]:
    """Return the weights of the label and of each teacher when the teachers together have this share."""
    return [1 - share, *([share / teachers] * teachers)]


def proportions(weights: Sequence[float]) -> list[float]:
    """Return weights with sum 1 in proportion to these, so that the learning rate keeps its meaning."""
    return [weight / sum(weights) for weight in weights]
