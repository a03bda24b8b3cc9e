"""What the machine gives this process: processors, and float64 where a device has it."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@cache
def precise(device: torch.device) -> torch.dtype:
    """Return float64 where the device has it, and float32 elsewhere."""
    import torch

    try:
        torch.empty(1, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return torch.float32
    return torch.float64


def available_cpus(root: Path = Path("/")) -> int:
    """Return how many processors this process may keep busy: those that it may run on, within its container's quota.

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return count
    quotas = [float(count)]
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers
        own = top / path.lstrip("/")
        quotas += [_quota(folder) for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return max(1, math.ceil(min(quotas)))


def _quota(group: Path) -> float:
    """The processors' worth of time that a control group (version 2, or 1) may take; infinite where it says nothing."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if quota != "max" and int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
