"""What a finished run's model is served as, outside PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Target:
    """What is exported of a run, and what an exported model's card says of it.

    Attributes:
        module: the model, in eval mode.
        head: the head that answers, of a model with several; None for the only one.
        input: what it takes, `image_or_features` or a text's features.
        answer: the kind of its answers, and what they need.
        classes: their names; None for numbers.
    """

    module: nn.Module
    head: str | None
    input: dict[str, Any]
    answer: dict[str, Any]
    classes: list[str] | None


def image_or_features(image_size: int, num_features: int | None) -> dict[str, Any]:
    """Say what a graph takes: images of a size, or so many numbers where the run was given features."""
    if num_features is not None:
        reads = "features as the run was given them, the first view of each example; this model reads no images"
        return {
            "kind": "features",
            "features": num_features,
            "values": "float32 (N, features)",
            "preprocessing": reads,
        }
    resize = "upright RGB, transparency on white, both sides squeezed to the size, bicubic (tutelage.decoding.decode)"
    return {"kind": "image", "size": image_size, "pixels": "uint8 (N, 3, size, size)", "preprocessing": resize}
