"""Every model that timm does not have, by name: the papers' on small images, SimCLR-v2's, and small relatives of others.

The relatives (`POCKET`) are built from timm's own classes. Each has its big sibling's structure (residual and grouped
convolutions, a class token, a distillation token, shifted windows, convolution and attention) at the size at which a CPU
trains it in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from tutelage import _vision
from tutelage.models.cifar import CifarResNet, WideResNet
from tutelage.models.convnet import ConvNet4
from tutelage.models.perceptrons import MLP, PatchNet
from tutelage.models.simclr import SIMCLR


class ConvStem(nn.Module):
    """Patches by three convolutions in the place of one projection, without which small data teach a transformer little.

    Source: Xiao et al., *Early Convolutions Help Transformers See Better*, NeurIPS 2021.
    """

    def __init__(
        self, img_size: int = 24, patch_size: int = 8, in_chans: int = 3, embed_dim: int = 64, **_: Any
    ) -> None:
        super().__init__()
        narrow, wide, last = embed_dim // 4, embed_dim // 2, patch_size // 4
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (img_size // patch_size, img_size // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.body = nn.Sequential(
            nn.Conv2d(in_chans, narrow, 3, 2, 1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 3, 2, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.Conv2d(wide, embed_dim, last, last),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens, (B, patches, embed_dim)."""
        return self.body(images).flatten(2).transpose(1, 2)


def _vit(**options: Any) -> nn.Module:
    _vision.timm()
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(**_TRANSFORMER | options)


def _deit(**options: Any) -> nn.Module:
    return _vision.distilled_transformer()(**_TRANSFORMER | options)


def _swin(**options: Any) -> nn.Module:
    _vision.timm()
    from timm.models.swin_transformer import SwinTransformer

    sizes = {"img_size": 24, "patch_size": 4, "window_size": 3, "embed_dim": 48, "depths": (2, 2), "num_heads": (2, 4)}
    return SwinTransformer(**sizes | options)


def _pocket_resnet(img_size: int = 24, **options: Any) -> nn.Module:  # of any size
    sizes: dict[str, Any] = {"widths": (24, 48, 96), "stem_stride": 2, "max_pool": True}
    return CifarResNet(**sizes | options)


def _coatnet(img_size: int = 24, **options: Any) -> nn.Module:
    _vision.timm()
    from timm.models.maxxvit import MaxxVit, MaxxVitCfg

    config = MaxxVitCfg(embed_dim=(32, 64), depths=(1, 1), block_type=("C", "T"), stem_width=24)
    return MaxxVit(config, img_size=img_size, **options)


def _resnet(depth: int, img_size: int, **options: Any) -> nn.Module:  # of any size
    return CifarResNet(blocks=(depth - 2) // 6, **options)


def _wide(width: int, img_size: int, **options: Any) -> nn.Module:  # of any size
    return WideResNet(16, width, **options)


_TRANSFORMER: dict[str, Any] = {
    "img_size": 24,
    "patch_size": 8,
    "embed_dim": 64,
    "depth": 4,
    "num_heads": 4,
    "embed_layer": ConvStem,
}

POCKET: dict[str, Callable[..., nn.Module]] = {
    "pocket_vit": _vit,
    "pocket_deit": _deit,
    "pocket_swin": _swin,
    "pocket_resnext": partial(_pocket_resnet, groups=4),
    "pocket_resnet": _pocket_resnet,
    "pocket_coatnet": _coatnet,
    "pocket_patches": PatchNet,
}
CIFAR: dict[str, Callable[..., nn.Module]] = {
    **{f"cifar_resnet{depth}": partial(_resnet, depth) for depth in (8, 14, 20, 26, 32, 44, 56, 110)},
    **{f"wrn_16_{width}": partial(_wide, width) for width in (1, 2, 3, 4, 6, 8)},
    "convnet4": ConvNet4,
}
SMALL: dict[str, Callable[..., nn.Module]] = {**POCKET, "pocket_mlp": MLP, **CIFAR, **SIMCLR}
"""By name, what makes a backbone from ``img_size``, ``num_classes``, ``drop_rate`` and options of its own."""
