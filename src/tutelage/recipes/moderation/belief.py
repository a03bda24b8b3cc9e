"""How far each training label is believed: by what the other examples say of it, and by its sub-tasks."""

from __future__ import annotations

from collections.abc import Sequence
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
        right: how far a training label counts, (N,): the posterior, lowered by what its sub-tasks say; 1 elsewhere.
        posterior: the probability that it is right by the other examples alone, whatever the sub-task, (N,).
        scores: what the other examples say, high for acceptable, (N,).
        apart: the AUROC at which each of the run's sub-tasks is told from its look-alikes, (K,); see `told_apart`.
        believed: the share of each of these sub-tasks' labels that is believed to be right, (K,).
        pure: how many labels would be right, were each example defective, among those of its sub-task, (N,): the mean over the
            discoveries of the `purity` of the sub-task that it would most likely belong to.
        regression: on the labels, each counting by ``right``.
    """

    right: Tensor
    posterior: Tensor
    scores: Tensor
    apart: NDArray[np.float64]
    believed: NDArray[np.float64]
    pure: Tensor
    regression: Regression

    def unjudged(self, labels: Tensor) -> Tensor:
        """Return which labels cannot judge a model, (N,): defective, and of a sub-task most of whose labels are wrong.

        What is wrong with such labels in the training is wrong with them in the validation: they prefer whoever learned it.
        """
        return (labels == 0) & (self.pure < HALF)


def believe(pipeline: Pipeline, discoveries: Sequence[Found]) -> Belief:
    """Judge the training labels.

    A label is right with the probability that its calibrated leave-one-out score and the labels' error rates give it (see
    `right_labels`). Where that promises more of a sub-task's labels than its purity allows, it is lowered in proportion: errors
    that belong to one kind of image are no errors at a rate. What a rate explains counts against no sub-task (see
    `unexplained`), nor does what the features cannot tell (see `telling`). One discovery cuts a kind of image here, another
    there: the factor by which a probability is lowered is the mean over several, squared.

    Args:
        pipeline: of the run, whose stages `Pipeline.discoveries` are done.
        discoveries: the sub-tasks as they were found each time; the first are the run's.
    """
    settings, task = pipeline.settings, pipeline.task
    train, count = pipeline.rows("train"), settings.discovery.subtasks
    labels, rest = task.labels[train], others(pipeline)

    def work(folder: Path) -> dict[str, Any]:
        known, further = pipeline.features(train), pipeline.features(rest)
        columns = [labels.float()[:, None]]
        for found in discoveries:
            member = torch.zeros(len(train), count)
            member[labels == 0, found.subtask[train][labels == 0]] = 1.0
            columns.append(member)
        told = torch.zeros(len(task.images), 1 + count * len(discoveries))
        fitted = kernel_regression(known, torch.cat(columns, dim=1), settings.seed, std_D=pipeline.feature_std)
        told[train], told[rest] = fitted.without_own, fitted.tell(further)
        scores, members = told[:, 0].contiguous(), told[:, 1:].unflatten(1, (-1, count))
        lookalikes = settings.doubt.lookalikes
        apart = [
            told_apart(known, scores[train], labels, each.subtask[train], count, lookalikes) for each in discoveries
        ]
        tensors = {"scores": scores, "nearest": members.argmax(2), "apart": torch.from_numpy(np.stack(apart))}
        save_tensors(tensors, folder / "judged.safetensors")
        return {}

    stage = pipeline.stages.run(
        "doubt", work, cache_key=[settings.doubt.lookalikes, settings.seed], after=pipeline.discovery_stages
    )
    saved = load_file(stage.folder / "judged.safetensors")
    given, scores = labels.numpy(), saved["scores"][train].double().numpy()
    rates = label_errors([scores], given)
    posterior = torch.ones(len(task.images))
    told = right_labels(calibrate(scores, given, errors=rates).log_odds(scores), given, *rates)
    posterior[train] = torch.from_numpy(told).float()
    trusted, pure = [], []
    for found, nearest, apart in zip(discoveries, saved["nearest"].T, saved["apart"].numpy(), strict=True):
        share, purity_K = _within(posterior, found.subtask, apart, settings.doubt.apart)
        trusted.append(share)
        pure.append(torch.from_numpy(purity_K)[nearest])
    share, first = torch.stack(trusted).mean(0), discoveries[0].subtask
    believed, _ = _means((posterior * share)[first >= 0], first[first >= 0], count)
    # Squared: many wrong labels that are half believed would still be learned (NPV at 5 % FPR on tuning seeds 0.60, not 0.57).
    right = posterior * share.square()
    told_again = regression(pipeline, right, cache_key=[settings.doubt, "squared"], after="doubt")
    apart_K = saved["apart"][0].numpy()
    return Belief(right, posterior, saved["scores"], apart_K, believed, torch.stack(pure).mean(0), told_again)


def _within(
    posterior: Tensor, subtask: Tensor, apart_K: NDArray[np.float64], full: float
) -> tuple[Tensor, NDArray[np.float64]]:
    """Return by how much each label's probability is to be lowered, so that a sub-task's mean is its purity, (N,), and that."""
    own, share = subtask >= 0, torch.ones_like(posterior)
    promised, size = _means(posterior[own], subtask[own], len(apart_K))
    pure = purity(apart_K, full)
    pure = 1 - telling(apart_K, size) * unexplained(promised, pure, size) * (1 - pure)
    share[own] = torch.from_numpy((pure / promised.clip(min=1e-6)).clip(max=1)).float()[subtask[own]]
    return share, pure


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
