"""Two processes with unequal shares of a batch equal one process with all of it."""

from pathlib import Path

import torch
from hostile_models import batch_of, distance, mlp, weights_of
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import processes
from tutelage.hypergradient import (
    directional_derivatives,
    look_ahead_direction,
    look_ahead_gradient,
    module_derivatives,
    neumann_direction,
)
from tutelage.signals import CrossEntropy, Distillation, Objective
from tutelage.weighting import ModuleWeights

EXAMPLES, HELD_OUT = 8, 5
SHARES = [(slice(0, 5), slice(0, 1)), (slice(5, 8), slice(1, 5))]


def everything(model: nn.Module, rows: slice, held_out_rows: slice) -> dict[str, Tensor]:
    """Return what each public function says of some rows; "(B" in the name where it has a row for each of them."""
    objective = Objective(model, [CrossEntropy(), Distillation("teacher", temperature=3.0)])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05, eps=1e-3)
    batch = {key: value[rows] for key, value in batch_of(EXAMPLES).items()}
    held_out = {key: value[held_out_rows] for key, value in batch_of(HELD_OUT, seed=7).items()}
    u_BK = weights_of(EXAMPLES, 2)[rows]
    modules = {name: int(name.endswith("2.weight")) for name, _ in model.named_parameters()}
    a = ModuleWeights(torch.tensor([[1.0, 1.0], [0.5, 2.0]], dtype=torch.float64), modules)

    found: dict[str, Tensor] = {}
    direction = look_ahead_direction(objective, batch, held_out, optimizer, u_BK, a)
    series = {
        strategy: neumann_direction(objective, batch, held_out, 0.1, 3, u_BK, a, strategy).direction
        for strategy in ("double_backward", "finite_difference")
    }
    for kind, vector in {"look ahead": direction, **series}.items():
        found |= {f"{kind} {name.removeprefix('module.')}": p for name, p in vector.items()}
    found["module derivatives"] = module_derivatives(objective, batch, direction, modules, u_BK)
    for strategy in ("last_layer", "forward_mode", "finite_difference"):
        found[f"gradient (B, K) {strategy}"] = look_ahead_gradient(
            objective, batch, held_out, optimizer, u_BK, strategy=strategy
        ).values
    found["derivatives (B, K)"] = directional_derivatives(objective, batch, direction).values
    assert all(p.grad is None for p in model.parameters())
    return found


def in_one_process(rank: int, folder: str) -> None:
    with processes.group():
        torch.manual_seed(0)
        model = mlp().double()
        torch.save(everything(model, *SHARES[rank]), Path(folder) / f"plain{rank}.pt")
        wrapped = DistributedDataParallel(model)
        torch.save(everything(wrapped, *SHARES[rank]), Path(folder) / f"wrapped{rank}.pt")
        wrapped(batch_of()["input"]).sum().backward()  # the wrapper's own bookkeeping is unharmed


def test_two_processes_equal_one_big_batch(tmp_path):
    torch.manual_seed(0)
    expected = everything(mlp().double(), slice(None), slice(None))
    processes.together(2, in_one_process, str(tmp_path))
    for kind in ("plain", "wrapped"):
        found = [torch.load(tmp_path / f"{kind}{rank}.pt", weights_only=True) for rank in range(2)]
        for name, value in expected.items():
            if "(B" in name:
                assert distance(torch.cat([part[name] for part in found]), value) < 1e-7, (kind, name)
            else:
                assert all(distance(part[name], value) < 1e-7 for part in found), (kind, name)
