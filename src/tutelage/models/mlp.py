"""A multi-layer perceptron on pixels, for images of a few of them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers and ReLUs on the grey values.

    Args:
        img_size: height and width of the images.
        widths: units of each hidden layer.
        num_classes: outputs; 0 returns the features.
        drop_rate: dropout before the classifier.
    """

    def __init__(
        self, img_size: int = 8, widths: Sequence[int] = (48, 48), num_classes: int = 10, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        layers, before = [], img_size**2
        for width in widths:
            layers.append(nn.Sequential(nn.Linear(before, width), nn.ReLU()))
            before = width
        self.num_features = before
        self.layers = nn.Sequential(*layers)
        self.drop = nn.Dropout(drop_rate)
        self.fc: nn.Module = nn.Linear(before, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the last layer, as timm's models do."""
        return self.fc

    def forward_features(self, input: Tensor) -> Tensor:
        """Return the last hidden layer, (B, widths[-1])."""
        return self.layers(input.mean(1).flatten(1))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (B, C), or the features before them."""
        dropped = self.drop(features)
        return dropped if pre_logits else self.fc(dropped)

    def forward(self, input: Tensor) -> Tensor:
        """Return the logits (B, C)."""
        return self.forward_head(self.forward_features(input))
