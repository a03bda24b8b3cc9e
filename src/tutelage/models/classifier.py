"""Image classifiers: pixels in, logits out, one tensor or one for each head."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tutelage import _vision
from tutelage.checks import check, nearest
from tutelage.models.features import FEATURES, EncoderDoor, FeatureDoor, FeatureStudent, feature_door
from tutelage.models.folder import read_model, write_model
from tutelage.models.matching import load_matching
from tutelage.models.options import check_options
from tutelage.models.pixels import Pixels, layout_of
from tutelage.models.small import SMALL


@dataclass(frozen=True)
class ModelSpec:
    """What is needed to build a model again.

    Args:
        name: A timm name, one of ours for small images (see tutelage.models.SMALL), or one of a model of features (FEATURES).
        num_classes: Number of outputs of each head.
        image_size: Height and width of the images in pixels.
        dropout: Dropout before the heads.
        options: Further plain arguments of the architecture, by name.
        encoder: Of a model of features that sees images: what computes the features.
    """

    name: str
    num_classes: int = 2
    image_size: int = 224
    dropout: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    encoder: ModelSpec | None = None

    def __post_init__(self) -> None:
        """Check the values, which may come from a stranger's file."""
        if isinstance(self.encoder, Mapping):
            object.__setattr__(self, "encoder", ModelSpec(**self.encoder))
        check(self, num_classes="[0, 1000000]", image_size="[1, 8192]", dropout="[0, 1)")
        if self.encoder is not None and (self.name not in FEATURES or self.encoder.name in FEATURES):
            raise ValueError(f"model {self.name!r} cannot see images by the encoder {self.encoder.name!r}")
        check_options(self.name, self.options)

    @property
    def num_features(self) -> int | None:
        """How many numbers describe an example, where the model reads features; None where it sees images."""
        count = self.options.get("num_features")
        return count if self.name in FEATURES and self.encoder is None and isinstance(count, int) else None


class ImageClassifier(nn.Module):
    """A timm backbone behind `Pixels`, or a model of features behind a door of theirs.

    A model with a distillation token returns ``{"cls": logits, "dist": logits}`` in every mode, any other one tensor; what
    the two heads say together is `joint_logits`.
    """

    backbone: Any  # whose methods are timm's

    def __init__(self, backbone: nn.Module, pixels: Pixels | FeatureDoor, spec: ModelSpec) -> None:
        super().__init__()
        self.pixels = pixels
        self.backbone = backbone
        self.spec = spec
        self.distilled = isinstance(backbone, FeatureStudent | _vision.distilled_transformer())

    @property
    def heads(self) -> tuple[str, ...]:
        """The names of the modules that are heads, as in ``named_modules()``."""
        classifier = self.backbone.get_classifier()
        held = set(map(id, classifier if isinstance(classifier, tuple) else (classifier,)))
        return tuple(name for name, module in self.named_modules() if id(module) in held)

    def forward(self, input: Tensor) -> Tensor | dict[str, Tensor]:
        """Return the logits (B, C), by head where there are two."""
        if not self.distilled:
            return self.backbone.forward_head(self.backbone.forward_features(self.pixels(input)))
        cls, dist = self.tokens(input).unbind(1)
        drop = self.backbone.head_drop
        return {"cls": self.backbone.head(drop(cls)), "dist": self.backbone.head_dist(drop(dist))}

    def tokens(self, input: Tensor) -> Tensor:
        """Return the class and the distillation token, of a model that has both, (B, 2, D)."""
        return self.backbone.forward_features(self.pixels(input))[:, :2]

    def features(self, input: Tensor) -> Tensor:
        """Return what the heads see, (B, D): the pooled features, or the mean of the two tokens."""
        if self.distilled:
            return self.tokens(input).mean(1)
        return self.backbone.forward_head(self.backbone.forward_features(self.pixels(input)), pre_logits=True)


class JointLogits(nn.Module):
    """A model with several heads as one that gives their joint logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, C)."""
        return joint_logits(self.model(input))


def joint_logits(outputs: Tensor | dict[str, Tensor]) -> Tensor:
    """Return the mean of the heads' logits (DeiT's inference, and sub-task imputation's, 4.2), or the one tensor."""
    if isinstance(outputs, Tensor):
        return outputs
    return torch.stack(list(outputs.values())).mean(0)


def timm_config(name: str) -> Any:
    """Return what timm knows of the model of a plain name; one that stands for a folder or an address is not known.

    Raises:
        ValueError: an unknown name, with the nearest known one.
    """
    timm = _vision.timm()
    if not re.fullmatch(r"[\w.]+", name) or not timm.is_model(name):
        known = [*timm.list_models(), *SMALL, *FEATURES]
        raise ValueError(f"model {name!r} is not known to timm{nearest(name, known)}")
    return timm.get_pretrained_cfg(name)


def check_name(name: str) -> None:
    """Refuse the name of a model that `build` does not know.

    Raises:
        ValueError: an unknown name, with the nearest known one.
    """
    if name not in (*SMALL, *FEATURES):
        timm_config(name)


def check_weights(name: str, weights: str | None) -> None:
    """Refuse weights that `build` does not find, but for timm's, which it may have to fetch.

    Raises:
        ValueError: timm's weights for a model of ours, which has none.
        FileNotFoundError: no such file.
    """
    if weights == "timm":
        if name in (*SMALL, *FEATURES):
            raise ValueError(f"pretrained='timm': timm has no weights of {name!r}; give none, or a safetensors file")
    elif weights is not None and not Path(weights).is_file():
        raise FileNotFoundError(f"pretrained={weights!r}: no such file; give 'timm' or a safetensors file")


def build(spec: ModelSpec, weights: str | None = None) -> ImageClassifier:
    """Build a model.

    Args:
        spec: what to build.
        weights: "timm" for timm's pre-trained weights, or the path of a safetensors file of such a model; entries whose
            name or shape differs are left at their random values and, but for the heads', named in a warning.

    Raises:
        ValueError: an unknown name, with the nearest known one, options that the model does not take, or timm's weights for
            a model of ours, which has none.
        FileNotFoundError: no such file of weights, or timm's cannot be fetched.
    """
    timm = _vision.timm()
    options = {"num_classes": spec.num_classes, "drop_rate": spec.dropout}
    check_weights(spec.name, weights)
    door: Pixels | FeatureDoor | None = None
    if spec.name in FEATURES:
        make, door = FEATURES[spec.name], _door(spec)
    elif spec.name in SMALL:
        make, mean, std = SMALL[spec.name], (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
        options["img_size"] = spec.image_size
    else:
        known = timm_config(spec.name)
        make, mean, std = partial(timm.create_model, spec.name, pretrained=weights == "timm"), known.mean, known.std
        if known.fixed_input_size:  # such a model must be told, and the others cannot be
            options["img_size"] = spec.image_size
    try:
        backbone = make(**options | spec.options)
    except TypeError as error:
        raise ValueError(f"model {spec.name!r} does not take options={spec.options}: {error}") from error
    except OSError as error:  # the hub's own message does not say whose weights, or what else could be done
        raise FileNotFoundError(
            f"pretrained='timm': the weights of {spec.name!r} could not be fetched ({type(error).__name__}); offline, "
            "give the path of a safetensors file, or none for random weights"
        ) from error
    if door is None:
        door = Pixels(tuple(mean), tuple(std), layout_of(backbone))
    model = ImageClassifier(backbone, door, spec)
    if weights is not None and weights != "timm":
        load_matching(model, load_file(weights), weights)
    return model


def _door(spec: ModelSpec) -> FeatureDoor:
    count = spec.options.get("num_features")
    if not isinstance(count, int):
        raise ValueError(
            f"model {spec.name!r} reads features, but options={spec.options} does not say how many: give an encoder, or "
            "options.num_features"
        )
    return FeatureDoor(count) if spec.encoder is None else EncoderDoor(build(spec.encoder), count)


def with_encoder(model: ImageClassifier, encoder: ImageClassifier | None, mean: Tensor, std: Tensor) -> ImageClassifier:
    """Return a model of standardised features as one of images, or of features as they come, all parts shared.

    Args:
        model: learned from features, standardised.
        encoder: without classes, which makes the features of images; it is frozen. None where they are given.
        mean, std: of each feature, (D,), by which they were standardised.
    """
    door = feature_door(encoder, mean, std)
    spec = model.spec
    if encoder is not None:
        spec = replace(spec, encoder=encoder.spec, image_size=encoder.spec.image_size)
    return ImageClassifier(model.backbone, door, spec)


def save_model(model: ImageClassifier, folder: Path, **facts: Any) -> None:
    """Write ``model.safetensors`` and ``config.json`` (the spec, and further plain facts) into the folder."""
    write_model(model, model.spec, folder, facts)


def load_model(folder: Path) -> tuple[ImageClassifier, dict[str, Any]]:
    """Return the model in eval mode, and the facts that `save_model` wrote; raises as `read_model` does."""
    return read_model(folder, ModelSpec, build)
