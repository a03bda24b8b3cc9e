"""SPEAR's terms and ImplyLoss by hand, in float64, and whom each of them teaches."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

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

LOGITS = torch.tensor([[1.0, -1.0], [0.2, 0.7], [0.0, 2.0]], dtype=torch.float64)
JOINT = torch.tensor([[-1.0, -2.0], [-3.0, -1.5], [-2.0, -2.0]], dtype=torch.float64)
RIGHT = torch.tensor([0.9, 0.6], dtype=torch.float64).log()
WRONG = torch.tensor([0.1, 0.4], dtype=torch.float64).log()
BATCH = {
    "label": torch.tensor([1, -1, -1]),
    "label_model_label": torch.tensor([1, -1, 0]),
    "fired": torch.tensor([[1, 0], [1, 1], [0, 0]]),
}
TERMS: dict[str, Signal] = {
    "label": CrossEntropy(head="classifier", name="label"),
    "entropy": Entropy(),
    "follow": FollowLabelModel(),
    "labels": LabelModelLabels(),
    "evidence": LabelModelEvidence(),
    "agreement": Agreement(),
    "guides": QualityGuides(),
}


def outputs() -> dict[str, Tensor]:
    heads = {"classifier": LOGITS, "label_model": JOINT, "right": RIGHT.expand(3, 2), "wrong": WRONG.expand(3, 2)}
    return {name: value.clone().requires_grad_() for name, value in heads.items()}


def test_the_seven_terms_by_hand():
    f, g = LOGITS.softmax(1), JOINT.softmax(1)
    entropy = -(f * f.log()).sum(1)
    divergence = (f * (f / g).log()).sum(1)
    expected = {
        "label": [-math.log(f[0, 1]), 0, 0],
        "entropy": [0, entropy[1], entropy[2]],
        "follow": [0, -math.log(f[1, 1]), 0],  # the last is covered by no rule
        "labels": [-math.log(g[0, 1]), 0, 0],
        "evidence": [0, -torch.logsumexp(JOINT[1], 0), -torch.logsumexp(JOINT[2], 0)],
        "agreement": [divergence[0], divergence[1], 0],
        "guides": -(0.9 * RIGHT + 0.1 * WRONG).sum(),
    }
    for name, term in TERMS.items():
        value = torch.as_tensor(expected[name], dtype=torch.float64)
        torch.testing.assert_close(term(outputs(), BATCH).double(), value, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("name", "taught"),
    [
        ("label", {"classifier"}),
        ("entropy", {"classifier"}),
        ("follow", {"classifier"}),
        ("labels", {"label_model"}),
        ("evidence", {"label_model"}),
        ("agreement", {"classifier", "label_model"}),
        ("guides", {"right", "wrong"}),
    ],
)
def test_whom_each_term_teaches(name, taught):
    heads = outputs()
    TERMS[name](heads, BATCH).sum().backward()
    assert {head for head, value in heads.items() if value.grad is not None and value.grad.abs().sum() > 0} == taught


def test_the_label_model_is_judged_where_a_second_label_is_given():
    g = JOINT.log_softmax(1)
    expected = TERMS["label"](outputs(), BATCH) - torch.stack([g[0, 1], 0 * g[1, 0], g[2, 0]])
    torch.testing.assert_close(LabelledByBoth()(outputs(), BATCH), expected)
    nobody = {**BATCH, "label_model_label": torch.full((3,), -1)}
    torch.testing.assert_close(LabelledByBoth()(outputs(), nobody), TERMS["label"](outputs(), BATCH))


def test_the_joint_form_of_the_fourth_term_and_the_fifth_everywhere():
    torch.testing.assert_close(LabelModelLabels("joint")(outputs(), BATCH)[0], -JOINT[0, 1])
    torch.testing.assert_close(LabelModelEvidence(everywhere=True)(outputs(), BATCH), -JOINT.logsumexp(1))


def test_guides_a_rule_and_their_best_point():
    """The cross-entropy of q and p is least where p = q."""
    right = torch.tensor([0.7, 0.3], dtype=torch.float64)
    heads = {"right": right.log().expand(2, 2), "wrong": (1 - right).log().expand(2, 2)}
    at_best = float(QualityGuides([0.7, 0.3])(heads, {}))
    assert at_best < float(QualityGuides([0.7, 0.3])({"right": heads["wrong"], "wrong": heads["right"]}, {}))
    entropy = -(right * right.log() + (1 - right) * (1 - right).log()).sum()
    assert at_best == pytest.approx(float(entropy))


RULES = [1, 0]
LOG_ODDS = torch.tensor([[0.4, -0.3], [1.2, 0.1], [0.0, 0.0]], dtype=torch.float64)


def implied() -> dict[str, Tensor]:
    return {"classifier": LOGITS, "reliability": LOG_ODDS}


def test_implication_by_hand():
    r, f = torch.sigmoid(LOG_ODDS), LOGITS.softmax(1)
    expected = -math.log(1 - r[1, 0] * (1 - f[1, 1])) - math.log(1 - r[1, 1] * (1 - f[1, 0]))
    found = Implication(RULES, weight=0.2)(implied(), BATCH)
    torch.testing.assert_close(found, torch.tensor([0, 0.2 * expected, 0], dtype=torch.float64))


def test_implication_stays_finite_where_everything_rounds_to_one():
    heads = {"classifier": torch.tensor([[1e4, -1e4]]), "reliability": torch.tensor([[1e4, 1e4]])}
    batch = {"label": torch.tensor([-1]), "fired": torch.ones(1, 2)}
    heads["classifier"].requires_grad_()
    loss = Implication(RULES, weight=1.0)(heads, batch)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(heads["classifier"].grad).all()


def test_reliability_by_hand():
    batch = {"label": torch.tensor([1, 0, -1]), "fired": torch.tensor([[1, 1], [1, 0], [1, 1]])}
    r = torch.sigmoid(LOG_ODDS)
    agrees = (1 - r[0, 0] ** 0.2) / 0.2
    expected = torch.stack([agrees - (1 - r[0, 1]).log(), -(1 - r[1, 0]).log(), torch.zeros(()).double()])
    torch.testing.assert_close(RuleReliability(RULES)(implied(), batch), expected)
    written = {**batch, "exemplar": torch.tensor([[1, 0], [0, 0], [0, 0]])}
    found = RuleReliability(RULES)(implied(), written)
    torch.testing.assert_close(found[0], -r[0, 0].log() - (1 - r[0, 1]).log())


def test_forgiving_losses_tend_to_cross_entropy_and_to_absolute_error():
    batch = {"label": torch.tensor([1, -1, -1]), "fired": torch.tensor([[1, 0]] * 3)}
    near = RuleReliability(RULES, noise=1e-6)(implied(), batch)[0]
    torch.testing.assert_close(near, -F.logsigmoid(LOG_ODDS[0, 0]), rtol=1e-5, atol=0)
    torch.testing.assert_close(
        RuleReliability(RULES, noise=1.0)(implied(), batch)[0], 1 - torch.sigmoid(LOG_ODDS[0, 0])
    )


@pytest.mark.parametrize(
    ("signal", "answer"),
    [
        (FollowLabelModel(), "reads head 'label_model', but the model returns \\['classifier'\\]"),
        (Agreement(), "reads head 'label_model'"),
        (Implication(RULES), "reads head 'reliability'"),
        (QualityGuides(), "reads the heads 'right' and 'wrong'"),
    ],
)
def test_a_missing_head_is_named(signal, answer):
    with pytest.raises(ValueError, match=answer):
        signal({"classifier": LOGITS}, BATCH)


def test_arguments_that_cannot_be():
    with pytest.raises(ValueError, match=r"quality=1\.2"):
        QualityGuides(1.2)
    with pytest.raises(ValueError, match="kind='both'"):
        LabelModelLabels("both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="noise=0"):
        RuleReliability(RULES, noise=0)
    with pytest.raises(ValueError, match="weight=0"):
        Implication(RULES, weight=0)
