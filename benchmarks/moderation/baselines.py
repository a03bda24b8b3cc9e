"""What only the moderation table needs: photographs of products, k-means, and a single teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.moderation.products import article_types, product_photographs
from tutelage.data import WithColumns
from tutelage.models import ImageClassifier
from tutelage.recipes.moderation.found import ModelScores
from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.recipes.moderation.task import ModerationTask
from tutelage.signals import CrossEntropy, Distillation, Signal
from tutelage.subtasks import features, kmeans
from tutelage.training import fit
from tutelage.weighting import Fixed


def products_task(
    folder: Path, seed: int, noise: str = "uniform", image_size: int = 24, max_rows: int | None = None
) -> ModerationTask:
    """Return product photographs, and the article types of no split for encoders to start on."""
    size = (image_size, image_size)
    images = product_photographs(folder, seed=seed, noise=noise, size=size, max_rows=max_rows)
    return ModerationTask(
        f"product photographs, {noise} noise",
        "products",
        images,
        noise,
        pretraining=lambda: article_types(folder, 0, size=size, examples=12_000),
    )


def k_means(pipeline: Pipeline) -> Tensor:
    """Return what k-means finds on the features with which discovery starts, (N,): the plain alternative."""
    settings, task = pipeline.settings, pipeline.task
    train = pipeline.rows("train")
    defects = train[task.labels[train] == 0]
    start = pipeline.new(settings.specialist, settings.discovery.outputs)
    subtask = torch.full((len(task.images),), -1)
    found = features(start, task.images.subset(defects))
    subtask[defects] = kmeans(found, settings.discovery.subtasks, seed=settings.seed)[0]
    return subtask


def single_teacher(pipeline: Pipeline, name: str = "single-teacher") -> ModelScores:
    """Train the student with one teacher, a specialist's network that has seen all the data (DeiT's own recipe)."""
    settings, images = pipeline.settings, pipeline.task.images
    teacher = pipeline.fine_tuned(replace(settings.specialist), "teacher")
    log_odds = torch.logit(teacher.scores.double(), eps=1e-9).float()
    logits = torch.stack([torch.zeros_like(log_odds), log_odds], 1)

    def train(network: ImageClassifier, folder: Path) -> None:
        signals: list[Signal] = [
            CrossEntropy(smoothing=settings.learning.smoothing, head="cls"),
            Distillation("teacher_logits", head="dist"),
        ]
        examples = WithColumns(images.subset(pipeline.rows("train")), teacher_logits=logits)
        plan = pipeline.selected(folder, network, name)
        fit(network, examples, signals=signals, plan=plan, weighting=Fixed([1.0, 1.0]))

    return pipeline.trained(name, settings.student, train, [settings.learning.smoothing], after=["teacher"])
