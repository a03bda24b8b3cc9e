"""Masks that are added to attention: what they hide is nothing wrong, and what speaks of all examples is said to."""

import copy

import pytest
import torch
from torch import Tensor, nn

from tutelage.batches import usable_rows
from tutelage.hypergradient import directional_derivatives
from tutelage.signals import CrossEntropy, Objective

B, T, D = 16, 5, 4


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(D, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(D, 3)

    def forward(self, x: Tensor, hidden: Tensor | None = None, ahead: Tensor | None = None) -> Tensor:
        if ahead is not None and ahead.dim() == 3:
            ahead = ahead[0]
        return self.head(self.layer(x, src_mask=ahead, src_key_padding_mask=hidden)[:, 0])


def model() -> Attending:
    torch.manual_seed(0)
    return Attending().double()


def batch(size: int = B) -> dict:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(size, T, D, generator=g, dtype=torch.float64)
    lengths = 1 + torch.arange(size) % T
    hidden = torch.zeros(size, T, dtype=torch.float64).masked_fill(torch.arange(T) >= lengths[:, None], -torch.inf)
    return {
        "index": torch.arange(size),
        "input": {"x": x, "hidden": hidden},
        "label": torch.randint(3, (size,), generator=g),
    }


def test_what_a_mask_hides_leaves_no_example_out() -> None:
    added, said = batch(), batch()
    said["input"]["hidden"] = added["input"]["hidden"] == -torch.inf
    first, second = model(), model()
    found, expected = (Objective(each, [CrossEntropy()])(b) for each, b in ((first, added), (second, said)))
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected)
    found.mean().backward()
    expected.mean().backward()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_what_is_wrong_beside_a_mask_is_left_out_alone() -> None:
    """NaN and -inf in x."""
    broken, objective = batch(), Objective(model(), [CrossEntropy()])
    expected = objective(batch())
    broken["input"]["x"][1, 0, 0] = torch.nan
    broken["input"]["x"][2, 0, 0] = -torch.inf
    losses = objective(broken)
    good = torch.ones(B, dtype=torch.bool)
    good[[1, 2]] = False
    assert torch.equal(losses.isfinite()[:, 0], good)
    torch.testing.assert_close(losses[good], expected[good])
    losses[good].mean().backward()
    assert all(p.grad.isfinite().all() for p in objective.model.parameters())


class Pooling(nn.Module):
    """Attention by hand, which is 0 / 0 where everything is hidden."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(D, 3)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        weights = (x.sum(2) + hidden).softmax(1)
        return self.head((weights[..., None] * x).sum(1))


def test_an_example_of_which_everything_is_hidden_is_left_out_where_its_missing_label_costs_nothing() -> None:
    torch.manual_seed(0)
    objective, broken = Objective(Pooling().double(), [CrossEntropy()]), batch()
    broken["input"]["hidden"][3] = -torch.inf
    broken["label"][3] = -1
    losses = objective(broken)
    assert losses.isfinite()[:, 0].tolist() == [row != 3 for row in range(B)]
    losses[losses.isfinite()].mean().backward()
    assert all(p.grad.isfinite().all() for p in objective.model.parameters())


def test_a_single_tensor_is_no_mask() -> None:
    features = -torch.ones(3, 2)
    features[1, 0] = -torch.inf
    assert usable_rows(features, 3).tolist() == [True, False, True]
    assert usable_rows((features, torch.ones(3)), 3).tolist() == [True, True, True]
    assert usable_rows((features + 2, torch.ones(3)), 3).tolist() == [True, False, True]
    assert usable_rows((torch.arange(3), torch.arange(3)), 3) is None


def test_a_mask_of_the_whole_batch_says_so() -> None:
    ahead = torch.triu(torch.full((T, T), -torch.inf, dtype=torch.float64), 1)
    whole = batch(T)
    whole["input"]["hidden"] = torch.zeros(T, T, dtype=torch.float64)
    whole["input"]["x"][1, 0, 0] = torch.nan
    objective = Objective(model(), [CrossEntropy()])
    with pytest.raises(RuntimeError) as refused:
        objective({**whole, "input": {**whole["input"], "ahead": ahead}})
    assert "give it a first dimension of 1 that the model takes off: (1, 5, 5)" in "".join(refused.value.__notes__)
    given = {**whole, "input": {**whole["input"], "ahead": ahead[None]}}
    assert objective(given).isfinite()[:, 0].tolist() == [True, False, True, True, True]


def test_derivatives_are_tried_on_few_examples_of_a_masked_batch() -> None:
    objective, whole = Objective(model(), [CrossEntropy()]), batch()
    direction = {name: torch.ones_like(p) for name, p in objective.model.named_parameters()}
    found = directional_derivatives(objective, whole, direction)
    assert found.skipped == 0
    exact = directional_derivatives(copy.deepcopy(objective), whole, direction, "double_backward")
    assert torch.allclose(found.values, exact.values, rtol=1e-6, atol=1e-8)
