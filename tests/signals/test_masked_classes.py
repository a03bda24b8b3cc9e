"""A class that a model masks with a logit of -inf: its probability is 0, and 0 times its logarithm is 0."""

import math

import pytest
import torch
from torch import Tensor

from tutelage.signals import Agreement, Entropy, OwnAnswer

Z = torch.tensor([[0.3, -1.0, -torch.inf], [2.0, -torch.inf, -torch.inf], [0.1, 0.2, 0.3]], dtype=torch.float64)
G = torch.tensor([[0.5, 0.5, -torch.inf], [0.1, 0.2, 0.3], [1.0, 0.0, -1.0]], dtype=torch.float64)
BATCH = {
    "index": torch.arange(3),
    "input": torch.zeros(3, 1),
    "label": torch.full((3,), -1),
    "fired": torch.ones(3, 1),
}


def softmax(logits: list[float]) -> list[float]:
    raised = [math.exp(z) for z in logits]
    return [each / sum(raised) for each in raised]


def by_hand(name: str, z: list[float], g: list[float]) -> float:
    p, r = softmax(z), softmax(g)
    q = [each**2 / sum(other**2 for other in p) for each in p]
    term = {
        "own": lambda c: -q[c] * math.log(p[c]),
        "entropy": lambda c: -p[c] * math.log(p[c]),
        "agreement": lambda c: p[c] * math.log(p[c] / r[c]),
    }[name]
    return sum(term(c) for c in range(len(z)) if p[c] > 0)


SIGNALS = {"own": OwnAnswer(temperature=0.5), "entropy": Entropy(head=None), "agreement": Agreement(classifier="z")}


@pytest.mark.parametrize("name", SIGNALS)
def test_a_masked_class_has_no_part(name: str) -> None:
    def losses(z_BC: Tensor) -> Tensor:
        signal = SIGNALS[name]
        return signal({"z": z_BC, "label_model": G} if name == "agreement" else z_BC, BATCH)

    z_BC = Z.clone().requires_grad_()
    found = losses(z_BC)
    expected = [by_hand(name, z, g) for z, g in zip(Z.tolist(), G.tolist(), strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    (gradient,) = torch.autograd.grad(found.sum(), z_BC)
    assert gradient.isfinite().all()
    assert (gradient[Z.isneginf()] == 0).all()
    if name == "own":
        return  # its target has no gradient
    for place in Z.isfinite().nonzero().tolist():
        step = torch.zeros_like(Z)
        step[*place] = 1e-6
        slope = (losses(Z + step) - losses(Z - step)).sum() / 2e-6
        assert float(gradient[*place]) == pytest.approx(float(slope), abs=1e-8)
