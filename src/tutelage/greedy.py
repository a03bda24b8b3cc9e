"""Greedy choice of examples whose gains never rise."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import TypeVar

Covered = TypeVar("Covered")


def choose_lazily(
    first: Iterable[tuple[int, float]],
    count: int,
    trial: Callable[[int, Covered], tuple[float, Covered]],
    covered: Covered,
) -> tuple[list[int], list[float]]:
    """Choose the example with the largest gain, again and again; only those on top of a heap are asked anew.

    Args:
        first: each example that may be chosen, with a gain that is at least its first.
        count: how many are chosen; at most so many as there are.
        trial: from an example, and what those chosen before cover, to its gain and what they cover with it.
        covered: what is covered before the first.

    Returns:
        The examples in the order of their choice, and what each gained. Ties go to the first.
    """
    heap = [(-gain, example) for example, gain in first]
    heapq.heapify(heap)
    chosen: list[int] = []
    gains: list[float] = []
    while len(chosen) < count:
        _, example = heapq.heappop(heap)
        gain, after = trial(example, covered)
        if heap and (-gain, example) > heap[0]:
            heapq.heappush(heap, (-gain, example))
            continue
        chosen.append(example)
        gains.append(gain)
        covered = after
    return chosen, gains
