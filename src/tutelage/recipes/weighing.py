"""What weighs the losses of a recipe's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from tutelage.training import seeds
from tutelage.weighting import Partition, Weighting, registry
from tutelage.weighting.partition import Level


def weighting_of(
    name: str,
    options: Mapping[str, Any],
    model: nn.Module,
    *,
    examples: int,
    signals: int,
    seed: int,
    divide: Callable[[Level], Partition] | None = None,
) -> Weighting:
    """Return a weighting by its name, as a recipe's seed draws it.

    Args:
        name, options: of the registry.
        model: whose losses are weighed.
        examples: how many the index of a batch counts.
        signals: how many losses there are.
        seed: of the run; a weighting may begin with a random network.
        divide: how a level divides the model; by default each part is a module, as several losses reach them all.
    """
    with seeds.fixed(seed, "weighting"):
        return registry.build(
            name,
            model=model,
            num_examples=examples,
            num_signals=signals,
            divide=divide or (lambda level: Partition.of(model, level, heads=[])),
            **options,
        )
