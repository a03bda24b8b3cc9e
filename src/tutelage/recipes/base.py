"""What several recipes share: their scales, and how their settings train a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tutelage.training import Log, Plan

Scale = Literal["pocket", "laptop", "paper"]
"""The sizes at which every recipe comes."""


def plan_of(settings: Any, out: Path, log: Log, **own: Any) -> Plan:
    """Return how a recipe's settings train a model in a folder; ``own`` is what this training has in the plan of its own."""
    shared = Plan(
        settings.budget,
        settings.training,
        adapt_every=settings.adapt.every,
        held_out_batch_size=settings.adapt.batch_size,
        seed=settings.seed,
        hardware=settings.hardware,
        out=out,
        log=log,
        optimization_name="training",
    )
    return replace(shared, **own)
