"""Wide residual networks for images of 32 to 96 pixels (Zagoruyko and Komodakis, BMVC 2016)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PreActivationBlock(nn.Module):
    """Normalisation, ReLU and a 3x3 convolution, twice. The shortcut: the identity, or a 1x1 convolution of the activation."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.shortcut = None if before == after else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Return the block's output, (B, after, H / stride, W / stride)."""
        active = F.relu(self.norm1(input))
        hidden = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return hidden + (input if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-d-k: a convolution, three stages of (d - 4) / 6 blocks of 16k, 32k and 64k channels, global mean.

    Args:
        depth: d: 6n + 4.
        width: k.
        num_classes: outputs; 0 returns the features.
        drop_rate: dropout before the classifier.

    Raises:
        ValueError: a depth that is not 6n + 4.
    """

    def __init__(self, depth: int = 16, width: int = 1, num_classes: int = 10, drop_rate: float = 0.0) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth={depth} is not 6n + 4, such as 16")
        self.num_features = 64 * width
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        stages, before = [], 16
        for number, after in enumerate((16 * width, 32 * width, 64 * width)):
            layers = []
            for place in range((depth - 4) // 6):
                layers.append(PreActivationBlock(before, after, 2 if number > 0 and place == 0 else 1))
                before = after
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(before)
        self.drop = nn.Dropout(drop_rate)
        self.fc: nn.Module = nn.Linear(before, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the last layer, as timm's models do."""
        return self.fc

    def forward_features(self, input: Tensor) -> Tensor:
        """Return the last stage's activated maps, (B, 64k, H / 4, W / 4)."""
        return F.relu(self.norm(self.stages(self.stem(input))))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (B, C), or the pooled features (B, 64k) before them."""
        pooled = self.drop(features.mean((2, 3)))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, input: Tensor) -> Tensor:
        """Return the logits (B, C)."""
        return self.forward_head(self.forward_features(input))
