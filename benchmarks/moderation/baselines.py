"""What only the moderation table needs: photographs of products, k-means, and a single teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.moderation.products import (
    OTHER_RESTRICTED,
    RESTRICTED,
    article_types,
    product_photographs,
    without_copies,
)
from tutelage.data import WithColumns
from tutelage.metrics import auroc
from tutelage.models import ImageClassifier
from tutelage.recipes.moderation.belief import HALF, Belief
from tutelage.recipes.moderation.found import ModelScores
from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.recipes.moderation.served import held_out
from tutelage.recipes.moderation.task import ModerationTask
from tutelage.signals import CrossEntropy, Distillation, Signal
from tutelage.subtasks import features, kmeans
from tutelage.training import fit
from tutelage.weighting import Fixed


def products_task(
    folder: Path,
    seed: int,
    noise: str = "uniform",
    image_size: int = 24,
    max_rows: int | None = None,
    others: bool = False,
) -> ModerationTask:
    """Return product photographs, and the article types of no split for encoders to start on.

    The test has no near-copy of what is learned from. ``others`` restricts other types of article: a second task.
    """
    size = (image_size, image_size)
    types = OTHER_RESTRICTED if others else RESTRICTED
    images = product_photographs(folder, seed=seed, noise=noise, size=size, max_rows=max_rows, restricted=types)
    images = without_copies(images, folder, size)
    return ModerationTask(
        f"{'other products' if others else 'product photographs'}, {noise} noise",
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


def averaged(pipeline: Pipeline, count: int = 2) -> Tensor:
    """Return the mean log-odds of plain fine-tunings that differ by their seeds, the run's own the first, (N,)."""
    total = torch.from_numpy(pipeline.fine_tuned(pipeline.settings.student).log_odds)
    for number in range(1, count):
        other = pipeline.with_settings(replace(pipeline.settings, seed=pipeline.settings.seed + 10_000 * number))
        total = total + torch.from_numpy(
            other.fine_tuned(other.settings.student, f"fine-tuned-again-{number}").log_odds
        )
    return total / count


def longer(pipeline: Pipeline, times: int = 2) -> Tensor:
    """Return the scores of plain fine-tuning with so many times the budget, (N,)."""
    settings = pipeline.settings
    other = pipeline.with_settings(replace(settings, budget=settings.budget.times(times)))
    return other.fine_tuned(settings.student, f"fine-tuned-{times}-times").scores


def tuned(pipeline: Pipeline, rates: Sequence[float] = (3e-4, 1e-3, 3e-3)) -> Tensor:
    """Return the log-odds of plain fine-tuning at the learning rate whose model ranks held-out labels best, (N,)."""
    settings = pipeline.settings
    rows = held_out(pipeline).numpy()
    labels, found = pipeline.task.labels.numpy()[rows], []
    for rate in rates:
        other = pipeline.with_settings(replace(settings, training=replace(settings.training, lr=rate)))
        found.append(other.fine_tuned(settings.student, f"fine-tuned-{rate:g}").log_odds)
    return torch.from_numpy(max(found, key=lambda log_odds: auroc(log_odds[rows], labels)))


def without_doubted(pipeline: Pipeline, belief: Belief, times: int = 1) -> Tensor:
    """Return the scores of plain fine-tuning on the labels that leave-one-out does not contradict, (N,): no sub-tasks."""
    label = torch.where(belief.posterior < HALF, -1, pipeline.task.labels)
    name = "fine-tuned-pruned" if times == 1 else f"fine-tuned-pruned-{times}-times"
    pipeline = pipeline.with_settings(replace(pipeline.settings, budget=pipeline.settings.budget.times(times)))
    return pipeline.fine_tuned(pipeline.settings.student, name, label).scores
