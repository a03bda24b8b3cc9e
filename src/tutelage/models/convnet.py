"""ConvNet-4, the small convolutional network of MAOAL's and of few-shot experiments."""

from __future__ import annotations

from torch import Tensor, nn

from tutelage.models.headed import Headed


class ConvNet4(Headed):
    """Four 3x3 convolutions without border, two of them followed by a pooling, and a hidden layer; all normalised.

    From 32 pixels: 30, 28, 14, 12, 10, 5, so that the hidden layer has 800 inputs.

    Args:
        img_size: height and width of the images; at least 16.
        channels: of each convolution.
        hidden: units of the hidden layer.
        num_classes: outputs; 0 returns the features.
        drop_rate: dropout before the classifier.

    Raises:
        ValueError: images that are too small.

    Source: the released program of Chen et al., *Module-Aware Optimization for Auxiliary Learning*, NeurIPS 2022.
    """

    def __init__(
        self, img_size: int = 32, channels: int = 32, hidden: int = 512, num_classes: int = 10, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        if img_size < 16:
            raise ValueError(f"image_size={img_size}: ConvNet-4 needs at least 16 pixels")
        side = ((img_size - 4) // 2 - 4) // 2
        self.convolutions = nn.Sequential(
            _layer(3, channels),
            _layer(channels, channels, True),
            _layer(channels, channels),
            _layer(channels, channels, True),
        )
        self.hidden = nn.Sequential(nn.Linear(channels * side**2, hidden), nn.BatchNorm1d(hidden), nn.ReLU())
        self.add_head(hidden, num_classes, drop_rate)

    def forward_features(self, input: Tensor) -> Tensor:
        """Return the hidden layer, (B, hidden)."""
        return self.hidden(self.convolutions(input).flatten(1))

    def pool(self, features: Tensor) -> Tensor:
        """Return the features as they are."""
        return features


def _layer(before: int, after: int, pool: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(before, after, 3), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))
