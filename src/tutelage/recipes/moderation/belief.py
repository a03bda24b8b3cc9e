"""How far each training label is believed: by what the other examples say of it, and by its sub-task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from tutelage.files import save_tensors
from tutelage.metrics import calibrate, label_errors, right_labels
from tutelage.recipes.moderation.found import Found
from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.recipes.moderation.regression import Regression, others, plain_regression, regression
from tutelage.subtasks import Selection
from tutelage.subtasks.doubt import purity, telling, told_apart, unexplained
from tutelage.subtasks.kernel_regression import kernel_regression

HALF = 0.5  # of a sub-task's labels are right: below, its specialist would say what is mostly wrong


@dataclass(frozen=True)
class Belief:
    """What is believed of the labels.

    Attributes:
        right: the probability that a training label is right, (N,); 1 elsewhere.
        posterior: the same by the other examples alone, whatever the sub-task, (N,).
        scores: what the other examples say, high for acceptable, (N,).
        apart: the AUROC at which each sub-task is told from its look-alikes, (K,); see `told_apart`.
        purity: the share of each sub-task's labels that are right, where no rate and no poor features explain the rest, (K,).
        believed: the mean of ``right`` over each sub-task's labels, (K,).
        nearest: the sub-task that each example would most likely belong to, were it defective, (N,).
        regression: on the labels as far as they are believed.
    """

    right: Tensor
    posterior: Tensor
    scores: Tensor
    apart: NDArray[np.float64]
    purity: NDArray[np.float64]
    believed: NDArray[np.float64]
    nearest: Tensor
    regression: Regression

    def unjudged(self, labels: Tensor) -> Tensor:
        """Return which labels cannot judge a model, (N,): defective, and of a sub-task most of whose labels are wrong.

        What is wrong with such labels in the training is wrong with them in the validation: they prefer whoever learned it.
        """
        return (labels == 0) & torch.from_numpy(self.purity < HALF)[self.nearest]


def believe(pipeline: Pipeline, found: Found) -> Belief:
    """Judge the training labels.

    A label is right with the probability that its calibrated leave-one-out score and the labels' error rates give it (see
    `right_labels`). Where that promises more of a sub-task's labels than its purity allows, it is lowered in proportion: errors
    that belong to one kind of image are no errors at a rate. What a rate explains counts against no sub-task (see
    `unexplained`), nor does what the features cannot tell (see `telling`).
    """
    settings, task = pipeline.settings, pipeline.task
    train, count = pipeline.rows("train"), settings.discovery.subtasks
    labels, subtask = task.labels[train], found.subtask[train]
    rest = others(pipeline)

    def work(folder: Path) -> dict[str, Any]:
        known, further = pipeline.features(train), pipeline.features(rest)
        targets = torch.zeros(len(train), 1 + count)
        targets[:, 0] = labels.float()
        targets[labels == 0, 1 + subtask[labels == 0]] = 1.0
        told = torch.zeros(len(task.images), 1 + count)
        fitted = kernel_regression(known, targets, settings.seed)
        told[train], told[rest] = fitted.without_own, fitted.tell(further)
        apart = told_apart(known, told[train, 0], labels, subtask, count, settings.doubt.lookalikes)
        nearest = told[:, 1:].argmax(1)
        tensors = {"scores": told[:, 0].contiguous(), "nearest": nearest, "apart": torch.from_numpy(apart)}
        save_tensors(tensors, folder / "judged.safetensors")
        return {}

    stage = pipeline.stages.run(
        "doubt", work, cache_key=[settings.doubt.lookalikes, settings.seed], after=[pipeline.discovery_stage]
    )
    saved = load_file(stage.folder / "judged.safetensors")
    given, scores = labels.numpy(), saved["scores"][train].double().numpy()
    rates = label_errors([scores], given)
    posterior = torch.ones(len(task.images))
    told = right_labels(calibrate(scores, given, errors=rates).log_odds(scores), given, *rates)
    posterior[train] = torch.from_numpy(told).float()
    right, own, apart = posterior.clone(), found.subtask >= 0, saved["apart"].numpy()
    promised, size = _means(posterior[own], found.subtask[own], count)
    pure = purity(apart, settings.doubt.apart)
    pure = 1 - telling(apart, settings.doubt.apart, size) * unexplained(promised, pure, size) * (1 - pure)
    right[own] *= torch.from_numpy((pure / promised.clip(min=1e-6)).clip(max=1)).float()[found.subtask[own]]
    believed, _ = _means(right[own], found.subtask[own], count)
    told_again = regression(pipeline, right, cache_key=[settings.doubt], after="doubt")
    return Belief(right, posterior, saved["scores"], apart, pure, believed, saved["nearest"], told_again)


def regression_of(pipeline: Pipeline, belief: Belief | None) -> Regression | None:
    """Return the regression on the believed labels, or on the labels as they are where nobody judged them."""
    return belief.regression if belief else plain_regression(pipeline)


def _means(values: Tensor, subtask: Tensor, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the mean over each sub-task's labels, 0 for one that has none, and how many they are, (K,)."""
    size = torch.bincount(subtask, minlength=count)
    sums = torch.zeros(count, dtype=torch.float64).index_add(0, subtask, values.double())
    return (sums / size.clamp_min(1)).numpy(), size.numpy()


def credible(selection: Selection, belief: Belief) -> Selection:
    """Return the selection without the specialists of sub-tasks most of whose labels are wrong."""
    reasons = [
        f"{why}; told from its look-alikes with AUROC {apart:.2f}, and {share:.0%} of its labels are believed"
        for why, apart, share in zip(selection.reasons, belief.apart, belief.believed, strict=True)
    ]
    return replace(selection, kept=selection.kept & (belief.believed >= HALF), reasons=reasons)
