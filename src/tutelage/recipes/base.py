"""What every recipe's settings are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tutelage.models import ModelSpec

Scale = Literal["pocket", "paper"]


@dataclass(frozen=True)
class ModelSettings:
    """A model and where it starts.

    Args:
        name: A timm name, or one of the pocket models.
        pretrained: timm, or the path of a safetensors file; none starts from random weights.
        dropout: Dropout before the heads.
        options: Further plain arguments of the model.
    """

    name: str
    pretrained: str | None = None
    dropout: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    def spec(self, num_classes: int, image_size: int) -> ModelSpec:
        """Return the model's spec."""
        return ModelSpec(self.name, num_classes, image_size, self.dropout, self.options)
