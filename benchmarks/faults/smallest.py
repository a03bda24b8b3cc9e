"""The smallest run of every recipe: seconds, from what is built in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from tutelage.data.grids import digit_grids
from tutelage.data.votes import ABSTAIN, Votes
from tutelage.generations import IteratedSettings
from tutelage.models import ModelSettings
from tutelage.recipes import auxiliary, denoise, distill, moderation, multilabel
from tutelage.recipes.multilabel.task import MultilabelTask, one_hot
from tutelage.subtasks import DiscoverySettings, SelectionSettings, SpecialistSettings
from tutelage.training import Budget, Optimization

TEXTS = 160


def of_auxiliary() -> tuple[Any, Any]:
    """Digits, with parity and rotation beside them."""
    settings = replace(
        auxiliary.pocket(),
        image_size=8,
        body=auxiliary.BodySettings(options={"widths": [4, 8], "stem_stride": 1}),
        training=replace(auxiliary.pocket().training, batch_size=256),
        budget=Budget(epochs=2),
        weighting="amal",
        weighting_defaults={},
        baselines=("single",),
    )
    sides = ({"name": "parity"}, {"name": "turned", "kind": "rotation"})
    return auxiliary.auxiliary_task("digits", settings, sides=sides), settings


def of_denoise() -> tuple[Any, Any]:
    """Two words for each of two classes, and rules that know one of them."""
    settings = replace(
        denoise.pocket(), budget=Budget(steps=12), training=Optimization(lr=0.05, batch_size=16), suggest=5
    )
    draw = np.random.default_rng(0)
    truth = np.arange(TEXTS) % 2
    counts = draw.poisson(0.3, (TEXTS, 6)) + np.eye(6)[2 * truth + draw.integers(0, 2, TEXTS)]
    votes = np.where(counts[:, [0, 2]] > 0.5, [0, 1], ABSTAIN).astype(np.int16)
    table = pd.DataFrame(
        {
            "id": [f"text {row}" for row in range(TEXTS)],
            "text": [" ".join(f"w{word}" for word in np.flatnonzero(row)) for row in counts],
            "label": np.where(np.arange(TEXTS) < TEXTS // 2, truth, -1),
            "split": [
                ("train", "val", "test", "train")[row % 8 // 2] if row < TEXTS // 2 else "train" for row in range(TEXTS)
            ],
        }
    )
    task = denoise.RuleTask(
        "words", table, ["ham", "spam"], counts.astype(np.float32), Votes(votes, ("first", "third"))
    )
    return task, settings


def of_distill() -> tuple[Any, Any]:
    """Digits of which a third is labelled wrongly, and a teacher."""
    small = ModelSettings("pocket_mlp", options={"widths": [8]})
    settings = replace(
        distill.pocket(),
        student=small,
        teachers=(distill.TeacherSettings(small, budget=Budget(steps=8)),),
        noise=distill.NoiseSettings("symmetric", 0.3),
        budget=Budget(steps=24),
        baselines=("ce",),
    )
    return distill.distill_task("digits", settings), settings


def of_moderation() -> tuple[Any, Any]:
    """Digit posters, without encoders to pre-train."""
    settings = replace(
        moderation.pocket(),
        augmentation="shift",
        student=ModelSettings("pocket_deit", options={"embed_dim": 16, "depth": 1, "num_heads": 2}),
        specialist=ModelSettings("pocket_resnet", options={"widths": [4, 8]}),
        budget=Budget(steps=8),
        discovery=DiscoverySettings(subtasks=4, lam=25.0, epochs=2),
        specialists=SpecialistSettings(sharing="trunk", epochs=2),
        selection=SelectionSettings(rule="top", threshold=0.5, flagged=0.5, window=4, significance=1.0),
    )
    sizes = {"train": (60, 120), "validation": (60, 120), "test": (40, 80), "unlabelled": 50}
    task = moderation.posters_task(0, "uniform", settings.image_size, **sizes)
    task.pretraining = None
    return task, settings


def of_multilabel() -> tuple[Any, Any]:
    """Grids of digits, one of which is named."""
    settings = replace(
        multilabel.pocket(),
        budget=Budget(steps=14),
        iterated=IteratedSettings(3, 2, rho=0.1),
        model=ModelSettings("pocket_patches", options={"width": 8, "depth": 1}),
    )
    images, truth_NC = digit_grids(0, train=160, val=60, test=60)
    classes = [str(digit) for digit in range(10)]
    return MultilabelTask("grids", images, classes, one_hot(images.labels, 10), torch.as_tensor(truth_NC)), settings


SMALLEST: dict[str, Callable[[], tuple[Any, Any]]] = {
    "auxiliary": of_auxiliary,
    "denoise": of_denoise,
    "distill": of_distill,
    "moderation": of_moderation,
    "multilabel": of_multilabel,
}
"""For each recipe, the function that makes a task and settings."""
