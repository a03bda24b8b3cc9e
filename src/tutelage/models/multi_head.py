"""One body for all tasks, and a head for each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.checks import check
from tutelage.models.autoint import AutoInt
from tutelage.models.classifier import ImageClassifier, ModelSpec, build, joint_logits
from tutelage.models.dense import encoder_decoder
from tutelage.models.features import FEATURES
from tutelage.models.folder import read_model, write_model
from tutelage.models.options import check_options
from tutelage.models.squared_norm import WithSquaredNorm

AUTOINT = "autoint"


class MultiHead(nn.Module):
    """Features from a body, and from them each task's outputs.

    Args:
        body: from the input to features: (B, D), or (B, D, H', W') for maps.
        width: D.
        outputs: for each head its number of outputs.
        maps: the heads that predict one output a pixel, at the input's resolution. Others take the mean over a map.
        hidden: units of a hidden layer in each head; None for a linear head.
        encoder: the name of the part of the model whose own structure divides it into blocks.

    Raises:
        ValueError: no head, or one whose name a module cannot have.
    """

    def __init__(
        self,
        body: nn.Module,
        width: int,
        outputs: Mapping[str, int],
        maps: Collection[str] = (),
        hidden: int | None = None,
        encoder: str = "body",
    ) -> None:
        super().__init__()
        if not outputs:
            raise ValueError("outputs is empty: a model needs at least one head")
        for name in outputs:
            if "." in name or not name or hasattr(nn.ModuleDict, name):
                raise ValueError(f"task name {name!r} cannot name a head: take letters, digits and underscores")
        self.body = body
        self.maps = frozenset(maps)
        self.encoder = encoder
        self.towers = nn.ModuleDict(
            {name: _tower(width, count, hidden, name in self.maps) for name, count in outputs.items()}
        )

    @property
    def heads(self) -> tuple[str, ...]:
        """The names of the modules that are heads, as in ``named_modules()``."""
        return tuple(f"towers.{name}" for name in self.towers)

    def forward(self, input: Tensor) -> dict[str, Tensor]:
        """Return each head's outputs: (B, outputs), or (B, outputs, H, W) of a head that predicts a map."""
        features = joint_logits(self.body(input))
        pooled = features.flatten(2).mean(2) if features.dim() == 4 else features
        return {
            name: F.interpolate(tower(features), size=input.shape[2:], mode="bilinear", align_corners=False)
            if name in self.maps
            else tower(pooled)
            for name, tower in self.towers.items()
        }


def _tower(width: int, outputs: int, hidden: int | None, is_map: bool) -> nn.Module:
    def layer(before: int, after: int) -> nn.Module:
        return nn.Conv2d(before, after, 1) if is_map else nn.Linear(before, after)

    if hidden is None:
        return layer(width, outputs)
    return nn.Sequential(layer(width, hidden), nn.ReLU(), layer(hidden, outputs))


@dataclass(frozen=True)
class MultiHeadSpec:
    """What is needed to build a model with several heads again.

    Args:
        name: A timm name, a pocket model, or autoint for categorical fields.
        outputs: Number of outputs of each head.
        maps: The heads that predict a map; with one, the body is an encoder and a decoder.
        fields: For autoint, the number of values of each field; 3 of a number (how many of them: the option numbers).
        image_size: Height and width of the images, for models that must know.
        hidden: Units of a hidden layer in each head; none for linear heads.
        dropout: Dropout before the heads of a timm or pocket model.
        squared_norm: Whether the outputs hold the squared length of the parameters.
        options: Further plain arguments of the body's architecture, by name.
    """

    name: str
    outputs: dict[str, int]
    maps: tuple[str, ...] = ()
    fields: tuple[int, ...] = ()
    image_size: int = 32
    hidden: int | None = None
    dropout: float = 0.0
    squared_norm: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values, which may come from a stranger's file."""
        sizes = {"image_size": "[1, 8192]", "hidden": "[1, 65536]", "dropout": "[0, 1)"}
        check(self, outputs="[1, 1000000]", fields="[1, 1000000000]", **sizes)
        check_options(self.name, self.options)

    @property
    def num_features(self) -> int | None:
        """How many numbers describe an example, where the body reads features; None where it sees images or fields."""
        return ModelSpec(self.name, options=self.options).num_features


def build_multi_head(spec: MultiHeadSpec, weights: str | None = None) -> MultiHead | WithSquaredNorm:
    """Build a model with several heads.

    Args:
        spec: what to build.
        weights: where the body starts, as in `build`: "timm", or (but for maps) a safetensors file; None for random weights.

    Raises:
        ValueError: an unknown model, or one that does not fit the input or the heads.
    """
    body, encoder = _body(spec, weights)
    width = _width(body)
    model = MultiHead(body, width, spec.outputs, spec.maps, spec.hidden, encoder)
    return WithSquaredNorm(model) if spec.squared_norm else model


def _body(spec: MultiHeadSpec, weights: str | None) -> tuple[nn.Module, str]:
    if (spec.name == AUTOINT) != bool(spec.fields):
        raise ValueError(
            f"model {spec.name!r} does not fit the data: {AUTOINT} is for categorical fields, every other one for images"
        )
    if spec.fields:
        if weights is not None or spec.maps:
            raise ValueError(f"pretrained={weights!r}, maps={spec.maps}: {AUTOINT} has neither")
        try:
            return AutoInt(spec.fields, **spec.options), "body"
        except TypeError as error:
            raise ValueError(f"model {AUTOINT!r} does not take options={spec.options}: {error}") from error
    if spec.maps:
        if weights not in (None, "timm"):
            raise ValueError(
                f"pretrained={weights!r}: an encoder and decoder starts from 'timm' or from random weights"
            )
        return encoder_decoder(spec.name, pretrained=weights == "timm", **spec.options), "body.encoder"
    own = ModelSpec(spec.name, 0, spec.image_size, spec.dropout, spec.options)
    return build(own, weights), "body.backbone" if spec.name in FEATURES else "body"


def _width(body: nn.Module) -> int:
    inside: Any = body.backbone if isinstance(body, ImageClassifier) else body
    return int(getattr(inside, "head_hidden_size", None) or inside.num_features)


def save_multi_head(model: nn.Module, spec: MultiHeadSpec, folder: Path, **facts: Any) -> None:
    """Write ``model.safetensors`` and ``config.json`` (the spec, and further plain facts) into the folder."""
    write_model(model, spec, folder, facts, "multi_head")


def load_multi_head(folder: Path) -> tuple[MultiHead | WithSquaredNorm, dict[str, Any]]:
    """Return the model in eval mode, and the facts that `save_multi_head` wrote; raises as `read_model` does."""
    return read_model(folder, MultiHeadSpec, build_multi_head, "multi_head")
