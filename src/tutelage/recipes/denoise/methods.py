"""The methods of AMAL's Table 2, each as signals and a weighting over one model, one sampler and one call of `fit`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutelage.data.text import FeatureRows
from tutelage.data.votes import UnipolarRules, unipolar
from tutelage.metrics import accuracy, macro_f1
from tutelage.models import RuleModel, RuleModelSpec
from tutelage.recipes.denoise.settings import DenoiseSettings, Method
from tutelage.recipes.denoise.task import RuleTask
from tutelage.signals import (
    Agreement,
    Batch,
    CrossEntropy,
    Entropy,
    FollowLabelModel,
    Implication,
    LabelledByBoth,
    LabelModelEvidence,
    LabelModelLabels,
    Outputs,
    QualityGuides,
    RuleReliability,
    Signal,
)
from tutelage.training import Budget, Log, Mixed, Optimization, Plan, Repeated, Sampler, Shuffled, fit, predict, seeds
from tutelage.weighting import Partition, Weighting, build
from tutelage.weighting.settings import options_of

SELECT: dict[str, Callable[[Any, Any], float]] = {"macro_f1": macro_f1, "accuracy": accuracy}


@dataclass(frozen=True)
class Losses:
    """What a method is made of.

    Attributes:
        signals: from the settings and the class of each rule's column, the losses, the primary one first.
        rules: the model beside the classifier.
        unlabelled: whether it learns from texts without label.
    """

    signals: Callable[[DenoiseSettings, list[int]], list[Signal]]
    rules: Literal["cage", "reliability", "none"] = "none"
    unlabelled: bool = True


def spear_terms(settings: DenoiseSettings, rule_class: list[int]) -> list[Signal]:
    """Return SPEAR's seven terms; the first also judges the label model, on held-out texts alone."""
    return [
        LabelledByBoth(name="label"),
        Entropy(),
        FollowLabelModel(),
        LabelModelLabels(),
        LabelModelEvidence(),
        Agreement(),
        QualityGuides(settings.rule_model.quality),
    ]


def _weak_labels(settings: DenoiseSettings, rule_class: list[int]) -> list[Signal]:
    return [CrossEntropy("weak_label", head="classifier", name="weak_label")]


def _imply_loss(settings: DenoiseSettings, rule_class: list[int]) -> list[Signal]:
    return [
        CrossEntropy(head="classifier", name="label"),
        RuleReliability(rule_class, noise=settings.rule_model.noise),
        Implication(rule_class, weight=settings.rule_model.implication),
    ]


def _cage(settings: DenoiseSettings, rule_class: list[int]) -> list[Signal]:
    """Return a label model that sees no label, and a classifier that follows it and the labels."""
    return [
        CrossEntropy(head="classifier", name="label"),
        FollowLabelModel(),
        LabelModelEvidence(everywhere=True),
        QualityGuides(settings.rule_model.quality),
    ]


METHODS: dict[Method, Losses] = {
    "only_labels": Losses(
        lambda settings, rule_class: [CrossEntropy(head="classifier", name="label")], unlabelled=False
    ),
    "cage": Losses(_cage, rules="cage"),
    "imply_loss": Losses(_imply_loss, rules="reliability"),
    "weak_labels": Losses(_weak_labels),
    "spear": Losses(spear_terms, rules="cage"),
}
"""Every method, by the name that the settings give it."""


@dataclass(frozen=True)
class Trained:
    """A trained model and what it says.

    Attributes:
        model: the classifier and the model of the rules.
        columns: the rules' columns that it was trained on.
        outputs: by head, for every text of the task, (N, ...).
        weighting: with what it has learned.
        signals: the names of the losses.
        validation: what selected it on the validation part; NaN for a refit, which nothing selects.
        steps: optimiser steps to the selected model.
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
class Lesson:
    """What a method learns from, and with what.

    Attributes:
        columns: the rules' columns.
        data: all texts.
        rows: those that are trained on.
        sampler: their order.
        val: those of the validation part.
        spec: of the model.
        signals: the losses.
        optimization: of the classifier and the model of the rules.
    """

    columns: UnipolarRules
    data: FeatureRows
    rows: Tensor
    sampler: Sampler
    val: Tensor
    spec: RuleModelSpec
    signals: list[Signal]
    optimization: Optimization


def lesson_of(task: RuleTask, settings: DenoiseSettings, *, all_labels: bool = False) -> Lesson:
    """Return what the settings' method learns from; with all labels, on the validation part's too.

    Labelled and unlabelled texts are mixed in every batch, so that the mean of a term over a batch is, but for a factor, the
    mean over the texts that have a part in it. Texts that no rule votes on and that have no label are not trained on. An epoch
    is as long for every method, so that all select among as many evaluations.

    Raises:
        ValueError: there is nothing for the method to learn from.
    """
    method = METHODS[settings.method]
    columns = unipolar(task.votes)
    labelled, unlabelled, val = task.parts()
    if all_labels:
        labelled = torch.cat([labelled, val])
    sampler: Sampler
    if method.unlabelled and len(unlabelled) > 0:
        places = torch.arange(len(labelled) + len(unlabelled))
        few, many = places.split([len(labelled), len(unlabelled)])
        size = settings.training.batch_size
        sampler = Mixed(few, many, share=settings.labelled_share, batch_size=size, seed=settings.seed)
        rows = torch.cat([labelled, unlabelled])
    else:
        passes = max(1, round(len(unlabelled) / (1 - settings.labelled_share) / len(labelled)))
        rows, sampler = labelled, Repeated(Shuffled(len(labelled), settings.seed), passes)
    optimization = settings.training
    if method.rules != "none":
        optimization = replace(optimization, lr=settings.rule_model.lr, encoder_lr=optimization.lr)
    signals = method.signals(settings, columns.rule_class.tolist())
    spec = _spec(task, columns, settings, method)
    return Lesson(columns, task.data(columns), rows, sampler, val, spec, signals, optimization)


@dataclass(frozen=True)
class Refit:
    """A training anew on all labels that are not the test's, those of the validation part included.

    Attributes:
        steps: how long, as long as the first training to the model that validation selected.
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
    out: Path | None = None,
    log: Log | None = None,
) -> Trained:
    """Train a method on a task.

    Args:
        task: texts, labels, votes.
        settings: the method and its numbers.
        refit: train anew on the validation part's labels too; nothing selects then.
        out: the folder of checkpoints.
        log: where progress is told.

    Raises:
        ValueError: there is nothing for the method to learn from.
    """
    lesson = lesson_of(task, settings, all_labels=refit is not None)
    data, val = lesson.data, lesson.val
    with seeds.fixed(settings.seed, "init"):
        model = RuleModel(lesson.spec)
    weighting = weighting_of(settings, len(task.table), len(lesson.signals), model)
    judged = task.labels if settings.judged_on == "both" else torch.full_like(task.labels, -1)
    judged = torch.where(torch.from_numpy(task.votes.covered), judged, -1)
    weak = {"weak_label": task.labels} if weighting.learns else {}
    held_out = None
    if weighting.learns:
        learned_on, val = divided_val(task, val, settings)
        if refit is not None:
            weighting.load(refit.weighting)
        held_out = data.subset(learned_on, label_model_label=judged, **weak)
    score = SELECT[settings.select_by]

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
            val=data.subset(val) if refit is None else None,
            select_by=select_by if refit is None else None,
            adapt_every=settings.adapt.every if refit is None else refit.steps + 1,
            held_out_batch_size=settings.adapt.batch_size,
            seed=settings.seed,
            hardware=settings.hardware,
            out=out,
            log=log,
            name=f"{settings.method}-{settings.weighed_by}{'' if refit is None else '-refit'}",
            optimization_name="training",
        ),
    )
    outputs, _ = predict(model.cpu(), data)
    assert not isinstance(outputs, Tensor)
    names = [signal.name for signal in lesson.signals]
    best = fitted.best or {"val": float("nan"), "step": fitted.steps}
    return Trained(model, lesson.columns, outputs, weighting, names, best["val"], best["step"])


def weighting_of(settings: DenoiseSettings, texts: int, signals: int, model: nn.Module) -> Weighting:
    """Return what weighs the losses; each part of the model is a module, as several losses reach them all."""
    with seeds.fixed(settings.seed, "weighting"):  # of which one may begin with a random network
        return build(
            settings.weighed_by,
            model=model,
            num_examples=texts,
            num_signals=signals,
            divide=lambda level: Partition.of(model, level, heads=[]),
            **options_of(settings, settings.weighed_by),
        )


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


def _spec(task: RuleTask, columns: UnipolarRules, settings: DenoiseSettings, method: Losses) -> RuleModelSpec:
    return RuleModelSpec(
        features=task.features.shape[1],
        rule_class=tuple(columns.rule_class.tolist()),
        classes=len(task.classes),
        continuous=tuple(columns.continuous.tolist()),
        kind=settings.classifier.kind,
        hidden=settings.classifier.hidden,
        dropout=settings.classifier.dropout,
        rules=method.rules,
        rules_hidden=settings.rule_model.hidden,
        quality=settings.rule_model.quality_of_scores,
    )
