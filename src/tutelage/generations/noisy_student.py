"""Noisy Student: teacher labels what has no label, a noised student learns from all of it and becomes the teacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tutelage.checks import check
from tutelage.data import WithColumns
from tutelage.generations.chain import NewModel, logits_of
from tutelage.signals import CrossEntropy, Distillation, Signal
from tutelage.training import Fitted, Plan, fit
from tutelage.weighting import Fixed


@dataclass(frozen=True)
class NoisyStudentSettings:
    """How students follow one another.

    Args:
        students: How many there are; the paper trains three, each to its end.
        confidence: Images whose likeliest class is below this probability are left out.
        per_class: Images that each class gets, the surest first and repeated where there are too few; null balances nothing.
        labels: What the teacher says: hard, or soft at the temperature.
        temperature: Of soft labels.
        ratio: What the mean loss of the unlabelled images counts beside that of the labelled ones.
        smoothing: Label smoothing of the labelled images.
    """

    students: int = 3
    confidence: float = 0.3
    per_class: int | None = None
    labels: Literal["hard", "soft"] = "soft"
    temperature: float = 1.0
    ratio: float = 1.0
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        """Check the values."""
        soft = {"temperature": "(0, inf)", "smoothing": "[0, 1)"}
        check(self, students="[1, inf)", confidence="[0, 1)", per_class="[1, inf)", ratio="[0, inf)", **soft)


def confident(probabilities_NC: Tensor, confidence: float, per_class: int | None) -> Tensor:
    """Return the places of the confident images, (n,); where classes are balanced, the surest of each, in turns repeated."""
    surest_N, class_N = probabilities_NC.max(1)
    places = []
    for number in range(probabilities_NC.shape[1]):
        members = ((class_N == number) & (surest_N >= confidence)).nonzero().squeeze(1)
        members = members[surest_N[members].argsort(descending=True, stable=True)]
        if per_class is not None and len(members):
            members = members[torch.arange(per_class) % len(members)]
        places.append(members)
    return torch.cat(places)


def noisy_student(
    new: NewModel,
    examples: Callable[[Tensor], Any],
    labelled: Tensor,
    unlabelled: Tensor,
    settings: NoisyStudentSettings,
    plan: Plan,
    *,
    heads: tuple[str | None, ...] = (None,),
) -> list[Fitted]:
    """Train a teacher on the labels, then students on the labels and on what the one before says of the unlabelled images.

        L = mean CE(labelled) + ratio * mean CE(unlabelled, what the teacher says)

    The noise is the student's alone: the plan's augmentation, and the dropout and stochastic depth of ``new(g)``. A teacher
    answers in eval mode on images as they are.

    Args:
        new: ``new(0)`` is the first teacher, ``new(g)`` student g, equal or larger.
        examples: ``examples(rows)`` is the data set of these rows, with ``label``, which is -1 where there is none.
        labelled: the rows that have a label.
        unlabelled: the rows that have none.
        settings: how many students, and which images they are shown.
        plan: what the trainings share.
        heads: the model's heads; each learns all, and the teacher speaks with the mean of them.

    Returns:
        The teacher and the students; the last one is the result.

    Source: Xie et al., *Self-Training with Noisy Student Improves ImageNet Classification*, CVPR 2020, algorithm 1.
    """
    if len(unlabelled) == 0:
        raise ValueError("unlabelled is empty: noisy student needs images that the teacher labels")
    labels = [CrossEntropy(smoothing=settings.smoothing, head=h, name=f"label {h or ''}".strip()) for h in heads]
    chain = [fit(new(0), examples(labelled), signals=labels, plan=plan.named("teacher"))]
    rows = int(torch.cat([labelled, unlabelled]).max()) + 1
    for number in range(1, settings.students + 1):
        said = torch.stack([logits_of(chain[-1].model, examples(unlabelled), h) for h in heads]).mean(0)
        chosen = unlabelled[confident(said.softmax(1), settings.confidence, settings.per_class)]
        if len(chosen) == 0:
            raise ValueError(f"confidence={settings.confidence}: teacher {number} is sure of no image; lower it")
        teacher_NC = torch.full((rows, said.shape[1]), torch.nan)
        teacher_NC[unlabelled] = said
        both = torch.cat([labelled, chosen])
        signals: list[Signal] = []
        for label in labels:
            name = label.name.replace("label", "teacher", 1)
            said_by = Distillation(
                "teacher", kind=settings.labels, temperature=settings.temperature, head=label.head, name=name
            )
            signals += [label, said_by]
        weights = [len(both) / len(labelled), settings.ratio * len(both) / len(chosen)] * len(heads)
        train = WithColumns(examples(both), teacher=teacher_NC)
        own_plan = plan.named(f"student-{number}")
        chain.append(fit(new(number), train, signals=signals, plan=own_plan, weighting=Fixed(weights)))
    return chain
