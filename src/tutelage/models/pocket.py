"""Small relatives of the papers' models for images of a few pixels, built from timm's own classes.

Each has its big sibling's structure (residual and grouped convolutions, a class token, a distillation token,
shifted windows, convolution and attention) at the size at which a CPU trains it in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from tutelage import _vision
from tutelage.models.cifar import CifarResNet


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


def _resnext(**options: Any) -> nn.Module:
    sizes: dict[str, Any] = {"widths": (24, 48, 96), "groups": 4, "stem_stride": 2}
    return CifarResNet(**sizes | options)


def _resnet(**options: Any) -> nn.Module:
    sizes: dict[str, Any] = {"widths": (24, 48, 96), "stem_stride": 2}
    return CifarResNet(**sizes | options)


def _coatnet(**options: Any) -> nn.Module:
    _vision.timm()
    from timm.models.maxxvit import MaxxVit, MaxxVitCfg

    config = MaxxVitCfg(embed_dim=(32, 64), depths=(1, 1), block_type=("C", "T"), stem_width=24)
    return MaxxVit(config, img_size=24, **options)


_TRANSFORMER: dict[str, Any] = {
    "img_size": 24,
    "patch_size": 4,
    "embed_dim": 64,
    "depth": 4,
    "num_heads": 4,
    "mlp_ratio": 2.0,
}

POCKET: dict[str, Callable[..., nn.Module]] = {
    "pocket_vit": _vit,
    "pocket_deit": _deit,
    "pocket_swin": _swin,
    "pocket_resnext": _resnext,
    "pocket_resnet": _resnet,
    "pocket_coatnet": _coatnet,
}
