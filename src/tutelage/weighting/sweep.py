"""One update of a weighting for every training example, in anybody's loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tutelage.batches import Batch, to_device
from tutelage.data.endless import endless
from tutelage.hypergradient import Optimizers
from tutelage.signals import Objective
from tutelage.weighting.base import Weighting


def sweep(
    weighting: Weighting,
    objective: Objective,
    loader: Iterable[Batch],
    held_out: Iterable[Batch],
    optimizer: Optimizers,
) -> int:
    """Call ``weighting.adapt`` on each batch of a loader, between two epochs of training, and return how often.

    The schedule of AMAL's released program, every ten epochs, in the place of an update every few steps of training.

    Args:
        weighting: what learns.
        objective: the `Objective` whose losses are weighed.
        loader: the training examples, batch by batch.
        held_out: a loader of examples that are not trained on, begun anew as often as needed, or an `endless` iterator over it.
        optimizer: the model's own, whose step is looked ahead.

    Raises:
        ValueError: ``held_out`` is an iterator that ends before the loader does.
    """
    judges = held_out if isinstance(held_out, Iterator) else endless(held_out)
    device = next(objective.model.parameters()).device
    count = 0
    for batch in loader:
        judge = next(judges, None)
        if judge is None:
            raise ValueError(f"held_out ended after {count} batches: give the DataLoader itself, or endless(loader)")
        weighting.adapt(objective, to_device(batch, device), to_device(judge, device, "held_out"), optimizer)
        count += 1
    return count
