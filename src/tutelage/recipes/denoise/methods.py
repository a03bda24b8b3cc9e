"""The methods of AMAL's Table 2, each trained by one call of `fit`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutelage.data.votes import UnipolarRules
from tutelage.metrics import accuracy, macro_f1
from tutelage.models import RuleModel
from tutelage.recipes.denoise.lesson import Lesson, lesson_of
from tutelage.recipes.denoise.settings import DenoiseSettings
from tutelage.recipes.denoise.task import RuleTask
from tutelage.recipes.weighing import weighting_of
from tutelage.signals import Batch, Outputs
from tutelage.training import Budget, Fitted, Log, Plan, fit, predict, seeds
from tutelage.weighting import Weighting
from tutelage.weighting.settings import options_of

SELECT: dict[str, Callable[[Any, Any], float]] = {"macro_f1": macro_f1, "accuracy": accuracy}
SELECTING = 50
"""How many validation texts select among a training's evaluations; with fewer, chance would, and the last model is kept."""
TIMED = (2, 8)
"""Steps of the trainings that tell how long one takes; the first ones are slow."""


@dataclass(frozen=True)
class Trained:
    """A trained model and what it says.

    Attributes:
        model: the classifier and the model of the rules.
        columns: the rules' columns that it was trained on.
        outputs: by head, for every text of the task, (N, ...).
        weighting: with what it has learned.
        signals: the names of the losses.
        validation: what selected it on the validation part; NaN where nothing did, as for a refit.
        steps: optimiser steps to the model.
    """

    model: RuleModel
    columns: UnipolarRules
    outputs: dict[str, Tensor]
    weighting: Weighting
    signals: list[str]
    validation: float
    steps: int

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The classifier's, for every text, (N, C)."""
        return self.outputs["classifier"].double().softmax(1).numpy()


@dataclass(frozen=True)
class Refit:
    """A training anew on all labels that are not the test's, those of the validation part included.

    Attributes:
        steps: how long, as long as the first training to its model.
        weighting: the file of what the first training's weighting had learned, which is not learned anew on labels that are
            trained on; a weighting that knows the batch alone goes on judging it by the validation part.
    """

    steps: int
    weighting: Path


def train(
    task: RuleTask,
    settings: DenoiseSettings,
    *,
    refit: Refit | None = None,
    even: bool = False,
    out: Path | None = None,
    log: Log | None = None,
) -> Trained:
    """Train a method on a task.

    The best of the evaluations is kept by the validation part, where it has at least `SELECTING` texts; else the last model.
    One that has seen the classes equally often then gets the classes' frequencies back; see `prevalence`.

    Args:
        task: texts, labels, votes.
        settings: the method and its numbers.
        refit: train anew on the validation part's labels too; nothing selects then.
        even: show texts of each class equally often; see `lesson_of`.
        out: the folder of checkpoints.
        log: where progress is told.

    Raises:
        ValueError: there is nothing for the method to learn from.
    """
    lesson = lesson_of(task, settings, all_labels=refit is not None, even=even)
    name = f"{settings.method}-{settings.weighed_by}{'' if refit is None else '-refit'}"
    model, weighting, fitted = _fitted(task, settings, lesson, refit, out, log, name=name)
    model = model.cpu()
    if even:
        model.add_to_logits(prevalence(task, all_labels=refit is not None).log() + np.log(len(task.classes)))
    outputs, _ = predict(model, lesson.data)
    assert not isinstance(outputs, Tensor)
    names = [signal.name for signal in lesson.signals]
    best = fitted.best or {"val": float("nan"), "step": fitted.steps}
    return Trained(model, lesson.columns, outputs, weighting, names, best["val"], best["step"])


def prevalence(task: RuleTask, *, all_labels: bool = False) -> Tensor:
    r"""Return how frequent each class is, (C,), by the training labels: their shares, and half a text more for each class.

    A classifier that was shown the classes equally often says what is probable where they are; with logits z,

    .. math:: p(y \mid x) \propto \pi_y \, e^{z_y(x)}

    says what is probable where they are as frequent as here. Without any label the majority of the rules is counted, where it
    is not tied.

    Args:
        task: texts, labels, votes.
        all_labels: count the validation part's labels, too.

    Source: Saerens, Latinne and Decaestecker, *Adjusting the Outputs of a Classifier to New a Priori Probabilities*, 2002.
    """
    labelled, unlabelled, val = task.parts()
    rows = torch.cat([labelled, val]) if all_labels else labelled
    if len(rows):
        counted = task.labels[rows]
    else:
        tied = torch.from_numpy(task.tied())[unlabelled]
        counted = torch.from_numpy(task.majority())[unlabelled][~tied]
    counts = torch.bincount(counted, minlength=len(task.classes)) + 0.5
    return counts / counts.sum()


def seconds_of_step(task: RuleTask, settings: DenoiseSettings, *, even: bool = False) -> float:
    """Return how long a step of a training takes, with all that belongs to it: by two trainings of a few steps each."""
    lesson = lesson_of(task, settings, even=even)
    took, hardware = [], replace(settings.hardware, trackers=())
    for steps in TIMED:
        start = time.perf_counter()
        _fitted(task, replace(settings, budget=Budget(steps=steps), hardware=hardware), lesson, name="forecast")
        took.append(time.perf_counter() - start)
    return max(0.0, took[1] - took[0]) / (TIMED[1] - TIMED[0])


def _fitted(
    task: RuleTask,
    settings: DenoiseSettings,
    lesson: Lesson,
    refit: Refit | None = None,
    out: Path | None = None,
    log: Log | None = None,
    *,
    name: str,
) -> tuple[RuleModel, Weighting, Fitted]:
    data, val = lesson.data, lesson.val
    with seeds.fixed(settings.seed, "init"):
        model = RuleModel(lesson.spec)
    weighting = weighting_for(settings, len(task.table), len(lesson.signals), model)
    judged = task.labels if settings.judged_on == "both" else torch.full_like(task.labels, -1)
    judged = torch.where(torch.from_numpy(task.votes.covered), judged, -1)
    weak = {"weak_label": task.labels, "weighted_label": task.labels} if weighting.learns else {}
    held_out = None
    if weighting.learns:
        learned_on, val = divided_val(task, val, settings)
        if refit is not None:
            weighting.load(refit.weighting)
        held_out = data.subset(learned_on, label_model_label=judged, **weak)
    score, selects = SELECT[settings.select_by], refit is None and len(val) >= SELECTING

    def select_by(outputs: Outputs, batch: Batch) -> float:
        assert not isinstance(outputs, Tensor)
        return score(outputs["classifier"].argmax(1).numpy(), batch["label"].numpy())

    fitted = fit(
        model,
        data.subset(lesson.rows),
        signals=lesson.signals,
        weighting=weighting,
        held_out=held_out,
        plan=Plan(
            settings.budget if refit is None else Budget(steps=refit.steps),
            lesson.optimization,
            model.heads,
            sampler=lesson.sampler,
            val=data.subset(val) if selects else None,
            select_by=select_by if selects else None,
            adapt_every=settings.adapt.every if refit is None else refit.steps + 1,
            held_out_batch_size=settings.adapt.batch_size,
            seed=settings.seed,
            hardware=settings.hardware,
            out=out,
            log=log,
            name=name,
            optimization_name="training",
        ),
    )
    return model, weighting, fitted


def weighting_for(settings: DenoiseSettings, texts: int, signals: int, model: nn.Module) -> Weighting:
    """Return what weighs the losses of the settings' method."""
    name = settings.weighed_by
    return weighting_of(name, options_of(settings, name), model, examples=texts, signals=signals, seed=settings.seed)


def divided_val(task: RuleTask, val: Tensor, settings: DenoiseSettings) -> tuple[Tensor, Tensor]:
    """Return the rows on which weights are learned and those that select: a share of each class, or all rows for both."""
    share = settings.held_out
    if share == 1:
        return val, val
    learn, choose = [], []
    for label in range(len(task.classes)):
        rows = val[task.labels[val] == label]
        rows = rows[torch.randperm(len(rows), generator=seeds.generator(settings.seed, "held out", label))]
        count = min(max(1, round(share * len(rows))), len(rows) - 1) if len(rows) > 1 else 1
        learn.append(rows[:count])
        choose.append(rows[count:] if len(rows) > 1 else rows)
    return torch.cat(learn), torch.cat(choose)
