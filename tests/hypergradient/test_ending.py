"""The last layer is taken only while every loss depends on it through its output alone, and while it is the last."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.hypergradient import LastLayerLookAhead, directional_derivatives
from tutelage.models import WithSquaredNorm
from tutelage.signals import CrossEntropy, Objective, SquaredNorm

G = torch.Generator().manual_seed(0)
BATCH = {
    "index": torch.arange(7),
    "input": torch.randn(7, 6, generator=G, dtype=torch.float64),
    "label": torch.randint(3, (7,), generator=G),
}


class CosineToo(nn.Module):
    """A head whose weight is also compared by angles."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = torch.tanh(self.body(x))
        return {"plain": self.head(h), "cosine": F.linear(F.normalize(h, dim=1), F.normalize(self.head.weight, dim=1))}


class Back(nn.Module):
    """A head whose weight also makes what goes into it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(F.linear(F.linear(x, self.head.weight), self.head.weight.T)))


def changing() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def cosine() -> Objective:
    return Objective(CosineToo(), [CrossEntropy(head="plain"), CrossEntropy(head="cosine", name="angles")])


def norm() -> Objective:
    return Objective(WithSquaredNorm(nn.Linear(6, 3), head="out"), [CrossEntropy(head="out"), SquaredNorm()])


def back() -> Objective:
    return Objective(Back(), [CrossEntropy()])


@pytest.mark.parametrize("make", [cosine, norm, back])
def test_a_weight_that_reaches_a_loss_in_another_way_is_not_derived_in_closed_form(make) -> None:
    torch.manual_seed(0)
    objective = make().double()
    direction = {n: torch.randn_like(p) for n, p in objective.model.named_parameters() if "body" not in n}

    def loss(step: float) -> Tensor:
        with torch.no_grad():
            named = {n: p + step * direction[n] if n in direction else p for n, p in objective.model.named_parameters()}
            return objective(BATCH, named)

    expected = (loss(1e-5) - loss(-1e-5)) / 2e-5
    for _ in range(2):
        found = directional_derivatives(objective, BATCH, direction)
        assert found.strategy == "forward_mode"
        assert torch.allclose(found.values, expected, rtol=1e-6, atol=1e-8)
        with pytest.raises(ValueError, match="reaches a loss in another way"):
            directional_derivatives(objective, BATCH, direction, "last_layer")


def test_a_model_that_has_changed_ends_in_another_layer() -> None:
    model = changing()
    objective = Objective(model, [CrossEntropy()])

    def derivatives(strategy: str) -> None:
        last = max(name for name, module in model.named_modules() if isinstance(module, nn.Linear))
        direction = {n: torch.ones_like(p) for n, p in model.named_parameters() if n.startswith(last)}
        found = directional_derivatives(objective, BATCH, direction, strategy)
        exact = directional_derivatives(objective, BATCH, direction, "double_backward")
        assert torch.allclose(found.values, exact.values, rtol=1e-9, atol=1e-12)
        assert found.values.any()
        ahead = LastLayerLookAhead(objective, BATCH, BATCH, torch.optim.SGD(model.parameters(), lr=0.1))
        assert ahead.train.weight == f"{last}.weight"

    for strategy in ("last_layer", "auto"):
        derivatives(strategy)
        model.append(nn.Linear(3, 3).double())
        derivatives(strategy)
        model.pop(-1)
        derivatives(strategy)
        old = {n: torch.ones_like(p) for n, p in model.named_parameters() if n.startswith("2.")}
        model.append(nn.Linear(3, 3).double())
        found = directional_derivatives(objective, BATCH, old)  # what was the last layer, and is no more
        assert torch.allclose(found.values, directional_derivatives(objective, BATCH, old, "double_backward").values)
        model.pop(-1)
    model.append(nn.Tanh())
    with pytest.raises(ValueError, match=r"no torch.nn.Linear's output is what"):
        directional_derivatives(objective, BATCH, old, "last_layer")
