"""Sums over the processes of a data-parallel run, so that their batches count as one big batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor


def several() -> bool:
    """Say whether there is more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def total_over_processes(count: int, device: torch.device) -> int:
    """Return the sum of the processes' counts."""
    if several():
        counts = torch.tensor([count], device=device)
        dist.all_reduce(counts)
        count = int(counts)
    return count


def mean_over_processes(
    sums: Mapping[str, Tensor], count: int, parameters: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], int]:
    """Return (sum of sums) / (sum of counts) and the latter, over all processes, in one exchange.

    Args:
        sums: for each name that this process knows something of, a sum over its own examples.
        count: how many examples that were.
        parameters: every name that may occur in any process, with a tensor of its shape and type, in the same order everywhere.
    """
    if several():
        names = list(parameters)
        known = [float(name in sums) for name in names]
        flat = [(sums[name] if name in sums else torch.zeros_like(parameters[name])).flatten() for name in names]
        tail = flat[0].new_tensor([*known, float(count)], dtype=torch.float64)
        message = torch.cat(flat)
        dist.all_reduce(message)
        dist.all_reduce(tail)
        count = int(tail[-1])
        pieces = message.split([part.numel() for part in flat])
        sums = {
            name: piece.view_as(parameters[name]).to(parameters[name])
            for name, piece, processes in zip(names, pieces, tail[:-1].tolist(), strict=True)
            if processes
        }
    return {name: value / max(count, 1) for name, value in sums.items()}, count
