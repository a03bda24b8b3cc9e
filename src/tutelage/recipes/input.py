"""What the models of a run see: images of which size, changed how; and which models could not look at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tutelage.data.augment import augmentation
from tutelage.data.encoded import RandomView
from tutelage.data.given_features import read_given_features
from tutelage.data.table import PICTURE
from tutelage.models import ImageClassifier, ModelSettings, build, check_name, check_weights
from tutelage.training.batches import Augmentation
from tutelage.training.rehearsal import about, outline

Fits = Callable[[ImageClassifier], None]
"""Refuses a model by a ValueError."""


def any_heads(model: ImageClassifier) -> None:
    """Refuse no model."""


def one_head(model: ImageClassifier) -> None:
    """Refuse a model with two heads."""
    if model.distilled:
        raise ValueError("the model has a distillation token and two heads; take one with a single head")


def two_heads(model: ImageClassifier) -> None:
    """Refuse a model without a distillation token."""
    if not model.distilled:
        raise ValueError(
            "the model has no distillation token; take one that has, such as deit_base_distilled_patch16_224 or pocket_deit"
        )


def input_size(settings: Any) -> int:
    """Return the side of the images that a run reads, in pixels: that of its encoder's folder, or its own setting.

    Where features are given, images are there to be looked at and to find copies by.

    It is asked before an image is read, since that may take long: what a model of the run could not look at is refused by then.

    Args:
        settings: of a recipe, with ``image_size``, ``encoder``, and ``models``: each model by its name, and what it must fit.

    Raises:
        FileNotFoundError: a model's weights, or the encoder, are not where the settings say.
        ValueError: a model that is not known, with the nearest that is; options that it does not take, or images of this size.
    """
    size, num_features = settings.image_size, None
    if settings.encoder.features is not None:
        size, num_features = PICTURE, read_given_features(settings.encoder.features).num_features
    elif settings.encoder.used:
        size = settings.encoder.spec(settings.image_size).image_size
        num_features = settings.encoder.num_features(settings.image_size)
    for name, (model, fits) in settings.models.items():
        _look(name, model, fits, size, num_features)
    return size


def _look(name: str, model: ModelSettings, fits: Fits, size: int, num_features: int | None) -> None:
    """Refuse a model that cannot look at images of this size, or at so many features of them."""
    try:
        check_name(model.name)
        check_weights(model.name, model.pretrained)
        spec = model.spec(2, size, num_features)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"{name}.name={model.name!r}: {error}") from error

    def make() -> ImageClassifier:
        made = build(spec)
        fits(made)
        return made

    shape = (3, size, size) if num_features is None else (num_features,)
    with about(described(name, model, size)):
        outline(make, torch.zeros(2, *shape, dtype=torch.uint8 if num_features is None else torch.float32))


def described(name: str, model: ModelSettings, image_size: int) -> str:
    """Return a model's settings as the message about it begins; ``name`` is what they are called, such as student."""
    options = f", {name}.options={model.options}" if model.options else ""
    return f"{name}.name={model.name!r}, image_size={image_size}{options}"


def augmentation_of(settings: Any) -> Augmentation | None:
    """Return how a run changes the input of a training batch: a random view where an encoder has computed several."""
    return RandomView() if settings.encoder.used else augmentation(settings.augmentation)
