"""How derivatives by examples are taken, as weightings ask for them again and again."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor, nn

from tutelage.hypergradient import Derivatives, Strategy

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


class KeptStrategy(nn.Module):
    """The strategy that is asked for or, where that is "auto", the one that was found for the first batch.

    Args:
        asked: see `directional_derivatives`.

    Attributes:
        chosen: the place in `STRATEGIES` of what "auto" found (a buffer, int64, so that a training that goes on after an
            interruption does not try again where its model is then); 0, "auto" itself, before.
    """

    chosen: Tensor

    def __init__(self, asked: Strategy) -> None:
        super().__init__()
        self.asked: Strategy = asked
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))

    @property
    def used(self) -> Strategy:
        """The strategy of the next derivatives."""
        return STRATEGIES[int(self.chosen)] if self.asked == "auto" else self.asked

    def keep(self, found: Derivatives) -> Tensor:
        """Return the derivatives' values, and remember how they were taken; the last layer is looked for every time."""
        if self.asked == "auto" and found.strategy != "last_layer":
            self.chosen.fill_(STRATEGIES.index(found.strategy))
        return found.values
