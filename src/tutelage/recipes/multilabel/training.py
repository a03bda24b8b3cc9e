"""One model by one method: what is trained in a stage, and what the stage leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tutelage.files import save_tensors
from tutelage.models import joint_logits, save_model
from tutelage.recipes.input import augmentation_of
from tutelage.recipes.multilabel.lesson import new_model, training_rows
from tutelage.recipes.multilabel.methods import METHODS, Lesson
from tutelage.recipes.multilabel.settings import ONE_LABEL, MultilabelSettings, plain_of
from tutelage.recipes.multilabel.task import MultilabelTask
from tutelage.training import Log, Plan, Stages, predict

ITERATED = ("mile", "hard", "soft")
"""Methods in generations of k_t and k_s steps."""


@dataclass(frozen=True)
class TrainedCandidate:
    """What a stage leaves behind.

    Attributes:
        name: the stage's.
        settings: what it was trained with.
        scores_NC: each image's probability of each class.
        folder: of the model.
        first_said: the generation in which a teacher first said a class of an image, (N, C) int16, -1 for never, or None.
        coverage: mean number of classes that the teacher of each generation said of an image.
    """

    name: str
    settings: MultilabelSettings
    scores_NC: Tensor
    folder: Path
    first_said: Tensor | None
    coverage: list[float]


def train(task: MultilabelTask, settings: MultilabelSettings, stages: Stages, log: Log) -> TrainedCandidate:
    """Train a model by ``settings.method`` in a stage of its own, and return what it says of every image."""
    name = stage_name(settings)
    rows = training_rows(task, settings)
    everything = task.images.subset(torch.arange(len(task.images)))

    def work(folder: Path) -> dict[str, Any]:
        model = new_model(task, settings)
        plan = Plan(
            settings.budget,
            settings.training,
            model.heads,
            augment=augmentation_of(settings),
            seed=settings.seed,
            hardware=settings.hardware,
            out=folder,
            log=log,
            name=name,
            optimization_name="training",
        )
        told = METHODS[settings.method](Lesson(model, task, settings, rows, plan))
        save_model(model, folder / "model")
        outputs, _ = predict(model, everything, workers=settings.hardware.workers, shared=True)
        logits_NC = joint_logits(outputs)
        if not torch.isfinite(logits_NC).all():
            raise ValueError(f"{name}: what the trained model says is not finite; take a lower training.lr")
        scores_NC = logits_NC.softmax(1) if settings.method in ONE_LABEL else logits_NC.sigmoid()
        tensors = {"scores": scores_NC.contiguous()} | (
            {} if told.first_said is None else {"first_said": told.first_said}
        )
        save_tensors(tensors, folder / "scores.safetensors")
        return {"coverage": told.coverage}

    relevant = replace(settings, threshold=None, unfreeze=None, choose_by="given", val=0.1, test=0.2)
    relevant = replace(relevant, search=type(settings.search)())
    stage = stages.run(name, work, cache_key=[task.fingerprint(), relevant])
    saved = load_file(stage.folder / "scores.safetensors")
    coverage = stage.facts["coverage"]
    return TrainedCandidate(name, settings, saved["scores"], stage.folder / "model", saved.get("first_said"), coverage)


def stage_name(settings: MultilabelSettings) -> str:
    """Return a stage's name: the method, and what the generations are made of."""
    if settings.method not in ITERATED:
        return settings.method
    it = settings.iterated
    threshold = f"-rho{it.rho:g}" if settings.method == "mile" else ""
    return f"{settings.method}-{it.variant}{threshold}-kt{it.interaction}-ks{it.imitation}"


def candidates(settings: MultilabelSettings) -> list[MultilabelSettings]:
    """Return plain training, and the settings that a search tries; these alone where it tries none."""
    search, it = settings.search, settings.iterated
    plain = plain_of(settings.method)
    first = [] if plain == settings.method else [replace(settings, method=plain)]
    if settings.method != "mile":
        return [*first, settings]
    tried = product(
        search.rhos or (it.rho,), search.interactions or (it.interaction,), search.imitations or (it.imitation,)
    )
    return first + [
        replace(settings, iterated=replace(it, rho=rho, interaction=interaction, imitation=imitation))
        for rho, interaction, imitation in tried
    ]
