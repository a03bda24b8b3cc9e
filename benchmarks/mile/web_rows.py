"""The rows of MILe's Table 2, each a training of the same perceptron on frozen features."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.mile.web_problems import SIZES, Problem
from tutelage.data import TensorData, WithColumns
from tutelage.data.sampling import Rebalanced
from tutelage.generations import (
    IteratedSettings,
    MoProSettings,
    Projected,
    SelfContainedSettings,
    iterate,
    mopro,
    self_contained,
)
from tutelage.generations.schedule import Variant
from tutelage.models.heads import expect_one_label
from tutelage.signals import BinaryCrossEntropy, CrossEntropy, EarlyLearning, OwnAnswer
from tutelage.training import Budget, Plan, fit, seeds
from tutelage.weighting import (
    IEG,
    CleanNet,
    CurriculumNet,
    Fixed,
    LearnedMentorNet,
    MentorNet,
    MetaOptimizer,
    Weighting,
)

WIDTH = 128
EPOCHS = 10
Changes = dict[str, Any]


@dataclass(frozen=True)
class Lesson:
    """What a row is given: a problem, where to train, and the settings of a trial."""

    problem: Problem
    plan: Plan
    rebalance: float
    changes: Changes

    def option(self, name: str, default: Any) -> Any:
        """Return a setting of the row's own."""
        return self.changes.get(name, default)

    def network(self, name: str, *, sigmoids: bool = False) -> nn.Sequential:
        """Return a fresh perceptron."""
        inputs = self.problem.parts["train"].tensors["input"].shape[1]
        with seeds.fixed(self.plan.seed, "init", name):
            encoder = nn.Sequential(nn.Linear(inputs, WIDTH), nn.GELU())
            network = nn.Sequential(OrderedDict(encoder=encoder, head=nn.Linear(WIDTH, self.problem.classes)))
        if sigmoids:
            expect_one_label(network, ["head"])
        return network

    def examples(self, *, trusted: bool) -> TensorData:
        """Return the training part, with that whose labels are right, or without."""
        parts = [self.problem.parts[name] for name in (("train", "held_out") if trusted else ("train",))]
        return TensorData(**{key: torch.cat([part.tensors[key] for part in parts]) for key in ("input", "label")})

    def planned(self, examples: TensorData) -> Plan:
        """Return the plan of a training on some examples."""
        sampler = Rebalanced(examples.tensors["label"], self.plan.seed, self.rebalance) if self.rebalance else None
        return replace(self.plan, sampler=sampler)


def softmax(lesson: Lesson) -> nn.Module:
    """Train by cross-entropy."""
    examples = lesson.examples(trusted=True)
    signal = CrossEntropy(smoothing=lesson.option("smoothing", 0.0))
    return fit(lesson.network("model"), examples, signals=[signal], plan=lesson.planned(examples)).model


def sigmoid(lesson: Lesson) -> nn.Module:
    """Train by binary cross-entropy."""
    examples, model = lesson.examples(trusted=True), lesson.network("model", sigmoids=True)
    smoothing = lesson.option("smoothing", 0.0)
    one_hot = F.one_hot(examples.tensors["label"], lesson.problem.classes).float()
    train = WithColumns(examples, targets=one_hot * (1 - smoothing) + smoothing / lesson.problem.classes)
    return fit(model, train, signals=[BinaryCrossEntropy("targets")], plan=lesson.planned(examples)).model


def elr(lesson: Lesson) -> nn.Module:
    """Train by cross-entropy and early-learning regularisation."""
    examples = lesson.examples(trusted=True)
    signals = [CrossEntropy(), EarlyLearning(len(examples), lesson.problem.classes, beta=0.7)]
    weighting = Fixed([1.0, lesson.option("weight", 3.0)])
    plan = lesson.planned(examples)
    return fit(lesson.network("model"), examples, signals=signals, plan=plan, weighting=weighting).model


def weighed(make: Callable[[Lesson, int], Weighting], *, own_answer: bool = False) -> Callable[[Lesson], nn.Module]:
    """Return training by cross-entropy under a weighting, which looks at the held-out part where it learns."""

    def train(lesson: Lesson) -> nn.Module:
        count = SIZES["train"] + SIZES["held_out"]
        with seeds.fixed(lesson.plan.seed, "weighting"):
            weighting = make(lesson, count)
        examples = lesson.examples(trusted=not weighting.learns)
        signals = [CrossEntropy(), *([OwnAnswer(temperature=lesson.option("temperature", 0.5))] if own_answer else [])]
        plan = replace(lesson.planned(examples), adapt_every=1, held_out_batch_size=SIZES["held_out"])
        held_out = lesson.problem.parts["held_out"] if weighting.learns else None
        model = lesson.network("model")
        return fit(model, examples, signals=signals, plan=plan, weighting=weighting, held_out=held_out).model

    return train


def scc(neighbours: int) -> Callable[[Lesson], nn.Module]:
    """Return training by self-contained confidence, with averages over neighbours or without."""

    def train(lesson: Lesson) -> nn.Module:
        examples = lesson.examples(trusted=True)
        settings = SelfContainedSettings(
            power=lesson.option("power", 1.0), neighbours=lesson.option("neighbours", neighbours)
        )
        inputs = examples.tensors["input"]
        plan = lesson.planned(examples)
        return self_contained(
            lambda number: lesson.network(f"model-{number}", sigmoids=True),
            examples,
            settings,
            plan,
            embed=lambda model: model.get_submodule("encoder")(inputs).detach(),
        ).student.model

    return train


def momentum_prototypes(decoupled: bool) -> Callable[[Lesson], nn.Module]:
    """Return training by MoPro, with a decoupled head or without."""

    def train(lesson: Lesson) -> nn.Module:
        examples, network = lesson.examples(trusted=True), lesson.network("model")
        settings = MoProSettings(
            start=2,
            momentum=lesson.option("momentum", 0.9),
            queue=1_000,
            width=64,
            instances=lesson.option("instances", 1.0),
            rebalance=lesson.rebalance,
            retraining=Budget(epochs=EPOCHS // 2),
        )
        with seeds.fixed(lesson.plan.seed, "init", "projection"):
            model = Projected(network.get_submodule("encoder"), network.get_submodule("head"), WIDTH, settings.width)
        classes, plan = lesson.problem.classes, lesson.planned(examples)
        fresh = (lambda: lesson.network("decoupled").get_submodule("head")) if decoupled else None
        return mopro(model, classes, examples, settings, plan, decoupled=fresh).fitted.model

    return train


def mile(variant: Variant) -> Callable[[Lesson], nn.Module]:
    """Return training by iterated learning."""

    def train(lesson: Lesson) -> nn.Module:
        examples, model = lesson.examples(trusted=True), lesson.network("model", sigmoids=True)
        settings = IteratedSettings(interaction=10, imitation=5, rho=lesson.option("rho", 0.25), variant=variant)
        order = Rebalanced(examples.tensors["label"], lesson.plan.seed, lesson.rebalance)
        passing = (lambda places, number: places[order(number)]) if lesson.rebalance else None
        return iterate(model, examples, settings, lesson.plan, passing=passing).fitted.model

    return train


@dataclass(frozen=True)
class Row:
    """How a model is trained, and what is tried for it beside the learning rate and the weight decay."""

    train: Callable[[Lesson], nn.Module]
    own: Changes


ROWS: dict[str, Row] = {
    "Cross-entropy": Row(softmax, {"smoothing": 0.1}),
    "MentorNet, predefined": Row(
        weighed(lambda lesson, n: MentorNet(percentile=lesson.option("percentile", 0.7))), {"percentile": 0.85}
    ),
    "MentorNet, data-driven": Row(
        weighed(lambda lesson, n: LearnedMentorNet(meta_optimizer=MetaOptimizer(lr=lesson.option("meta_lr", 0.01)))),
        {"meta_lr": 0.1},
    ),
    "CurriculumNet": Row(weighed(lambda lesson, n: CurriculumNet(n, stage=lesson.option("stage", 2))), {"stage": 1}),
    "CleanNet-like": Row(weighed(lambda lesson, n: CleanNet(n, start=lesson.option("start", 1))), {"start": 3}),
    "Distill (IEG)": Row(weighed(lambda lesson, n: IEG(), own_answer=True), {"temperature": 0.8}),
    "MoPro": Row(momentum_prototypes(False), {"instances": 0.1}),
    "MoPro, decoupled": Row(momentum_prototypes(True), {"instances": 0.1}),
    "ELR": Row(elr, {"weight": 1.0}),
    "Sigmoid": Row(sigmoid, {"smoothing": 0.1}),
    "SCC": Row(scc(0), {"power": 2.0}),
    "SCC + GBA": Row(scc(5), {"power": 2.0}),
    "MILe": Row(mile("printed"), {"rho": 0.5}),
    "MILe as released": Row(mile("released"), {"rho": 0.5}),
}
