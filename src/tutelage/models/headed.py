"""What our own networks have in common with timm's: features, and a classifier of them as the last layer."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Headed(nn.Module, ABC):
    """A network with the methods of timm's: its own layers, and after them dropout and a linear classifier.

    A subclass calls `add_head` once its own layers are there.

    Attributes:
        num_features: numbers in the pooled features.
    """

    num_features: int

    def add_head(self, num_features: int, num_classes: int, drop_rate: float) -> None:
        """Add dropout and the classifier; with 0 classes the network returns the pooled features."""
        self.num_features = num_features
        self.drop = nn.Dropout(drop_rate)
        self.fc: nn.Module = nn.Linear(num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.fc

    @abstractmethod
    def forward_features(self, input: Tensor) -> Tensor:
        """Return the features of images (B, 3, H, W), before they are pooled."""

    @abstractmethod
    def pool(self, features: Tensor) -> Tensor:
        """Return the pooled features, (B, num_features)."""

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (B, C), or the pooled features (B, num_features) before them."""
        pooled = self.drop(self.pool(features))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, input: Tensor) -> Tensor:
        """Return the logits (B, C)."""
        return self.forward_head(self.forward_features(input))
