"""The methods: which losses a student follows, and what weighs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.recipes.distill.settings import DistillSettings
from tutelage.weighting import WEIGHTINGS, registry


@dataclass(frozen=True)
class Method:
    """What a student is taught by.

    Attributes:
        weighting: the name of what weighs the losses.
        options: its own.
        teachers: whether the teachers are listened to.
        mixed: whether the losses are weighed as kd weighs them before the weighting does, so that weights of 1 are kd.
    """

    weighting: str
    options: dict[str, Any]
    teachers: bool = True
    mixed: bool = False

    @property
    def learns(self) -> bool:
        """Whether weights are learned on the held-out examples."""
        return WEIGHTINGS[self.weighting].learns


def method_of(name: str, settings: DistillSettings) -> Method:
    """Return a method: ce, kd, or the name of a weighting, which is made of the settings' options."""
    if name in ("ce", "kd"):
        return Method("equal", {}, teachers=name == "kd", mixed=name == "kd")
    options = settings.options_of(name)
    return Method(name, options, mixed=not registry.known(name, options).weighs_signals)


def proportions(weights: Sequence[float]) -> list[float]:
    """Return weights with sum 1 in proportion to these, so that the learning rate keeps its meaning."""
    return [weight / sum(weights) for weight in weights]
