"""From a large teacher to a small student over assistants of sizes between (TAKD), or taught by all of them (DGKD)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from tutelage.checks import check
from tutelage.signals import CrossEntropy, Distillation, Signal
from tutelage.training import Fitted, Plan, fit
from tutelage.weighting import DroppedTeachers


@dataclass(frozen=True)
class AssistantSettings:
    """How a chain of models is taught.

    Args:
        teachers: Who teaches a model: last, the one before it (TAKD), or all, every one before it (DGKD).
        weight: lambda, what the teachers count together where there is one, and each where there are several; the labels
            count 1 - lambda.
        temperature: Of the distillation.
        keep: Probability with which a teacher is listened to in a step; the others are dropped. With 1 all are.
    """

    teachers: Literal["last", "all"] = "last"
    weight: float = 0.9
    temperature: float = 4.0
    keep: float = 1.0

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, weight="[0, 1]", temperature="(0, inf)", keep="(0, 1]")


def assist(
    models: Sequence[nn.Module], train: Any, settings: AssistantSettings, plan: Plan, *, target: str = "label"
) -> list[Fitted]:
    """Train models one after another, the largest first, each taught by the one before it or by all before it.

        L = (1 - lambda) CE + lambda tau^2 sum over its teachers j of KL(t_j || s)

    Args:
        models: the teacher, the assistants, the student; trained in place.
        train: the data set.
        settings: who teaches, and how much.
        plan: what the trainings share.
        target: the batch's key of the labels.

    Returns:
        The trained models, in the same order; the last one is the student.

    Source: Mirzadeh et al., *Improved Knowledge Distillation via Teacher Assistant*, AAAI 2020; Son et al., ICCV 2021, eq. 5.
    """
    if not models:
        raise ValueError("models is empty; give the teacher, the assistants and the student")
    chain: list[Fitted] = []
    for place, model in enumerate(models):
        teachers = [fitted.model for fitted in (chain if settings.teachers == "all" else chain[-1:])]
        signals: list[Signal] = [CrossEntropy(target)]
        signals += [
            Distillation(teacher, temperature=settings.temperature, name=f"teacher {number}")
            for number, teacher in enumerate(teachers)
        ]
        weights = [1 - settings.weight if teachers else 1.0, *[settings.weight] * len(teachers)]
        weighting = DroppedTeachers(weights, settings.keep)
        chain.append(fit(model, train, signals=signals, plan=plan.named(f"model-{place}"), weighting=weighting))
    return chain
