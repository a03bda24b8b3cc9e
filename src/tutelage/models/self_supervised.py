"""An encoder from a self-supervised checkpoint: MoCo-v2, SimCLR, SimCLR-v2, SwAV and BYOL in their published layouts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

LAYOUTS: dict[str, tuple[str, ...]] = {
    "moco_v2": ("module.encoder_q.", "encoder_q."),
    "simclr": ("module.encoder.", "encoder.", "module.backbone.", "backbone."),
    "simclr_v2": ("",),  # under "resnet", in names of its own
    "swav": ("module.",),
    "byol": (
        "online_encoder.net.",
        "online_encoder.",
        "online_backbone.",
        "online_network.encoder.",
        "online_network.",
    ),
    "plain": ("",),
}
"""What stands before the encoder's own names, for each kind of checkpoint."""
_CONTAINERS = (
    *("state_dict", "model_state_dict", "model", "resnet"),
    *("online_network", "online_encoder", "online_backbone", "online_network_state_dict"),
)
_CHILDREN = ("conv1", "bn1", "", "", "layer1", "layer2", "layer3", "layer4")  # of a ResNet cut into a Sequential
_LEAST = 0.99  # of the encoder's entries, under which it is another architecture


def check_checkpoint(path: Path) -> None:
    """Refuse a self-supervised checkpoint that is not there, by a FileNotFoundError."""
    if not path.is_file():
        raise FileNotFoundError(f"self_supervised={str(path)!r}: there is no such file")


def load_self_supervised(encoder: nn.Module, path: Path) -> str:
    """Load an encoder's weights from a local checkpoint, and return the layout in which they were found.

    The layout is the one by which most of the encoder's entries have a partner of their name and shape. The head keeps its
    own values, and what the checkpoint holds besides (momentum encoders, projections, prototypes, queues) is not used.
    SimCLR-v2's encoders saw pixels in [0, 1], the others' standardised ones: that is the caller's to set.

    Args:
        encoder: a ResNet in torchvision's and timm's names, or one of SimCLR-v2's with selective kernels or more channels
            (``simclr_r50_1x_sk1``, ``simclr_r50_2x_sk0`` and so on), changed in place.
        path: a .safetensors file, or one of torch.save, read with ``weights_only=True``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds no tensors by name, or another architecture, with what was missing.
    """
    check_checkpoint(path)
    try:
        is_plain = path.suffix == ".safetensors"
        saved: Any = load_file(path) if is_plain else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of a stranger fails in many ways
        raise ValueError(f"self_supervised={str(path)!r} cannot be read as weights: {error}") from error
    wanted = _wanted(encoder)
    best: tuple[int, str, dict[str, Tensor]] = (-1, "plain", {})
    for layout, found in _readings(saved):
        fitting = {name: value for name, value in found.items() if name in wanted and value.shape == wanted[name].shape}
        if len(fitting) > best[0]:
            best = len(fitting), layout, fitting
    count, layout, fitting = best
    if count < _LEAST * len(wanted):
        missing = [name for name in wanted if name not in fitting]
        raise ValueError(
            f"self_supervised={str(path)!r}: only {max(count, 0)} of the encoder's {len(wanted)} entries are there (as "
            f"{layout}); missing: {', '.join(missing[:3])}, ... Is it another architecture?"
        )
    encoder.load_state_dict(fitting, strict=False)
    return layout


def _wanted(encoder: nn.Module) -> dict[str, Tensor]:
    """The entries of everything but the last layer, and but counters, which some checkpoints lack."""
    head: Any = getattr(encoder, "get_classifier", lambda: getattr(encoder, "fc", None))()
    own = {id(value) for value in (head.parameters() if isinstance(head, nn.Module) else ())}
    names = {name for name, value in encoder.named_parameters() if id(value) in own}
    return {n: v for n, v in encoder.state_dict().items() if n not in names and not n.endswith("num_batches_tracked")}


def _readings(saved: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every way in which the file might hold an encoder: its names, as torchvision has them."""
    for tensors in _dictionaries(saved):
        for layout, prefixes in LAYOUTS.items():
            for prefix in prefixes:
                inside = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
                if inside and layout == "simclr_v2":
                    yield layout, _renamed(inside, _from_simclr_v2)
                    yield layout, _renamed(inside, _from_selective)
                elif inside:
                    yield layout, inside
                    yield layout, _renamed(inside, _from_children)


def _dictionaries(saved: Any) -> Iterator[dict[str, Tensor]]:
    if not isinstance(saved, Mapping):
        raise ValueError(f"the checkpoint holds {type(saved).__name__}; expected tensors by name")
    for inner in (saved, *(saved[key] for key in _CONTAINERS if isinstance(saved.get(key), Mapping))):
        tensors = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
        if tensors:
            yield tensors


def _renamed(tensors: Mapping[str, Tensor], rename: Callable[[str], str | None]) -> dict[str, Tensor]:
    return {new: value for name, value in tensors.items() if (new := rename(name)) is not None}


def _from_children(name: str) -> str | None:
    """``4.0.conv1.weight`` of a Sequential of a ResNet's children is ``layer1.0.conv1.weight``."""
    number, _, rest = name.partition(".")
    known = number.isdigit() and int(number) < len(_CHILDREN) and _CHILDREN[int(number)]
    return f"{_CHILDREN[int(number)]}.{rest}" if known else None


def _from_simclr_v2(name: str) -> str | None:
    """From the names of the PyTorch conversion of SimCLR-v2, whose normalisations are the first of a pair with their ReLU."""
    return _from_conversion(name, {"0.": "conv1.", "1.0.": "bn1."}, _SHORTCUT | _CONVOLUTIONS)


def _from_selective(name: str) -> str | None:
    """From that conversion's names where kernels are selective (sk1): of this package's `SimCLRResNet`."""
    return _from_conversion(name, _DEEP_STEM, _MEAN_SHORTCUT | _KERNELS)


_CONVOLUTIONS = {
    **{f"net.{2 * k}.": f"conv{k + 1}." for k in range(3)},
    **{f"net.{2 * k + 1}.0.": f"bn{k + 1}." for k in range(3)},
}
_SHORTCUT = {"projection.shortcut.": "downsample.0.", "projection.bn.0.": "downsample.1."}
_MEAN_SHORTCUT = {"projection.shortcut.2.": "downsample.1.", "projection.bn.0.": "downsample.2."}
_DEEP_STEM = {
    "0.": "conv1.0.",
    "1.0.": "conv1.1.",
    "2.": "conv1.3.",
    "3.0.": "conv1.4.",
    "4.": "conv1.6.",
    "5.0.": "bn1.",
}
_KERNELS = {
    "net.0.": "conv1.",
    "net.1.0.": "bn1.",
    "net.2.main_conv.0.": "conv2.conv.",
    "net.2.main_conv.1.0.": "conv2.norm.",
    "net.2.mixing_conv.0.": "conv2.mix1.",
    "net.2.mixing_conv.1.0.": "conv2.mix_norm.",
    "net.2.mixing_conv.2.": "conv2.mix2.",
    "net.3.": "conv3.",
    "net.4.0.": "bn3.",
}


def _from_conversion(name: str, stem: Mapping[str, str], block: Mapping[str, str]) -> str | None:
    """Return the name of a tensor of the stem or of a block, by what each of their parts is called."""
    place = re.fullmatch(r"net\.(?:0|(\d)\.blocks\.(\d+))\.(.+)", name)
    if place is None:
        return None
    stage, number, rest = place.groups()
    before = "" if stage is None else f"layer{stage}.{number}."
    for old, new in (stem if stage is None else block).items():
        if rest.startswith(old):
            return before + new + rest.removeprefix(old)
    return None
