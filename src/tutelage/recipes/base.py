"""What the settings of several recipes are made of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tutelage.checks import check
from tutelage.data.augment import augmentation
from tutelage.models import ModelSpec, check_options
from tutelage.training import Log, Plan

Scale = Literal["pocket", "paper"]
"""The sizes at which every recipe comes."""


@dataclass(frozen=True)
class ModelSettings:
    """A model and the weights that it starts from.

    Args:
        name: Name of a timm model or of a pocket model.
        pretrained: Initial weights: timm, or the path of a safetensors file; null starts from random weights.
        dropout: Dropout rate before the heads.
        options: Further arguments of the model, as plain values.
    """

    name: str
    pretrained: str | None = None
    dropout: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "model", dropout="[0, 1)")
        check_options(self.name, self.options)

    def spec(self, num_classes: int, image_size: int) -> ModelSpec:
        """Return the model's spec."""
        return ModelSpec(self.name, num_classes, image_size, self.dropout, self.options)


def plan_of(settings: Any, out: Path, log: Log, **own: Any) -> Plan:
    """Return how a recipe's settings train a model in a folder; ``own`` is what this training has in the plan of its own."""
    shared = Plan(
        settings.budget,
        settings.training,
        augment=augmentation(settings.augmentation),
        adapt_every=settings.adapt.every,
        held_out_batch_size=settings.adapt.batch_size,
        seed=settings.seed,
        hardware=settings.hardware,
        out=out,
        log=log,
    )
    return replace(shared, **own)
