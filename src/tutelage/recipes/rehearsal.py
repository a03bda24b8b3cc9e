"""The training of an image model, tried on two examples before anything long."""

from __future__ import annotations

from typing import Any

from tutelage.data.table import ImageTable
from tutelage.models import ImageClassifier, ModelSettings, build
from tutelage.recipes.input import Fits, any_heads, augmentation_of, described
from tutelage.training import rehearse


def rehearse_model(
    name: str,
    model: ModelSettings,
    classes: int,
    *,
    images: ImageTable,
    settings: Any,
    fits: Fits = any_heads,
    **others: Any,
) -> ImageClassifier:
    """Try the training of a model on two examples; see `tutelage.training.rehearse`, which takes the other arguments.

    Args:
        name: the settings' name of the model, such as ``student``.
        model: those settings.
        classes: how many outputs a head has.
        images: what the run works on: images, or features of them.
        settings: of the run.
        fits: refuses a model by a ValueError.
        others: examples, optimization, and what else there is.
    """

    def make() -> ImageClassifier:
        made = build(model.spec(classes, settings.image_size, images.num_features), model.pretrained)
        fits(made)
        return made

    return rehearse(
        described(name, model, settings.image_size),
        make,
        weights=model.pretrained,
        augment=augmentation_of(settings),
        **others,
    )
