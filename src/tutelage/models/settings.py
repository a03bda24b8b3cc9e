"""What settings say of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tutelage.checks import check
from tutelage.models.classifier import ModelSpec
from tutelage.models.features import FEATURES
from tutelage.models.options import check_options


@dataclass(frozen=True)
class ModelSettings:
    """A model and its initial weights.

    Args:
        name: Name of a timm model, of a pocket model, or of a model of an encoder's features: feature_mlp, or feature_student
            with a distillation head.
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

    def spec(self, num_classes: int, image_size: int, num_features: int | None = None) -> ModelSpec:
        """Return the model's spec.

        Args:
            num_classes: its outputs.
            image_size: of its images, in pixels.
            num_features: where its input is the features of an encoder, how many.

        Raises:
            ValueError: the model reads images and the input is features, or the other way round.
        """
        if (num_features is not None) != (self.name in FEATURES):
            readers = f"with an encoder it must be one of {', '.join(FEATURES)}, and without it must be none of them"
            raise ValueError(f"model {self.name!r} does not fit the input: {readers}")
        options = self.options if num_features is None else {**self.options, "num_features": num_features}
        return ModelSpec(self.name, num_classes, image_size, self.dropout, options)
