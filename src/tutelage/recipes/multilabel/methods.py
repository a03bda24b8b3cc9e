"""The methods, a function each: a model is trained in place, by one call of `fit` or by generations of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from tutelage.generations import iterate, noisy_student
from tutelage.generations.schedule import Language, Passing
from tutelage.models import ImageClassifier
from tutelage.recipes.multilabel.lesson import balanced, given_labels, new_model, teacher_settings
from tutelage.recipes.multilabel.settings import Method, MultilabelSettings
from tutelage.recipes.multilabel.task import MultilabelTask
from tutelage.signals import BinaryCrossEntropy, CrossEntropy, Distillation, EarlyLearning, Signal
from tutelage.training import Plan, fit, seeds
from tutelage.weighting import Fixed, Weighting


@dataclass(frozen=True)
class Lesson:
    """What a model is taught, and how.

    Attributes:
        model: trained in place.
        task: the images.
        settings: the method's numbers.
        rows: the labelled images that are trained on.
        plan: of the training, or of each of a method's trainings.
    """

    model: ImageClassifier
    task: MultilabelTask
    settings: MultilabelSettings
    rows: Tensor
    plan: Plan

    @property
    def together(self) -> Tensor:
        """The labelled rows, and after them those without a label."""
        return torch.cat([self.rows, self.task.images.rows("unlabelled")])

    @property
    def passing(self) -> Passing | None:
        """Passes over `together` in which rare classes come oftener, where they shall."""
        labels = self.task.images.labels[self.together]
        return balanced(labels, self.settings) if self.settings.rebalance > 0 else None

    def plan_over(self, count: int, plan: Plan | None = None) -> Plan:
        """Return a plan, by default the lesson's, for the first ``count`` of `together`."""
        plan, passing = plan or self.plan, self.passing
        return plan if passing is None else replace(plan, sampler=partial(passing, torch.arange(count)))


@dataclass(frozen=True)
class Told:
    """What a method tells besides the model: `coverage` and `first_said` of a `TrainedCandidate`."""

    coverage: list[float] = field(default_factory=list)
    first_said: Tensor | None = None


def _by_one_signal(lesson: Lesson, signal: type[Signal]) -> Told:
    target, _ = given_labels(lesson.task)
    return _by_signals(lesson, [signal(target)])


def _by_signals(lesson: Lesson, signals: list[Signal], weighting: Weighting | None = None) -> Told:
    _, examples = given_labels(lesson.task)
    plan = lesson.plan_over(len(lesson.rows))
    fit(lesson.model, examples(lesson.rows), signals=signals, plan=plan, weighting=weighting)
    return Told()


def _early_learning(lesson: Lesson) -> Told:
    target, _ = given_labels(lesson.task)
    early = lesson.settings.early_learning
    signals = [CrossEntropy(target), EarlyLearning(*lesson.task.given_NC.shape, beta=early.beta)]
    return _by_signals(lesson, signals, Fixed([1.0, early.weight]))


def _distilled(lesson: Lesson) -> Told:
    target, examples = given_labels(lesson.task)
    settings, together = lesson.settings, lesson.together
    teacher = new_model(lesson.task, teacher_settings(settings))
    first = replace(lesson.plan.named("teacher"), heads=teacher.heads)
    fit(teacher, examples(lesson.rows), signals=[CrossEntropy(target)], plan=lesson.plan_over(len(lesson.rows), first))
    said = Distillation(teacher, temperature=settings.distilled.temperature)
    second = lesson.plan_over(len(together), lesson.plan.named("student"))
    fit(lesson.model, examples(together), signals=[said], plan=second)
    return Told()


def _noisy_student(lesson: Lesson) -> Told:
    task, settings = lesson.task, lesson.settings
    others = [
        new_model(task, replace(settings, seed=seeds.derive(settings.seed, "student", number)))
        for number in range(settings.noisy_student.students)
    ]
    noisy_student(
        lambda number: [*others, lesson.model][number],
        task.images.subset,
        lesson.rows,
        task.images.rows("unlabelled"),
        settings.noisy_student,
        lesson.plan,
    )
    return Told()


def _in_generations(lesson: Lesson, language: Language) -> Told:
    target, examples = given_labels(lesson.task)
    count, classes = lesson.task.given_NC.shape
    found = iterate(
        lesson.model,
        examples(lesson.together),
        replace(lesson.settings.iterated, language=language),
        lesson.plan,
        labelled=torch.arange(len(lesson.rows)),
        target=target,
        remember=(count, classes),
        passing=lesson.passing,
    )
    return Told(found.coverage, found.first_said)


METHODS: dict[Method, Callable[[Lesson], Told]] = {
    "mile": partial(_in_generations, language="sets"),
    "hard": partial(_in_generations, language="hard"),
    "soft": partial(_in_generations, language="soft"),
    "sigmoid": partial(_by_one_signal, signal=BinaryCrossEntropy),
    "softmax": partial(_by_one_signal, signal=CrossEntropy),
    "elr": _early_learning,
    "distilled": _distilled,
    "noisy_student": _noisy_student,
}
