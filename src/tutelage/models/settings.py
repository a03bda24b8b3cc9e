"""What settings say of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tutelage.checks import check
from tutelage.models.classifier import ModelSpec
from tutelage.models.options import check_options


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
