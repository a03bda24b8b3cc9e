"""Models of features that a frozen encoder has computed, and the door that puts the encoder in front of a trained one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.models.headed import Headed
from tutelage.models.kernel import FeatureKernel


class FeatureMLP(Headed):
    """Linear layers and GELUs on a feature vector, and a linear classifier; without hidden layers a linear model.

    With K outputs and no hidden layer it is K models in one, none of which sees another.

    Args:
        num_features: numbers of a feature vector.
        widths: units of each hidden layer.
        num_classes: outputs; 0 returns the features.
        drop_rate: dropout before the classifier.
    """

    def __init__(
        self, num_features: int = 384, widths: Sequence[int] = (), num_classes: int = 10, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.layers, last = _layers(num_features, widths)
        self.add_head(last, num_classes, drop_rate)

    def forward_features(self, input: Tensor) -> Tensor:
        """Return the last hidden layer of features (B, num_features)."""
        return self.layers(input)

    def pool(self, features: Tensor) -> Tensor:
        """Return the features as they are."""
        return features


class FeatureStudent(nn.Module):
    """The student of eq. 8 on a feature vector: a class head and a distillation head, each on hidden layers of its own.

    Its attributes are those of timm's transformers with a distillation token.

    Args:
        num_features: numbers of a feature vector.
        widths: units of each hidden layer.
        num_classes: outputs of each head.
        drop_rate: dropout before the heads.
    """

    def __init__(
        self, num_features: int = 384, widths: Sequence[int] = (), num_classes: int = 10, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.layers, self.num_features = _layers(num_features, widths)
        self.layers_dist, _ = _layers(num_features, widths)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(self.num_features, num_classes)
        self.head_dist = nn.Linear(self.num_features, num_classes)

    def get_classifier(self) -> tuple[nn.Module, nn.Module]:
        """Return both heads."""
        return self.head, self.head_dist

    def forward_features(self, input: Tensor) -> Tensor:
        """Return what each head sees of features (B, num_features): (B, 2, widths[-1])."""
        return torch.stack([self.layers(input), self.layers_dist(input)], dim=1)


def _layers(before: int, widths: Sequence[int]) -> tuple[nn.Sequential, int]:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(before, width), nn.GELU()]
        before = width
    return nn.Sequential(*layers), before


FEATURES: dict[str, Callable[..., Any]] = {
    "feature_mlp": FeatureMLP,
    "feature_student": FeatureStudent,
    "feature_kernel": FeatureKernel,
}
"""By name, what makes a backbone from ``num_features``, ``num_classes``, ``drop_rate`` and options of its own."""


class FeatureDoor(nn.Module):
    """The door of a model of features: the first view of each example, standardised.

    Attributes:
        mean, std: (num_features,); 0 and 1 while the data are standardised.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, D) of (B, D) or (B, V, D)."""
        features = input[:, 0] if input.dim() == 3 else input
        return (features - self.mean) / self.std


class EncoderDoor(FeatureDoor):
    """The door of a model of features that sees images: their features by a frozen encoder, standardised.

    Args:
        encoder: an `ImageClassifier` without classes; it is frozen, and stays in eval mode.
        num_features: numbers of a feature vector.
    """

    def __init__(self, encoder: Any, num_features: int) -> None:
        super().__init__(num_features)
        self.encoder = encoder.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> EncoderDoor:
        """Set the door's mode, and leave the encoder in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, D) of uint8 images (B, 3, H, W)."""
        return super().forward(self.encoder.features(input))


def feature_door(encoder: Any, mean: Tensor, std: Tensor) -> FeatureDoor:
    """Return what standardises features.

    Args:
        encoder: an `ImageClassifier` without classes, which makes the features of images; None where they are given.
        mean, std: of each feature, (D,).
    """
    door = FeatureDoor(len(mean)) if encoder is None else EncoderDoor(encoder, len(mean))
    door.mean.copy_(mean)
    door.std.copy_(std)
    return door
