import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from tutelage import AMAL, CrossEntropy, Objective, TensorData, endless, sweep

N = 14


def data(seed: int, size: int) -> TensorData:
    g = torch.Generator().manual_seed(seed)
    return TensorData(input=torch.randn(size, 4, generator=g), label=torch.randint(0, 3, (size,), generator=g))


@pytest.mark.parametrize("given", ["loader", "endless"])
def test_a_sweep_is_an_update_on_every_example_and_nothing_else(given: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    objective = Objective(model, [CrossEntropy(), CrossEntropy(smoothing=0.3, name="smoothed")])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader, judges = DataLoader(data(0, N), 4), DataLoader(data(1, 5), 3)  # two held-out batches for four
    weighting, by_hand = AMAL(N, 2), AMAL(N, 2)
    before = copy.deepcopy(model.state_dict())
    assert sweep(weighting, objective, loader, endless(judges) if given == "endless" else judges, optimizer) == 4
    for batch, judge in zip(loader, [*judges, *judges], strict=True):
        by_hand.adapt(objective, batch, judge, optimizer)
    assert torch.equal(weighting.weights, by_hand.weights)
    assert (weighting.visits.whole() == 1).all()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    with pytest.raises(ValueError, match=r"held_out ended after 2 batches: give the DataLoader itself, or endless"):
        sweep(weighting, objective, loader, iter(judges), optimizer)
