"""What processes tell each other about the examples of their batches."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from tutelage.hypergradient.processes import several


def place() -> tuple[int, int]:
    """Return this process's number and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if several() else (0, 1)


def all_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of all processes, in the order of the processes; each may have another number of them.

    Args:
        tensors: (B, ...), all with the same number of rows.
    """
    if not several():
        return tensors
    rank, world = place()
    counts = torch.zeros(world, dtype=torch.int64, device=tensors[0].device)
    counts[rank] = len(tensors[0])
    dist.all_reduce(counts)
    return tuple(_gathered(tensor, counts.tolist()) for tensor in tensors)


def _gathered(rows: Tensor, counts: list[int]) -> Tensor:
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def total(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes."""
    if several():
        values = values.clone()
        dist.all_reduce(values)
    return values
