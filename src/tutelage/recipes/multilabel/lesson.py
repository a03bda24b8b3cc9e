"""What a method learns from: the rows, their labels, passes over them, and fresh models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.data import WithColumns
from tutelage.data.sampling import Rebalanced, fraction
from tutelage.generations.schedule import Passing
from tutelage.models import ImageClassifier, build
from tutelage.models.heads import expect_one_label
from tutelage.models.self_supervised import load_self_supervised
from tutelage.recipes.multilabel.settings import ONE_LABEL, MultilabelSettings
from tutelage.recipes.multilabel.task import MultilabelTask
from tutelage.training import seeds


def training_rows(task: MultilabelTask, settings: MultilabelSettings) -> Tensor:
    """Return the labelled rows that are trained on."""
    rows = task.images.rows("train")
    rows = rows[task.given_NC[rows].any(1)]
    if settings.share < 1:
        rows = rows[fraction(task.images.labels[rows], settings.share, settings.seed)]
    return rows


def balanced(labels_N: Tensor, settings: MultilabelSettings) -> Passing:
    """Return passes in which rare classes come oftener, drawn anew for each; what has no label comes once in each."""

    def passing(places: Tensor, number: int) -> Tensor:
        labelled = labels_N[places] >= 0
        own, others = places[labelled], places[~labelled]
        order = Rebalanced(labels_N[own], settings.seed, settings.rebalance)(number)
        mixed = torch.randperm(len(places), generator=seeds.generator(settings.seed, "balanced", number))
        return torch.cat([own[order], others])[mixed]

    return passing


def new_model(task: MultilabelTask, settings: MultilabelSettings) -> ImageClassifier:
    """Return a fresh model; its sigmoids start at one label an image."""
    with seeds.fixed(settings.seed, "init", settings.model.name):
        spec = settings.model.spec(len(task.classes), settings.image_size, task.images.num_features)
        model = build(spec, settings.model.pretrained)
    if settings.self_supervised is not None:
        layout = load_self_supervised(model.backbone, Path(settings.self_supervised))
        if layout == "simclr_v2":  # it saw pixels in [0, 1]
            model.pixels.mean.zero_()
            model.pixels.std.fill_(1.0)
    if settings.method not in ONE_LABEL:
        expect_one_label(model, model.heads)
    return model


def teacher_settings(settings: MultilabelSettings) -> MultilabelSettings:
    """Return the settings of the model that a distilled one learns from."""
    own, seed = settings.distilled, seeds.derive(settings.seed, "teacher")
    if own.teacher is None:
        return replace(settings, seed=seed)
    return replace(settings, seed=seed, model=own.teacher, self_supervised=own.self_supervised)


def given_labels(task: MultilabelTask) -> tuple[str, Callable[[Tensor], Any]]:
    """Return the batches' key of the given labels, and the function that makes the data set of some rows."""
    if not task.several:
        return "label", task.images.subset
    given_NC = task.given_NC.float()
    given_NC[~task.given_NC.any(1)] = -1.0
    return "given", lambda rows: WithColumns(task.images.subset(rows), given=given_NC)
