"""How derivatives are taken is found once, a little away from where the model is, and goes on after an interruption."""

import pytest
import torch
from torch import Tensor, nn
from weighting_zoo import examples, network, objective_of, rows

from tutelage.hypergradient import derivatives, directional_derivatives
from tutelage.signals import Batch, CrossEntropy, Objective, Outputs, Signal
from tutelage.weighting import AMAL
from tutelage.weighting.strategy import STRATEGIES


class OwnTarget(Signal):
    """A sharpened answer of the model's own, which is 0 in its derivative where the answer is uniform."""

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        logits_BC = self.own_output(outputs)
        with torch.no_grad():
            target_BC = (2 * logits_BC).softmax(1)
        return -(target_BC * logits_BC.log_softmax(1)).sum(1)


class Rounded(torch.autograd.Function):
    """The identity, by an operator that has no forward mode."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad


class NoForwardMode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 16).double(), nn.Linear(16, 3).double()
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(Rounded.apply(torch.tanh(self.body(x))))


def batch_of() -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(1)
    inputs = torch.randn(12, 4, generator=drawn, dtype=torch.float64)
    return {"index": torch.arange(12), "input": inputs, "label": torch.arange(12) % 3}


def test_a_derivative_that_is_wrong_and_still_0_is_found_out():
    torch.manual_seed(0)
    objective = Objective(NoForwardMode(), [CrossEntropy(), OwnTarget("own")])
    direction = {name: torch.randn_like(p) for name, p in objective.model.named_parameters()}
    at_zero = directional_derivatives(objective, batch_of(), direction, "finite_difference").values[:, 1]
    exact = directional_derivatives(objective, batch_of(), direction, "double_backward").values[:, 1]
    assert (at_zero - exact).abs().max() < 1e-5  # nothing to be seen where the model begins
    found = directional_derivatives(objective, batch_of(), direction)
    assert found.strategy == "double_backward"
    assert "of signal 'own'" in found.why


def test_what_was_found_is_kept_in_the_state(monkeypatch):
    batch, held_out = rows(examples(), range(8)), examples(6, seed=9)

    def adapted(state: dict[str, Tensor] | None) -> AMAL:
        torch.manual_seed(0)
        model, weighting = network(), AMAL(32, 2)
        if state:
            weighting.load_state_dict(state)
        weighting.adapt(objective_of(model), batch, held_out, torch.optim.SGD(model.parameters(), lr=0.1))
        return weighting

    first = adapted(None)
    assert STRATEGIES[int(first.strategy.chosen)] == "forward_mode"
    state = first.state_dict()
    state["strategy.chosen"] = torch.tensor(STRATEGIES.index("double_backward"))
    monkeypatch.setattr(derivatives, "choose", lambda *_: pytest.fail("it was tried again"))
    again = adapted(state)
    assert again.strategy.used == "double_backward"
    assert AMAL(32, 2, strategy="finite_difference").strategy.used == "finite_difference"
