"""Iterated learning: a teacher learns from the labels, a student from the teacher, and becomes the next teacher (MILe)."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tutelage import distributed
from tutelage.generations.schedule import Generations, IteratedSettings, Passing, Schedule, Variant, schedule_of
from tutelage.signals import Batch, BinaryCrossEntropy, CrossEntropy, Distillation, Outputs, Signal
from tutelage.signals.base import ask
from tutelage.signals.pseudo_labels import NEVER, PseudoLabels
from tutelage.training import Budget, Fitted, Plan, fit
from tutelage.training.batches import indices_of


class Iterated(Signal):
    """The given labels while a teacher learns, and what that teacher says of the images while its student does.

    One model and one copy of it are all there is. In the released variant the copy is the teacher, taken when its
    interaction ends, and the model goes on as its own student. In the printed one the copy keeps the student while the
    model becomes its teacher, and then the two change places.

    Args:
        model: what is trained.
        given: the signal of the given labels.
        imitated: the signal of what the teacher says, which reads its logits from ``batch["teacher_logits"]``.
        schedule: when.
        variant: as in `IteratedSettings`.
        optimizer_state: as in `IteratedSettings`.
    """

    not_identifying = ("model",)

    def __init__(
        self,
        model: nn.Module,
        given: Signal,
        imitated: Signal,
        schedule: Schedule,
        *,
        variant: Variant = "printed",
        optimizer_state: Literal["kept", "reset"] = "kept",
        name: str = "iterated",
    ) -> None:
        super().__init__(name)
        self.given = given
        self.imitated = imitated
        self.schedule = schedule
        self.variant = variant
        self.optimizer_state = optimizer_state
        self.copy = deepcopy(model).requires_grad_(False)
        self.imitating = False
        self.train(self.training)

    def train(self, mode: bool = True) -> Iterated:
        """Set the mode, of all but the copy: a teacher answers in eval mode, whoever calls ``train()`` above it."""
        super().train(mode)
        self.copy.eval()
        return self

    def begin_step(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Change the roles where a phase begins."""
        generation = self.schedule.generation(step)
        turn = self.schedule.turn(generation)
        self.imitating = step >= turn
        if isinstance(self.imitated, PseudoLabels):
            self.imitated.generation = generation + 1
        if step == turn:
            if self.variant == "printed":
                _exchange(self.copy, model)
            else:
                _follow(self.copy, model)
        elif step == self.schedule.start(generation) and self.variant == "printed":
            _follow(self.copy, model)
        if self.optimizer_state == "reset" and step in (turn, self.schedule.start(generation)):
            optimizer.state.clear()

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        if not self.imitating:
            return self.given(outputs, batch)
        said_BC = self.imitated.own_output(ask(self.copy, batch["input"]))
        return self.imitated(outputs, {**batch, "teacher_logits": said_BC})


@dataclass
class Iteration:
    """What iterated learning returns.

    Attributes:
        fitted: the last student, or the selected one.
        generations: how many there were.
        first_said: the generation, counted from 1, in which a teacher first said a class of an image, (N, C) int16, -1 for
            never; None where it was not asked for, or the language is not sets.
        coverage: mean number of classes that the teacher said of an image, in each generation; empty where the language is not
            sets.
    """

    fitted: Fitted
    generations: int
    first_said: Tensor | None
    coverage: list[float]


def iterate(
    model: nn.Module,
    train: Any,
    settings: IteratedSettings,
    plan: Plan,
    *,
    labelled: Tensor | None = None,
    target: str = "label",
    head: str | None = None,
    remember: tuple[int, int] | None = None,
    passing: Passing | None = None,
) -> Iteration:
    """Train by multi-label iterated learning, with as many backward passes as a plain training of the same budget.

        repeat:   k_t steps   theta_T <- theta_T - a grad BCE(sigmoid(f(x; theta_T)), y)          (interaction)
                  k_s steps   theta_S <- theta_S - a grad BCE(sigmoid(f(x; theta_S)), [sigmoid(f(x; theta_T)) > rho])

    An evaluation, where there is a ``val``, follows the imitation of every ``evaluate_every`` generations, so that it is always
    a student that is judged and selected.

    Args:
        model: trained in place; the student in the end.
        train: the data set; its unlabelled examples take part in the imitation.
        settings: k_t, k_s, rho, and what the generations speak.
        plan: as in `fit`, but for the sampler; the budget is that of all generations together, and its epoch is a pass over
            the labelled examples.
        labelled: places of the examples that have a label; all by default.
        target: the batch's key of the labels, (B,) classes or (B, C) of 0 and 1.
        head: the model's head that is trained, where it has several.
        remember: (N, C) keeps in which generation a class was first said of an example.
        passing: as in `Generations`.

    Raises:
        ValueError: a budget of less than one generation, no labelled example for a process, or what `fit` raises.

    Source: Rajeswar et al., *Multi-label Iterated Learning for Image Classification*, CVPR 2022, algorithm 1, with its signs
    corrected; the released program for ``variant="released"``.
    """
    everything = torch.arange(len(train))
    labelled = everything if labelled is None else labelled
    distributed.join()
    processes = distributed.rank_world()[1]
    owner = indices_of(train) % processes
    own = max(1, plan.optimization.batch_size // processes)
    schedule = schedule_of(settings, plan.budget, indices_of(train)[labelled], plan.optimization.batch_size)
    given: Signal
    imitated: Signal
    if settings.language == "sets":
        given = BinaryCrossEntropy(target, reduction=settings.reduction, head=head)
        imitated = PseudoLabels(
            "teacher_logits",
            rho=settings.rho,
            sample=settings.sample,
            union=settings.union,
            target=target,
            reduction=settings.reduction,
            remember=remember,
            generations=schedule.generations,
            head=head,
        )
    else:
        given = CrossEntropy(target, head=head)
        imitated = Distillation("teacher_logits", temperature=settings.temperature, kind=settings.language, head=head)
    signal = Iterated(
        model, given, imitated, schedule, variant=settings.variant, optimizer_state=settings.optimizer_state
    )
    sampler = Generations(
        schedule,
        labelled,
        everything,
        batch_size=own,
        every=settings.evaluate_every,
        seed=plan.seed,
        passing=passing,
        owner=owner,
    )
    fitted = fit(
        model, train, signals=[signal], plan=replace(plan, budget=Budget(steps=schedule.steps), sampler=sampler)
    )
    if not isinstance(imitated, PseudoLabels):
        return Iteration(fitted, schedule.generations, None, [])
    tally_G2 = distributed.all_reduce_sum(imitated.tally_G2)
    coverage = (tally_G2[:, 0] / tally_G2[:, 1].clamp_min(1)).tolist()
    if remember is None:
        return Iteration(fitted, schedule.generations, None, coverage)
    said_NC = imitated.first_said.int() - NEVER  # an example's process knows it, the others have 0 there
    said_NC = distributed.all_reduce_sum(said_NC) + NEVER
    return Iteration(fitted, schedule.generations, said_NC.short(), coverage)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


@torch.no_grad()
def _follow(copy: nn.Module, model: nn.Module) -> None:
    for mine, theirs in zip(_tensors(copy), _tensors(model), strict=True):
        mine.copy_(theirs)


@torch.no_grad()
def _exchange(one: nn.Module, other: nn.Module) -> None:
    for mine, theirs in zip(_tensors(one), _tensors(other), strict=True):
        kept = mine.clone()
        mine.copy_(theirs)
        theirs.copy_(kept)
