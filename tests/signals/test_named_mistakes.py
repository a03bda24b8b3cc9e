"""What a loss cannot read is named: the signal, the entry, what was found there, and what to do."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tutelage.signals import (
    CrossEntropy,
    EarlyLearning,
    Implication,
    LabelledByBoth,
    LabelModelLabels,
    Objective,
    PixelCrossEntropy,
    PseudoLabels,
    RuleReliability,
    Scaled,
    Signal,
    SquaredNorm,
)

B, C = 4, 3
Z = torch.randn(B, C, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 2, -1, 1])
HIGH = torch.tensor([0, 2, -1, C])
BATCH = {"index": torch.arange(B), "label": Y, "teacher": Z.flip(0), "fired": torch.ones(B, 2), "weight": torch.ones(B)}
RULES = {"classifier": Z, "label_model": Z, "reliability": torch.zeros(B, 2)}
MISTAKES: dict[str, tuple[Callable[[], Signal], Any, dict[str, Any], str]] = {
    "a column of labels": (
        CrossEntropy,
        Z,
        {"label": Y[:, None]},
        r"'cross_entropy': batch\['label'\] is torch.int64 \(4, 1\); .*batch\['label'\].squeeze\(1\)",
    ),
    "one-hot integers": (CrossEntropy, Z, {"label": torch.zeros(B, C, dtype=torch.int64)}, r"soft labels, floats like"),
    "one number an example": (
        CrossEntropy,
        Z[:, 0],
        {},
        r"the output is \(4,\); expected \(B, C\); end the model in a layer",
    ),
    "a map": (CrossEntropy, Z[:, :, None, None], {}, r"the output is \(4, 3, 1, 1\); .*PixelCrossEntropy judges maps"),
    "weights of two classes": (
        lambda: CrossEntropy(class_weights=[1, 2]),
        Z,
        {},
        "class_weights are 2, and the model has 3",
    ),
    "a teacher of two classes": (
        lambda: PseudoLabels("teacher"),
        Z,
        {"teacher": Z[:, :2]},
        "'pseudo_labels': the teacher answers about 2 classes, and the model about 3",
    ),
    "a given class too high": (
        lambda: PseudoLabels("teacher", union=True),
        Z,
        {"label": HIGH},
        r"'pseudo_labels': batch\['label'\] holds class 3, and the model has 3, 0 to 2",
    ),
    "given labels of two classes": (
        lambda: PseudoLabels("teacher", union=True),
        Z,
        {"label": torch.ones(B, 2)},
        r"batch\['label'\] is \(4, 2\); expected a class for each example",
    ),
    "remembered: an index too high": (
        lambda: PseudoLabels("teacher", remember=(3, C)),
        Z,
        {},
        r"'pseudo_labels': batch\['index'\] goes from 0 to 3, but there are rows 0 to 2: .*and remember\[0\] its size",
    ),
    "remembered: an index below 0": (
        lambda: PseudoLabels("teacher", remember=(9, C)),
        Z,
        {"index": torch.arange(B) - 1},
        "goes from -1 to 2",
    ),
    "remembered: two classes": (
        lambda: PseudoLabels("teacher", remember=(B, 2)),
        Z,
        {},
        r"remember=\(4, 2\) keeps 2 classes, and the model has 3; give remember=\(4, 3\)",
    ),
    "averages: an index too high": (
        lambda: EarlyLearning(3, C),
        Z,
        {},
        r"'early_learning': batch\['index'\] goes from 0 to 3, .*num_examples its size",
    ),
    "averages: an index below 0": (lambda: EarlyLearning(B, C), Z, {"index": torch.arange(B) - 1}, "goes from -1 to 2"),
    "averages: two classes": (lambda: EarlyLearning(B, 2), Z, {}, "made for num_classes=2, and the model has 3; give"),
    "label model": (LabelModelLabels, RULES, {"label": HIGH}, r"'label_model_labels': batch\['label'\] holds class 3"),
    "both models": (LabelledByBoth, RULES, {"label_model_label": HIGH}, r"batch\['label_model_label'\] holds class 3"),
    "a column for the label model": (
        LabelModelLabels,
        RULES,
        {"label": Y[:, None]},
        r"\(4, 1\); expected a class for each",
    ),
    "a rule of another class": (
        lambda: Implication([1, 3]),
        RULES,
        {},
        "'implication': rule_class holds class 3, and the classifier has 3",
    ),
    "three rules that fire": (
        lambda: Implication([1, 0]),
        RULES,
        {"fired": torch.ones(B, 3)},
        r"batch\['fired'\] is \(4, 3\); rule_class names 2 columns, so expected \(B, 2\)",
    ),
    "three rules": (
        lambda: RuleReliability([0, 1, 2]),
        RULES,
        {},
        r"'rule_reliability': the head 'reliability' is \(4, 2\); rule_class names 3 columns",
    ),
    "exemplars of three rules": (
        lambda: RuleReliability([0, 1]),
        RULES,
        {"exemplar": torch.zeros(B, 3)},
        r"batch\['exemplar'\] is \(4, 3\)",
    ),
    "the border's class": (
        lambda: PixelCrossEntropy("label"),
        Z[:, :, None, None],
        {"label": torch.full((B, 1, 1), 255, dtype=torch.uint8)},
        r"holds class 255, .*; a negative label is ignored",
    ),
    "no length": (
        SquaredNorm,
        Z,
        {},
        r"'l2' reads the output 'squared_norm', .* wrap it: tutelage.models.WithSquaredNorm\(",
    ),
    "no length among several": (SquaredNorm, RULES, {}, r"wrap it: tutelage.models.WithSquaredNorm\(model\)"),
    "a column of factors": (
        lambda: Scaled(CrossEntropy(), "weight"),
        Z,
        {"weight": torch.ones(B, 1)},
        r"'Scaled\(cross_entropy\)' reads batch\['weight'\], which is \(4, 1\); .*batch\['weight'\].squeeze\(1\)",
    ),
    "a factor below 0": (
        lambda: Scaled(CrossEntropy(), "weight"),
        Z,
        {"weight": torch.tensor([1.0, 0.0, -2.0, 1.0])},
        r"reads batch\['weight'\], which is -2.0 in row 2; give finite numbers that are not negative",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_cannot_be_read_is_named(name: str) -> None:
    make, outputs, changed, answer = MISTAKES[name]
    with pytest.raises(ValueError, match=answer):
        make()(outputs, {**BATCH, **changed})


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (lambda: EarlyLearning(0, 3), "num_examples=0 must be an integer of at least 1"),
        (lambda: EarlyLearning(3, 0), "num_classes=0 must be"),
        (lambda: PseudoLabels("teacher", remember=(0, 3)), r"remember\[0\]=0 must be an integer of at least 1"),
        (lambda: PseudoLabels("teacher", remember=(3, -1)), r"remember\[1\]=-1 must be"),
        (lambda: PseudoLabels("teacher", generations=0), "generations=0 must be an integer of at least 1"),
        (
            lambda: Scaled(SquaredNorm(), "weight"),
            "factor='weight' is a number for each example, and signal 'l2' is one loss",
        ),
        (lambda: RuleReliability([0, -1]), r"rule_class=\[0, -1\] must be the class of each column"),
        (lambda: Implication([]), r"rule_class=\[\] must be the class of each column"),
    ],
)
def test_arguments_that_make_no_sense_are_named(make: Callable[[], Signal], answer: str) -> None:
    with pytest.raises(ValueError, match=answer):
        make()


def test_a_factor_for_each_example_may_be_0_and_leaves_the_others_alone() -> None:
    factors = torch.tensor([2.0, 0.0, 1.0, 0.5])
    model = nn.Linear(2, C)
    batch = {**BATCH, "input": torch.randn(B, 2), "weight": factors}
    plain = Objective(model, [CrossEntropy()])(batch)
    scaled = Objective(model, [Scaled(CrossEntropy(), "weight")])(batch)
    torch.testing.assert_close(scaled, factors[:, None] * plain)


def test_given_labels_join_what_the_teacher_says() -> None:
    teacher = torch.tensor([[5.0, -5.0], [-5.0, -5.0], [-5.0, -5.0]])
    batch = {"index": torch.arange(3), "label": torch.tensor([1, 0, -1]), "teacher": teacher}
    expected = [[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    assert PseudoLabels("teacher", union=True).labels(batch).tolist() == expected
    one: dict[str, Tensor] = {
        **batch,
        "teacher": teacher[1:, :1],
        "label": torch.tensor([1, 0]),
    }  # the one question's answers
    assert PseudoLabels("teacher", union=True).labels({**one, "index": torch.arange(2)}).tolist() == [[1.0], [0.0]]
