"""The one door to timm and torchvision.

torchvision built for another kind of torch (a CUDA build beside a CPU torch) fails on import, because its compiled
operators do not load and it registers a fake form of two of them all the same. Declaring the schemas of those
two is enough for everything used here, so that is done, and only when its operators cannot be loaded.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[torch.library.Library] = []


def _load_operators() -> None:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("torchvision is not installed; images need it: pip install 'tutelage[vision]'")
    for folder in spec.submodule_search_locations:
        for library in Path(folder).glob("_C*"):
            try:
                torch.ops.load_library(str(library))
            except OSError:  # built for another torch
                continue
    missing = [name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name)]
    if missing and not _declared:
        _declared.append(torch.library.Library("torchvision", "FRAGMENT"))
        for name in missing:
            _declared[0].define(_SCHEMAS[name])


def timm() -> ModuleType:
    """Return the module timm.

    Raises:
        ImportError: timm or torchvision is not installed.
    """
    _load_operators()
    if importlib.util.find_spec("timm") is None:
        raise ImportError("timm is not installed; models for images need it: pip install 'tutelage[vision]'")
    return importlib.import_module("timm")


def distilled_transformer() -> type:
    """Return timm's class of vision transformers with a distillation token."""
    timm()
    return importlib.import_module("timm.models.deit").VisionTransformerDistilled


def transforms() -> ModuleType:
    """Return the module torchvision.transforms.v2.

    Raises:
        ImportError: torchvision is not installed.
    """
    _load_operators()
    return importlib.import_module("torchvision.transforms.v2")
