"""What a training returns."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(repr=False)
class Fitted:
    """A trained model, and how it came to be.

    Attributes:
        model: the trained model, on the CPU or where it was trained; with the selected weights where something selects.
        steps: optimiser steps taken.
        history: one entry for each evaluation: step, epoch, the signals' mean losses since the one before (NaN where no
            example was finite), the validation's value.
        best: the selected evaluation's entry, or None where nothing selects.
        skipped: examples that had no weight because a loss was not finite.
        weighting_history: what the weighting had learned (see `Weighting.learned`), with the step: before the first step
            and after every ``adapt_every`` steps; empty for a weighting that learns nothing.
    """

    model: nn.Module
    steps: int
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    skipped: int = 0
    weighting_history: list[dict[str, Any]] = field(default_factory=list)

    def __repr__(self) -> str:
        """Return the last evaluations as a table, with a star at the selected one."""
        best = None if self.best is None else self.best["step"]
        rows = [entry for entry in self.history if entry["step"] == best or entry in self.history[-5:]]
        names = list(dict.fromkeys(name for entry in rows for name in entry))
        cells = [[f"{entry.get(name, math.nan):.4g}" for name in names] for entry in rows]
        widths = (
            [max(len(name), *(len(row[place]) for row in cells)) for place, name in enumerate(names)] if rows else []
        )
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (names, *cells)
        ]
        stars = ["", *(" *" if entry["step"] == best else "" for entry in rows)]
        skipped = f", {self.skipped:,} examples skipped" if self.skipped else ""
        head = f"{type(self.model).__name__}: {self.steps:,} steps, {len(self.history)} evaluations{skipped}"
        return "\n".join([head, *(line + star for line, star in zip(lines, stars, strict=True) if rows)])
