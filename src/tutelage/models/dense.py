"""From an image to one map of features: the stages of any backbone, and a decoder that joins them from coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tutelage import _vision
from tutelage.models.cifar import CifarResNet
from tutelage.models.classifier import timm_config
from tutelage.models.pixels import Pixels, layout_of
from tutelage.models.small import POCKET


class StageMaps(nn.Module):
    """The maps after each stage of a `CifarResNet`, from fine to coarse, in the form of timm's ``features_only``."""

    def __init__(self, network: CifarResNet) -> None:
        super().__init__()
        self.stem, self.stages = network.stem, network.stages
        self.channels = list(network.widths)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps, (B, channels[i], H_i, W_i) each."""
        maps, found = [], self.stem(images)
        for stage in self.stages:
            found = stage(found)
            maps.append(found)
        return maps


class Decoder(nn.Module):
    """A feature pyramid's way down: each finer map is added to the coarser one, enlarged, and smoothed.

    Args:
        channels: of the maps, from fine to coarse.
        width: channels of the result.

    Source: Lin et al., *Feature Pyramid Networks for Object Detection*, CVPR 2017, section 3.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(each, width, 1) for each in channels)
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for _ in channels
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return one map at the finest resolution, (B, width, H_0, W_0)."""
        found: Tensor | None = None
        for lateral, smooth, finer in reversed(list(zip(self.lateral, self.smooth, maps, strict=True))):
            added = lateral(finer)
            if found is not None:
                added = added + F.interpolate(found, size=finer.shape[2:], mode="nearest")
            found = smooth(added)
        assert found is not None
        return found


class EncoderDecoder(nn.Module):
    """Pixels in, (B, 3, H, W) uint8; features of each place out, (B, width, H', W').

    Args:
        encoder: returns maps from fine to coarse.
        channels: of these maps.
        pixels: standardises images.
        width: channels of the result.
    """

    def __init__(self, encoder: nn.Module, channels: Sequence[int], pixels: Pixels, width: int) -> None:
        super().__init__()
        self.pixels = pixels
        self.encoder = encoder
        self.decoder = Decoder(channels, width)
        self.num_features = width

    def forward(self, input: Tensor) -> Tensor:
        """Return the features, (B, width, H', W')."""
        return self.decoder(self.encoder(self.pixels(input)))


def encoder_decoder(name: str, width: int = 64, pretrained: bool = False, **options: Any) -> EncoderDecoder:
    """Build one on a backbone.

    Args:
        name: ``pocket_resnet`` or ``pocket_resnext``, or a timm model that offers ``features_only``.
        width: channels of the decoder.
        pretrained: timm's weights.
        options: further arguments of the backbone.

    Raises:
        ValueError: an unknown backbone, or one without maps of features.
    """
    if name in POCKET:
        network = POCKET[name](num_classes=0, **options)
        if not isinstance(network, CifarResNet):
            raise ValueError(f"model {name!r} has no maps of several resolutions; take pocket_resnet or pocket_resnext")
        encoder = StageMaps(network)
        pixels = Pixels((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), layout_of(encoder))
        return EncoderDecoder(encoder, encoder.channels, pixels, width)
    known = timm_config(name)
    try:
        found = _vision.timm().create_model(name, features_only=True, pretrained=pretrained, **options)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(f"model {name!r} offers no maps of features: {error}") from error
    pixels = Pixels(tuple(known.mean), tuple(known.std), layout_of(found))
    return EncoderDecoder(found, found.feature_info.channels(), pixels, width)
