"""Batches without an end, for held-out examples in anybody's loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")


def endless(loader: Iterable[T]) -> Iterator[T]:
    """Return an iterator over pass after pass of a loader, each in a new order where the loader shuffles.

    .. code-block:: python

        held_out = endless(DataLoader(Indexed(judges), 64, shuffle=True))
        weighting.adapt(objective, batch, next(held_out), optimizer)

    Nothing is kept in memory, as `itertools.cycle` would. A `DistributedSampler` is told the number of each pass.

    Raises:
        TypeError: ``loader`` is an iterator, of which there is only one pass, or one batch.
        ValueError: a pass yields nothing, such as that of a data set smaller than a batch with ``drop_last``.
    """
    if isinstance(loader, Mapping | Tensor):
        raise TypeError(
            f"loader is a {type(loader).__name__}, one batch and no loader: give the DataLoader, or [batch]"
        )
    if isinstance(loader, Iterator):
        raise TypeError(f"loader is a {type(loader).__name__}, which ends after one pass: give the DataLoader itself")
    return _passes(loader)


def _passes(loader: Iterable[T]) -> Iterator[T]:
    set_epoch = getattr(getattr(loader, "sampler", None), "set_epoch", lambda turn: None)
    for turn in count():
        set_epoch(turn)
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise ValueError(
                "the loader yields no batch: its data set is empty, or smaller than a batch with drop_last"
            )
