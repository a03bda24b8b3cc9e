"""Every weighting by its name, and how settings make one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from tutelage.checks import check_arguments, nearest_or_all
from tutelage.weighting.amal import AMAL
from tutelage.weighting.auxilearn import AuxiLearn
from tutelage.weighting.base import Weighting
from tutelage.weighting.cleannet import CleanNet
from tutelage.weighting.cosine import GradientCosine
from tutelage.weighting.crust import CRUST
from tutelage.weighting.curriculumnet import CurriculumNet
from tutelage.weighting.dropped import DroppedTeachers
from tutelage.weighting.fixed import Equal, Fixed
from tutelage.weighting.ieg import IEG
from tutelage.weighting.joint import Joint
from tutelage.weighting.maoal import MAOAL
from tutelage.weighting.mentornet import LearnedMentorNet, MentorNet
from tutelage.weighting.meta_weight_net import MetaWeightNet
from tutelage.weighting.partition import Level, Partition
from tutelage.weighting.reweight import LearningToReweight
from tutelage.weighting.superloss import SuperLoss
from tutelage.weighting.uncertainty import Uncertainty

WEIGHTINGS: dict[str, type[Weighting]] = {
    cls.name: cls
    for cls in (
        AMAL,
        AuxiLearn,
        CRUST,
        CleanNet,
        CurriculumNet,
        DroppedTeachers,
        Equal,
        Fixed,
        GradientCosine,
        IEG,
        Joint,
        LearnedMentorNet,
        LearningToReweight,
        MAOAL,
        MentorNet,
        MetaWeightNet,
        SuperLoss,
        Uncertainty,
    )
}
"""A new weighting has a line here, and every recipe takes it."""

GIVEN = ("model", "num_examples", "num_signals")
"""What a weighting is told of the training that it is for, where its constructor asks."""


def build(
    name: str,
    *,
    model: nn.Module | None = None,
    num_examples: int | None = None,
    num_signals: int | None = None,
    divide: Callable[[Level], Partition] | None = None,
    **options: Any,
) -> Weighting:
    """Return the weighting of a name, as ``build(model=model, **weighting.config())`` returns an equal one.

    Args:
        name: one of `WEIGHTINGS`.
        model: the model whose modules are told apart.
        num_examples: N, the size of the data set that ``batch["index"]`` counts in.
        num_signals: K, the primary one included.
        divide: how a level divides the model, where ``partition`` is one; `Partition.of` by default.
        options: further arguments of its constructor, also as the plain values of a file.

    Raises:
        ValueError: an unknown name, option or value.
    """
    cls = known(name, options)
    takes = inspect.signature(cls).parameters
    told = dict(zip(GIVEN, (model, num_examples, num_signals), strict=True))
    arguments: dict[str, Any] = {key: value for key, value in told.items() if key in takes and value is not None}
    arguments |= {key: _made(cls, key, value) for key, value in options.items()}
    if divide is not None and "partition" in takes:
        level = arguments.get("partition", takes["partition"].default)
        arguments["partition"] = level if isinstance(level, Partition) else divide(level)
    for option, parameter in takes.items():
        if parameter.default is parameter.empty and option not in arguments:
            raise ValueError(f"weighting {name!r} needs {option}")
    return cls(**arguments)


def known(name: str, options: Mapping[str, Any]) -> type[Weighting]:
    """Return the class of a name, which takes these options.

    Raises:
        ValueError: an unknown name or option, with the nearest known one, or a value of another kind.
    """
    if name not in WEIGHTINGS:
        raise ValueError(f"weighting {name!r} is unknown; {nearest_or_all(name, WEIGHTINGS)}")
    cls = WEIGHTINGS[name]
    takes = [option for option in inspect.signature(cls).parameters if option not in GIVEN]
    for option in options:
        if option not in takes:
            raise ValueError(f"weighting {name!r} has no option {option!r}; {nearest_or_all(option, takes)}")
    check_arguments(cls.__init__, {key: _made(cls, key, value) for key, value in options.items()})
    return cls


def check(name: str, num_signals: int, options: Mapping[str, Any]) -> None:
    """Make a weighting for a model of one parameter, so that wrong settings are told before anything long begins.

    Raises:
        ValueError: an unknown name, option or value.
    """
    with torch.random.fork_rng(devices=[]):
        build(name, model=nn.Sequential(nn.Linear(1, 1)), num_examples=1, num_signals=num_signals, **options)


def _made(cls: type[Weighting], option: str, value: Any) -> Any:
    """Return an option's value, made of the plain values of a file where the class says how."""
    make = cls.made_of.get(option)
    return make(value) if make is not None and isinstance(value, Mapping) else value
