"""Small relatives of the papers' models for images of a few pixels, built from timm's own classes.

Each has its big sibling's structure (residual and grouped convolutions, a class token, a distillation token,
shifted windows, convolution and attention) at the size at which a CPU trains it in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tutelage import _vision
from tutelage.models.cifar import CifarResNet
from tutelage.models.patches import PatchNet


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
    _vision.timm()
    from timm.models.deit import VisionTransformerDistilled

    return VisionTransformerDistilled(**_TRANSFORMER | options)


def _swin(**options: Any) -> nn.Module:
    _vision.timm()
    from timm.models.swin_transformer import SwinTransformer

    sizes = {"img_size": 24, "patch_size": 4, "window_size": 3, "embed_dim": 48, "depths": (2, 2), "num_heads": (2, 4)}
    return SwinTransformer(**sizes | options)


def _resnext(img_size: int = 24, **options: Any) -> nn.Module:  # of any size
    sizes: dict[str, Any] = {"widths": (24, 48, 96), "groups": 4, "stem_stride": 2, "max_pool": True}
    return CifarResNet(**sizes | options)


def _resnet(img_size: int = 24, **options: Any) -> nn.Module:  # of any size
    sizes: dict[str, Any] = {"widths": (24, 48, 96), "stem_stride": 2, "max_pool": True}
    return CifarResNet(**sizes | options)


def _coatnet(img_size: int = 24, **options: Any) -> nn.Module:
    _vision.timm()
    from timm.models.maxxvit import MaxxVit, MaxxVitCfg

    config = MaxxVitCfg(embed_dim=(32, 64), depths=(1, 1), block_type=("C", "T"), stem_width=24)
    return MaxxVit(config, img_size=img_size, **options)


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
    "pocket_resnext": _resnext,
    "pocket_resnet": _resnet,
    "pocket_coatnet": _coatnet,
    "pocket_patches": PatchNet,
}
