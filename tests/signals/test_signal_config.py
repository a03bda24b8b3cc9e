"""Every signal says what it is, in values that JSON holds, and two that differ in an option do not say the same."""

import copy
import inspect
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tutelage.generations
import tutelage.subtasks
import tutelage.weighting  # noqa: F401  the rooms whose signals are looked for
from tutelage import signals
from tutelage.generations import FourViews, Iterated, Schedule
from tutelage.generations.mopro import MomentumPrototypes, MoProSettings
from tutelage.generations.sskd import ComparedDistillation, Contrast, RotatedDistillation
from tutelage.signals import BinaryCrossEntropy, CrossEntropy, Distillation, PseudoLabels, Signal, SquaredError
from tutelage.subtasks import Curriculum, DiscoverySettings, SelfLabels, StudentSettings
from tutelage.subtasks.specialists import Membership
from tutelage.subtasks.student import LabelOfBothTokens, OwnSpecialist
from tutelage.weighting.auxilearn import Combined


def teacher(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(3, 2)


def views(seed: int = 0) -> nn.Module:
    return FourViews(teacher(seed), nn.Linear(2, 2), 2, 4)


def curriculum(seed: int = 0) -> Curriculum:
    return Curriculum(torch.tensor([0, 1, 0, 1]), "random", torch.zeros(4), seed)


RULES = [0, 1, 1]
# What each constructor must be given, and then, for every argument, another value of it.
CASES: dict[type[Signal], tuple[dict[str, Any], dict[str, Any]]] = {
    signals.Agreement: ({}, {"classifier": "a", "label_model": "b"}),
    BinaryCrossEntropy: ({}, {"target": "votes", "reduction": "mean", "head": "a"}),
    CrossEntropy: ({}, {"target": "y", "smoothing": 0.1, "class_weights": [1.0, 2.0], "head": "a"}),
    Distillation: (
        {"teacher": teacher()},
        {"teacher": teacher(1), "temperature": 2.0, "kind": "hard", "head": "a", "teacher_head": "b"},
    ),
    signals.EarlyLearning: (
        {"num_examples": 4, "num_classes": 2},
        {"num_examples": 5, "num_classes": 3, "beta": 0.9, "head": "a"},
    ),
    signals.Entropy: ({}, {"head": "a"}),
    signals.FollowLabelModel: ({}, {"classifier": "a", "label_model": "b"}),
    signals.Implication: (
        {"rule_class": RULES},
        {"rule_class": [1, 1, 1], "weight": 0.2, "classifier": "a", "reliability": "b"},
    ),
    signals.LabelledByBoth: ({}, {"second": "a", "classifier": "b", "label_model": "c"}),
    signals.LabelModelEvidence: ({}, {"everywhere": True, "label_model": "a"}),
    signals.LabelModelLabels: ({}, {"kind": "joint", "label_model": "a"}),
    signals.OwnAnswer: ({}, {"temperature": 0.3, "head": "a"}),
    signals.PixelCrossEntropy: ({"target": "a"}, {"target": "b", "head": "a"}),
    signals.PixelError: ({"target": "a"}, {"target": "b", "power": 2, "head": "a"}),
    PseudoLabels: (
        {"teacher": teacher()},
        {
            "teacher": teacher(1),
            "rho": 0.5,
            "sample": 1.0,
            "union": True,
            "target": "y",
            "reduction": "mean",
            "remember": (4, 2),
            "generations": 2,
            "head": "a",
        },
    ),
    signals.QualityGuides: ({}, {"quality": 0.8}),
    signals.RuleReliability: ({"rule_class": RULES}, {"rule_class": [1, 1, 1], "noise": 0.3, "head": "a"}),
    signals.Scaled: (
        {"signal": CrossEntropy(), "factor": 2.0},
        {"signal": CrossEntropy(smoothing=0.1), "factor": 3.0},
    ),
    SquaredError: ({}, {"target": "y", "mean": 2.0, "deviation": 3.0, "head": "a"}),
    signals.SquaredNorm: ({}, {"head": "a"}),
    signals.SurfaceNormals: ({"target": "a"}, {"target": "b", "head": "a"}),
    Iterated: (
        {
            "model": teacher(),
            "given": CrossEntropy(),
            "imitated": PseudoLabels("teacher_logits"),
            "schedule": Schedule(10, 3, 2),
        },
        {
            "given": CrossEntropy("y"),
            "imitated": PseudoLabels("teacher_logits", rho=0.5),
            "schedule": Schedule(11, 3, 2),
            "variant": "released",
            "optimizer_state": "reset",
        },
    ),
    MomentumPrototypes: (
        {"model": views(), "classes": 2, "settings": MoProSettings()},
        {"classes": 3, "settings": MoProSettings(sure=0.9), "target": "y"},
    ),
    RotatedDistillation: (
        {"teacher": views(), "temperature": 1.0, "keep": 0.5},
        {"teacher": views(1), "temperature": 2.0, "keep": 0.6, "target": "y"},
    ),
    ComparedDistillation: (
        {"teacher": views(), "temperature": 1.0, "keep": 0.5},
        {"teacher": views(1), "temperature": 2.0, "keep": 0.6},
    ),
    Contrast: ({"temperature": 1.0}, {"temperature": 2.0}),
    SelfLabels: (
        {"index": torch.arange(4), "settings": DiscoverySettings(2, 10.0)},
        {
            "index": torch.arange(1, 5),
            "settings": DiscoverySettings(2, 10.0, settled_share=0.1),
            "rest": torch.arange(4, 6),
            "first": torch.tensor([0, 1, 1, 0]),
            "seed": 1,
        },
    ),
    OwnSpecialist: (
        {
            "log_odds_NK": torch.zeros(4, 2),
            "index": torch.arange(4),
            "curriculum": curriculum(),
            "settings": StudentSettings(),
        },
        {
            "log_odds_NK": torch.ones(4, 2),
            "index": torch.tensor([1, 0, 2, 3]),
            "curriculum": curriculum(1),
            "settings": StudentSettings(temperature=9.0),
        },
    ),
    LabelOfBothTokens: ({"smoothing": 0.1}, {"smoothing": 0.2}),
    Membership: ({"weight": 1.0, "smoothing": 0.0}, {"weight": 2.0, "smoothing": 0.1}),
    Combined: (
        {"signals": [CrossEntropy()], "network": teacher()},
        {"signals": [CrossEntropy("y")], "network": teacher(1)},
    ),
}


def classes(of: type = Signal) -> set[type]:
    found = {of} if not inspect.isabstract(of) and of.__module__.startswith("tutelage.") else set()
    return found.union(*(classes(sub) for sub in of.__subclasses__()))


def test_no_signal_is_left_out() -> None:
    assert {cls for cls in classes() if not cls.__name__.startswith("_")} == set(CASES)
    for cls, (needed, others) in CASES.items():
        arguments = set(inspect.signature(cls).parameters) - {"name"} - set(cls.not_identifying)
        assert arguments == set(others), cls
        assert set(needed) <= set(inspect.signature(cls).parameters)


@pytest.mark.parametrize("cls", CASES, ids=lambda cls: cls.__name__)
def test_its_config_tells_it_from_any_other(cls: type[Signal]) -> None:
    needed, others = CASES[cls]
    signal = cls(**needed)
    own = signal.config()
    assert own == json.loads(json.dumps(own)) == cls(**needed).config() == copy.deepcopy(signal).config()
    assert cls.__name__ in own["class"]
    for name, value in others.items():
        other = cls(**{**needed, name: value})
        assert other.config() != own, name
        assert name in repr(other)
    assert repr(signal).startswith(f"{cls.__name__}(")
    assert "\n" not in repr(signal)


def test_what_is_learned_later_is_no_part_of_it() -> None:
    signal = signals.EarlyLearning(4, 2)
    before = signal.config()
    signal(torch.zeros(4, 2, requires_grad=True), {"index": torch.arange(4)})
    assert signal.averages_NC.any()
    assert signal.config() == before


def test_a_signal_of_ones_own_has_one_for_nothing() -> None:
    class Own(Signal):
        def __init__(self, sharpness: float = 2.0) -> None:
            super().__init__("own")
            self.sharpness = sharpness

        def forward(self, outputs: Any, batch: Any) -> Tensor:
            return self.own_output(outputs).sum(1) * self.sharpness

    assert Own(3.0).config()["sharpness"] == 3.0
    assert repr(Own(3.0)) == "Own(sharpness=3.0)"
    with pytest.raises(TypeError, match="abstract"):
        Signal("nothing")  # type: ignore[abstract]


def test_the_teacher_is_not_read_through_to_show_a_signal() -> None:
    assert repr(Distillation(teacher(), temperature=4.0)).startswith(
        "Distillation(teacher=Linear(...), temperature=4.0"
    )
