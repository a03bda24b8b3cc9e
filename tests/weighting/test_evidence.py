"""MAOAL with evidence: what helps counts, and what does not is 0."""

import math

import pytest
import torch
from torch import Tensor, nn

from tutelage.signals import CrossEntropy, Objective
from tutelage.weighting import MAOAL
from tutelage.weighting.maoal import MEMORY


def maoal(modules: int = 1, evidence: float | None = 0.05) -> MAOAL:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(modules)))
    return MAOAL(model, 2, partition="block", evidence=evidence)


def test_by_hand():
    """One importance: sqrt(2 ln 20) = 2.448; n equal derivatives have the root of the effective n, above that from 7 on."""
    made, needed = maoal(), math.sqrt(2 * math.log(1 / 0.05))
    for updates in range(1, 12):
        made.update(torch.full((1, 1), -0.3))
        weights = MEMORY ** torch.arange(updates, dtype=torch.float64)
        ratio = float(weights.sum() / weights.square().sum().sqrt())
        assert (float(made.importance) > 1) == (ratio > needed), updates
        assert made.importance.item() in (0.0, made.free.item())
    assert made.importance.item() > 1
    for _ in range(12):
        made.update(torch.full((1, 1), 0.3))
    assert made.importance.item() == 0  # it helped once


def test_the_scale_of_derivatives_does_not_matter():
    for scale in (1e-12, 1.0, 1e6):
        made = maoal()
        for value in (1.0, 0.5, 2.0, 1.5, 1.0, 0.2, 1.0, 1.0, 0.7):
            made.update(torch.full((1, 1), -value * scale))
        assert made.importance.item() > 0


@pytest.mark.parametrize(
    "draw", [torch.randn, lambda *size: torch.randn(*size).pow(5), lambda *size: torch.randn(*size).sign()]
)
def test_chance_counts_no_more_often_than_it_may(draw):
    """4,000 useless side tasks, of light, heavy and no tails: the bound is for all of them together."""
    torch.manual_seed(0)
    tasks, delta = 4_000, 0.2
    made = MAOAL(nn.Linear(2, 2), tasks + 1, partition="model", evidence=delta)
    alone = MAOAL(nn.Linear(2, 2), 2, partition="model", evidence=delta)
    needed = math.sqrt(2 * math.log(1 / delta))  # of one alone
    for _ in range(60):
        made.update(draw(tasks, 1))
    ratio = made.help_sum / made.help_squares.sqrt()
    assert (ratio > needed).float().mean() <= delta
    assert (made.importance > 0).sum() <= 3  # expected: at most delta
    assert alone.importance.item() == 0


def learned(evidence: float | None, useful: bool) -> tuple[Tensor, MAOAL]:
    """A network on 40 noisy examples, beside 400 of a side task: the same classes without noise, or classes at random."""
    torch.manual_seed(0)
    x = torch.randn(400, 8)
    truth = (x[:, :4].sum(1) > 0).long()
    side = truth if useful else torch.randint(2, (400,))
    label = torch.where(torch.rand(400) < 0.2, 1 - truth, truth)
    label[40:] = -1

    class Network(nn.Module):
        heads = ("main", "side")

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
            self.main, self.side = nn.Linear(16, 2), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            z = self.body(x)
            return {"main": self.main(z), "side": self.side(z)}

    model = Network()
    objective = Objective(model, [CrossEntropy(head="main"), CrossEntropy("side", head="side", name="side")])
    weighting = MAOAL(model, 2, partition="model", evidence=evidence)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    held = torch.randn(200, 8)
    held_label = (held[:, :4].sum(1) > 0).long()
    for step in range(120):
        rows = torch.cat([torch.randperm(40)[:16], torch.randint(40, 400, (48,))])
        batch = {"index": rows, "input": x[rows], "label": label[rows], "side": side[rows]}
        weighting.backward(objective(batch), batch, model)
        optimizer.step()
        optimizer.zero_grad()
        if step % 4 == 3:
            own = torch.randperm(200)[:64]
            known = {"index": own, "input": held[own], "label": held_label[own], "side": torch.full((64,), -1)}
            weighting.adapt(objective, batch, known, optimizer)
    return weighting.importance, weighting


def test_a_random_side_task_falls_to_nothing_and_a_useful_one_counts():
    random, _ = learned(0.05, useful=False)
    useful, _ = learned(0.05, useful=True)
    believed, _ = learned(None, useful=False)
    assert random.abs().max() == 0
    assert useful.max() > 1
    assert believed.abs().max() > 0.5  # without the option it is trained on all the same


def test_evidence_is_saved_and_refused_where_it_is_none():
    one, other = maoal(2), maoal(2)
    for _ in range(20):
        one.update(-torch.rand(1, len(one.partition)))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.importance, other.importance)
    assert (other.importance > 0).all()
    assert "help_sum" not in maoal(evidence=None).state_dict()
    with pytest.raises(ValueError, match=r"evidence=1.5 must be a number in \(0, 1\)"):
        maoal(evidence=1.5)
