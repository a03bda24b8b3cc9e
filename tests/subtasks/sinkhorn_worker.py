"""One of two processes that solve one transport problem; apart from the tests, so that it imports little."""

import math

import torch
import torch.distributed as dist

import processes
from tutelage.subtasks.sinkhorn import sinkhorn

SHARDS = {"even": [50, 50], "uneven": [99, 1], "one empty": [0, 100]}


def random_log_p(n: int, k: int, seed: int = 0, scale: float = 2.0) -> torch.Tensor:
    z = torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (scale * z).log_softmax(1)


def one_of_two(rank: int, folder: str) -> None:
    with processes.group():
        found = {}
        for name, counts in SHARDS.items():
            mine = random_log_p(100, 8).split(counts)[rank]
            result = sinkhorn(mine, 250.0, group=dist.group.WORLD)
            found[name] = (result.log_scale_K, result.plan(), result.labels, result.iterations)
        bad = random_log_p(100, 8).split([50, 50])[rank]
        if rank:
            bad[3, 2] = math.nan
        try:
            sinkhorn(bad, 250.0, group=dist.group.WORLD)
        except ValueError as error:
            found["error"] = str(error)
        torch.save(found, f"{folder}/{rank}.pt")
