"""The residual networks of SimCLR-v2 that timm does not have: with selective kernels, and two or three times as wide."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.models.headed import Headed

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
SHARE, LEAST = 16, 32  # of a selective kernel's hidden channels


class SelectiveKernel(nn.Module):
    r"""A 3x3 convolution in two versions, mixed channel by channel as the image asks for.

    With the two halves :math:`u_1, u_2` of ReLU(BN(conv(x))) and their mean over the pixels :math:`g = \overline{u_1 + u_2}`:

    .. math:: y = a_1 u_1 + a_2 u_2,\quad (a_1, a_2) = \mathrm{softmax}(W_2\,\mathrm{ReLU}(\mathrm{BN}(W_1 g)))

    Args:
        channels: of input and output.
        stride: of the convolution.

    Source: Li et al., *Selective Kernel Networks*, CVPR 2019, eqs. 1 to 6, as SimCLR-v2 has it: both kernels are 3x3, W_1 has
    max(channels / 16, 32) rows.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        hidden = max(channels // SHARE, LEAST)
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(2 * channels)
        self.mix1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.mix_norm = nn.BatchNorm2d(hidden)
        self.mix2 = nn.Conv2d(hidden, 2 * channels, 1, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Return the mixture, (B, channels, H / stride, W / stride)."""
        both = F.relu(self.norm(self.conv(input))).unflatten(1, (2, -1))
        mean = both.sum(1).mean((2, 3), keepdim=True)
        share = self.mix2(F.relu(self.mix_norm(self.mix1(mean)))).unflatten(1, (2, -1)).softmax(1)
        return (share * both).sum(1)


class MeanOfFour(nn.Module):
    """The mean of each 2x2 window, with a stride of 1 or 2; past the right and lower border, TensorFlow's way."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, C, H / stride, W / stride)."""
        mode = "constant" if self.stride > 1 else "replicate"  # without a stride, only what is inside counts
        return F.avg_pool2d(F.pad(input, (0, 1, 0, 1), mode=mode), 2, self.stride)


class Bottleneck(nn.Module):
    """Convolutions of 1x1, 3x3 (or a selective kernel) and 1x1 around a shortcut, ResNet-D's where kernels are selective."""

    def __init__(self, before: int, width: int, stride: int, selective: bool) -> None:
        super().__init__()
        after = 4 * width
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2: nn.Module
        if selective:
            self.conv2, self.bn2 = SelectiveKernel(width, stride), None
        else:
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.downsample: nn.Module | None = None
        if stride > 1 or before != after:
            conv = nn.Conv2d(before, after, 1, 1 if selective else stride, bias=False)
            pool = [MeanOfFour(stride)] if selective else []
            self.downsample = nn.Sequential(*pool, conv, nn.BatchNorm2d(after))

    def forward(self, input: Tensor) -> Tensor:
        """Return the block's output, (B, 4 width, H / stride, W / stride)."""
        hidden = self.conv2(F.relu(self.bn1(self.conv1(input))))
        if self.bn2 is not None:
            hidden = F.relu(self.bn2(hidden))
        shortcut = input if self.downsample is None else self.downsample(input)
        return F.relu(self.bn3(self.conv3(hidden)) + shortcut)


class SimCLRResNet(Headed):
    """A bottleneck ResNet of SimCLR-v2: all channels ``width`` times as many, kernels selective or not.

    With selective kernels it has ResNet-D's stem of three 3x3 convolutions, and shortcuts that take means before they change
    the number of channels. `load_self_supervised` reads the PyTorch conversion of the published weights
    (``r50_1x_sk1`` and others).

    Args:
        blocks: in each of the four stages.
        width: factor of all channels.
        selective: whether 3x3 convolutions are selective kernels (sk1).
        num_classes: outputs; 0 returns the features.
        drop_rate: dropout before the classifier.

    Source: Chen et al., *Big Self-Supervised Models are Strong Semi-Supervised Learners*, NeurIPS 2020, section 2 and table 1;
    He et al., *Bag of Tricks for Image Classification*, CVPR 2019, for ResNet-D.
    """

    def __init__(
        self,
        blocks: tuple[int, ...] = BLOCKS[50],
        width: int = 1,
        selective: bool = True,
        num_classes: int = 1000,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        first = 64 * width
        self.conv1 = _stem(first) if selective else nn.Conv2d(3, first, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        before = first
        for number, count in enumerate(blocks):
            inner, stage = first * 2**number, []
            for place in range(count):
                stage.append(Bottleneck(before, inner, 2 if number > 0 and place == 0 else 1, selective))
                before = 4 * inner
            self.add_module(f"layer{number + 1}", nn.Sequential(*stage))
        self.stages = len(blocks)
        self.add_head(before, num_classes, drop_rate)

    def forward_features(self, input: Tensor) -> Tensor:
        """Return the last stage's maps, (B, 2048 width, H / 32, W / 32)."""
        hidden = F.relu(self.bn1(self.conv1(input)))
        hidden = F.max_pool2d(F.pad(hidden, (0, 1, 0, 1)), 3, 2)  # TensorFlow's border; 0 is no maximum after a ReLU
        for number in range(self.stages):
            hidden = getattr(self, f"layer{number + 1}")(hidden)
        return hidden

    def pool(self, features: Tensor) -> Tensor:
        """Return each map's mean."""
        return features.mean((2, 3))


def _stem(channels: int) -> nn.Sequential:
    half = channels // 2
    return nn.Sequential(
        nn.Conv2d(3, half, 3, 2, 1, bias=False),
        nn.BatchNorm2d(half),
        nn.ReLU(),
        nn.Conv2d(half, half, 3, 1, 1, bias=False),
        nn.BatchNorm2d(half),
        nn.ReLU(),
        nn.Conv2d(half, channels, 3, 1, 1, bias=False),
    )


def _network(depth: int, width: int, selective: bool, img_size: int, **options: Any) -> nn.Module:  # of any size
    sizes: dict[str, Any] = {"blocks": BLOCKS[depth], "width": width, "selective": selective}
    return SimCLRResNet(**sizes | options)


SIMCLR: dict[str, Callable[..., nn.Module]] = {
    f"simclr_r{depth}_{width}x_sk{int(selective)}": partial(_network, depth, width, selective)
    for depth in BLOCKS
    for width in (1, 2, 3)
    for selective in (False, True)
    if selective or width > 1  # timm has the plain ones
}
