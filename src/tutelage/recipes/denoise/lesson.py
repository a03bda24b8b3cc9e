"""What the methods of AMAL's Table 2 learn from: signals over one model, and texts in an order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from tutelage.data.text import FeatureRows
from tutelage.data.votes import UnipolarRules, unipolar
from tutelage.models import RuleModelSpec
from tutelage.recipes.denoise.settings import DenoiseSettings, Method
from tutelage.recipes.denoise.task import RuleTask
from tutelage.signals import (
    Agreement,
    CrossEntropy,
    Entropy,
    FollowLabelModel,
    Implication,
    LabelledByBoth,
    LabelModelEvidence,
    LabelModelLabels,
    QualityGuides,
    RuleReliability,
    Signal,
)
from tutelage.training import Mixed, Optimization, Repeated, Sampler, Shuffled


@dataclass(frozen=True)
class Losses:
    """What a method is made of.

    Attributes:
        signals: from the settings and the class of each rule's column, the losses, the primary one first.
        rules: the model beside the classifier.
        unlabelled: whether it learns from texts without label.
        unlabelled_alone: whether it can learn from these alone.
    """

    signals: Callable[[DenoiseSettings, list[int]], list[Signal]]
    rules: Literal["cage", "reliability", "none"] = "none"
    unlabelled: bool = True
    unlabelled_alone: bool = False


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


def _weighted_votes(settings: DenoiseSettings, rule_class: list[int]) -> list[Signal]:
    return [CrossEntropy("weighted_label", head="classifier", name="weighted_label")]


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
    "cage": Losses(_cage, rules="cage", unlabelled_alone=True),
    "imply_loss": Losses(_imply_loss, rules="reliability"),
    "weak_labels": Losses(_weak_labels, unlabelled_alone=True),
    "weighted_votes": Losses(_weighted_votes),
    "spear": Losses(spear_terms, rules="cage"),
}
"""Every method, by the name that the settings give it."""


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


def lesson_of(task: RuleTask, settings: DenoiseSettings, *, all_labels: bool = False, even: bool = False) -> Lesson:
    """Return what the settings' method learns from; with all labels, on the validation part's too.

    Labelled and unlabelled texts are mixed in every batch, so that the mean of a term over a batch is, but for a factor, the
    mean over the texts that have a part in it. Texts that no rule votes on and that have no label are not trained on. An epoch
    is as long for every method, so that all select among as many evaluations.

    Args:
        task: texts, labels, votes.
        settings: the method and its numbers.
        all_labels: learn from the validation part's labels, too.
        even: show texts of each class equally often, by their label or else by the rules' majority, and learn none by the
            majority of votes that are tied.

    Raises:
        ValueError: there is nothing for the method to learn from.
    """
    method = METHODS[settings.method]
    columns = unipolar(task.votes)
    labelled, unlabelled, val = task.parts()
    if all_labels:
        labelled = torch.cat([labelled, val])
    if len(labelled) == 0 and not method.unlabelled_alone:
        raise ValueError(
            f"{task.title}: no text is labelled, and method={settings.method!r} learns from labels, too; label some texts of "
            "each class, or learn from the rules alone by method='cage'"
        )
    majority, tied = torch.from_numpy(task.majority()), torch.from_numpy(task.tied())
    data = task.data(columns)
    if settings.method == "weighted_votes":
        majority, likely = task.weighted_votes(labelled)
        tied = ~likely
        unlabelled = unlabelled[likely[unlabelled]]
        every = torch.arange(len(task.labels))
        data = data.subset(every, weighted_label=torch.where(task.labels >= 0, task.labels, majority))
    if even:
        if settings.method == "weak_labels":
            unlabelled = unlabelled[~tied[unlabelled]]
        labelled = evened(labelled, task.labels[labelled])
        unlabelled = evened(unlabelled, torch.where(tied, -1, majority)[unlabelled])
    sampler: Sampler
    if not method.unlabelled or len(unlabelled) == 0:
        passes = max(1, round(len(unlabelled) / (1 - settings.labelled_share) / len(labelled)))
        rows, sampler = labelled, Repeated(Shuffled(len(labelled), settings.seed), passes)
    elif len(labelled) == 0:
        rows, sampler = unlabelled, Shuffled(len(unlabelled), settings.seed)
    else:
        places = torch.arange(len(labelled) + len(unlabelled))
        few, many = places.split([len(labelled), len(unlabelled)])
        size = settings.training.batch_size
        sampler = Mixed(few, many, share=settings.labelled_share, batch_size=size, seed=settings.seed)
        rows = torch.cat([labelled, unlabelled])
    optimization = settings.training
    if method.rules != "none":
        optimization = replace(optimization, lr=settings.rule_model.lr, encoder_lr=optimization.lr)
    signals = method.signals(settings, columns.rule_class.tolist())
    spec = _spec(task, columns, settings, method)
    return Lesson(columns, data, rows, sampler, val, spec, signals, optimization)


def even(settings: DenoiseSettings) -> bool:
    """Return whether a run shows texts of each class equally often: where macro F1 counts, which is the mean over classes."""
    return settings.select_by == "macro_f1"


def evened(rows: Tensor, classes: Tensor) -> Tensor:
    """Return the rows, those of a rarer class repeated until it has as many as the greatest; of class -1 each is there once."""
    counts = torch.bincount(classes[classes >= 0]).tolist()
    parts = [rows[classes < 0]]
    for label, count in enumerate(counts):
        own = rows[classes == label]
        parts += [own[torch.arange(max(counts)) % count]] if count else []
    return torch.cat(parts)


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
