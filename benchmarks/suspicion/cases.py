"""The tasks of the table, a fifth of whose labels is wrong, and what `tutelage moderate` makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.given import given
from benchmarks.laptop.encoder import shop_encoder
from benchmarks.moderation.tasks import products_task
from tutelage.recipes.base import Scale
from tutelage.recipes.encoding import EncoderSettings, encoded
from tutelage.recipes.input import input_size
from tutelage.recipes.moderation import ModerationSettings, laptop, pocket
from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.recipes.moderation.start import starting_weights
from tutelage.recipes.moderation.task import ModerationTask, posters_task
from tutelage.subtasks import features
from tutelage.training import Log, Stages

POSTERS = {  # defective and acceptable; the test has no part in the list
    "digit posters": {"train": (600, 3000), "validation": (400, 2000)},
    "digit posters, few labels": {"train": (100, 500), "validation": (50, 250)},
}
FEW = 1_800  # photographs, of which three in four have a label
Case = Callable[[int], tuple[ModerationTask, ModerationSettings]]


def cases(scale: Scale, data: Path | None, runs: Path) -> Iterator[tuple[str, Case]]:
    """Yield each case's name, and what makes its task and settings of a seed: posters at pocket, products at laptop.

    Raises:
        ValueError: no data for the laptop scale.
    """
    if scale == "pocket":
        for name, sizes in POSTERS.items():
            yield name, partial(_posters, runs, sizes)
        return
    data = given(data)
    products = partial(_products, data, runs)
    yield "products", products
    yield "products, few labels", partial(products, max_rows=FEW)
    yield "other products", partial(products, others=True)
    yield "products, structured noise", partial(products, noise="structured")


def _posters(runs: Path, sizes: dict[str, tuple[int, int]], seed: int) -> tuple[ModerationTask, ModerationSettings]:
    """Return posters; the encoders from which models start are trained once for all seeds."""
    settings = pocket()
    task = posters_task(seed, "uniform", settings.image_size, test=(2, 2), unlabelled=1000, **sizes)
    log = Log(None, quiet=True)
    stages = Stages(runs / "encoders-posters", log)
    student, specialist = (
        replace(model, pretrained=starting_weights(model, task, settings, stages, log))
        for model in (settings.student, settings.specialist)
    )
    return task, replace(settings, seed=seed, student=student, specialist=specialist)


def _products(
    data: Path, runs: Path, seed: int, noise: str = "uniform", max_rows: int | None = None, others: bool = False
) -> tuple[ModerationTask, ModerationSettings]:
    encoder = EncoderSettings(pretrained=str(shop_encoder(data, runs)), cache=runs / "laptop" / "features")
    settings = replace(laptop(), seed=seed, encoder=encoder, augmentation="shift")
    task = products_task(data / "fashion-products", seed, noise, input_size(settings), max_rows, others)
    task.images = encoded(task.images, settings)
    return task, settings


def start_features(pipeline: Pipeline, rows: torch.Tensor) -> NDArray[np.float64]:
    """Return these rows' features by an encoder that has seen none of the task's labels, (n, D)."""
    if pipeline.settings.encoder.used:
        return pipeline.features(rows).double().numpy()
    network = pipeline.new(pipeline.settings.specialist, 2)
    return features(network, pipeline.task.images.subset(rows)).double().numpy()
