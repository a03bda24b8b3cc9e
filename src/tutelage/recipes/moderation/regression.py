"""Kernel ridge regression on an encoder's features, as a model: on the labels as they are, and as far as they are believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tutelage.data.encoded import EncodedTable
from tutelage.files import save_tensors
from tutelage.models import ImageClassifier, ModelSpec, build, save_model
from tutelage.models.kernel import SURE
from tutelage.recipes.moderation.found import ModelScores
from tutelage.recipes.moderation.pipeline import Pipeline, weighed
from tutelage.subtasks import acceptability
from tutelage.subtasks.kernel_regression import KernelRegression, kernel_regression
from tutelage.training import predict

MOST = 20_000  # examples that a regression keeps which is served
STAGE = "belief"


def others(pipeline: Pipeline) -> Tensor:
    """Return the rows that are not trained on."""
    rest = torch.ones(len(pipeline.task.images), dtype=torch.bool)
    rest[pipeline.rows("train")] = False
    return rest.nonzero().squeeze(1)


@dataclass(frozen=True)
class Regression:
    """What a regression on the training labels tells.

    Attributes:
        log_odds: of acceptable, a training image by all labels but its own, (N,).
        model: the same as a model, which has learned the training labels; None without an encoder.
    """

    log_odds: Tensor
    model: ModelScores | None


def regression(
    pipeline: Pipeline, right: Tensor | None = None, *, cache_key: Sequence[Any], after: str = ""
) -> Regression:
    """Fit the training labels, in seconds.

    Args:
        right: the probability that each label is right, by which it counts, (N,); 1 by default.
        cache_key: what ``right`` depends on, and the task.
        after: the stage that ``right`` comes from.
    """
    settings, task, train = pipeline.settings, pipeline.task, pipeline.rows("train")
    rest, served, weight = others(pipeline), _encoded(pipeline), weighed(task, right)

    def work(folder: Path) -> dict[str, Any]:
        told, targets = torch.zeros(len(task.images), 1), task.labels[train].float()[:, None]
        known = pipeline.features(train)
        counts = None if weight is None else weight[train].to(known)
        fitted = kernel_regression(known, targets, settings.seed, counts, pipeline.feature_std)
        told[train], told[rest] = fitted.without_own, fitted.tell(pipeline.features(rest))
        tensors = {"log_odds": torch.logit(told[:, 0], eps=SURE)}
        if served:
            network = _network(fitted, settings.image_size)
            save_model(network, folder / "model")
            everything = task.images.subset(torch.arange(len(task.images)))
            outputs, _ = predict(network, everything, workers=settings.hardware.workers, shared=True)
            tensors["scores"] = acceptability(outputs)
        save_tensors(tensors, folder / "told.safetensors")
        return {}

    stage = pipeline.stages.run(
        STAGE, work, cache_key=[*cache_key, settings.seed, served], after=[after] if after else []
    )
    saved = load_file(stage.folder / "told.safetensors")
    model = ModelScores(saved["scores"], stage.folder / "model", stage.facts) if served else None
    return Regression(saved["log_odds"], model)


def _encoded(pipeline: Pipeline) -> bool:
    return isinstance(pipeline.task.images, EncodedTable)


def plain_regression(pipeline: Pipeline) -> Regression | None:
    """Return the regression on the labels as they are; None without an encoder."""
    return regression(pipeline, cache_key=[pipeline.fingerprint]) if _encoded(pipeline) else None


def _network(fitted: KernelRegression, image_size: int) -> ImageClassifier:
    """Return a regression on one target as a model of standardised features."""
    part = fitted.flat(MOST)
    count, size = part.known.shape
    network = build(
        ModelSpec("feature_kernel", image_size=image_size, options={"num_features": size, "examples": count})
    )
    network.backbone.known.copy_(part.known)
    network.backbone.dual.copy_(part.dual[:, 0])
    network.backbone.offset.copy_(part.mean[0])
    network.backbone.stretch.copy_(fitted.kernel.stretch)
    network.backbone.direction.fill_(float(fitted.kernel.direction))
    network.backbone.scale.fill_(fitted.kernel.scale)
    return network.eval()
