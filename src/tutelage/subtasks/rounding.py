"""Hard assignments that guarantee cluster sizes, which the argmax of a transport plan does not."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LEVELS = 2**40  # scores become integers: sums are exact, so no rounding can fake a cycle that pays
_FAR = 2**60  # no path is this long: its at most 2 * K steps cost at most _LEVELS each

Integers = NDArray[np.int64]


def round_to_minimum_size(scores_NK: Tensor, minimum: int) -> Tensor:
    r"""Label every example so that each cluster has at least `minimum` of them, at the highest total score.

    .. math:: \max_{l} \sum_i s_{i, l_i} \quad\text{s.t.}\quad |\{i : l_i = y\}| \ge \text{minimum}

    It is exact (on scores rounded to 2^-40 of their range). From the argmax, which is optimal without bounds, the
    bounds are tightened by one example at a time: clusters are the nodes of a graph, the edge from a to b costs what
    is lost by moving the example of a that minds least, and a cluster that lacks an example gets one along the
    cheapest path from a cluster that can spare one. This is successive shortest paths for minimum-cost flow: after
    every path no cycle of moves gains anything, which is optimality for the bounds so far. The number of paths is the
    number of examples that the argmax puts too few or too many, so scores that are nearly balanced are cheap.

    Args:
        scores_NK: (N, K) finite scores to maximise: `Sinkhorn.log_plan()` repairs the argmax of a plan by changing
            what is least sure; log-probabilities give the likeliest labels of these sizes.
        minimum: least size of a cluster, at most N / K.

    Returns:
        (N,) labels, int64, on the device of the scores.

    Raises:
        ValueError: a minimum that no labelling keeps, a wrong shape, or scores that are not finite.

    Source: Ahuja, Magnanti, Orlin, Network Flows (1993), ch. 9.7.
    """
    if scores_NK.ndim != 2 or not scores_NK.shape[1]:
        raise ValueError(f"scores_NK must be (N, K), K > 0; it is {tuple(scores_NK.shape)}")
    examples, clusters = scores_NK.shape
    if not 0 <= minimum * clusters <= examples:
        raise ValueError(
            f"{examples} examples in {clusters} clusters cannot have sizes of at least minimum={minimum}; the mean size is "
            f"{examples / clusters:.1f}"
        )
    infinite = int((~scores_NK.isfinite()).sum())
    if infinite:
        raise ValueError(f"scores_NK: {infinite} entries are not finite; pass log_plan(), not plan().log()")
    moves = _Moves(scores_NK.detach().double().cpu().numpy())
    for y in range(clusters):
        while moves.sizes_K[y] < minimum:
            moves.along_cheapest_path(moves.sizes_K > minimum, np.arange(clusters) == y)
    return torch.from_numpy(moves.labels_N).to(scores_NK.device)


class _Moves:
    """A labelling, and for every pair of clusters the cheapest move of one example between them."""

    def __init__(self, scores_NK: NDArray[np.float64]) -> None:
        span = float(np.ptp(scores_NK)) if scores_NK.size else 0.0
        self.cost_NK = np.rint((scores_NK.max(initial=-np.inf) - scores_NK) * (_LEVELS / (span or 1.0))).astype(
            np.int64
        )
        clusters = scores_NK.shape[1]
        self.labels_N: Integers = self.cost_NK.argmin(1)
        self.sizes_K: Integers = np.bincount(self.labels_N, minlength=clusters)
        self.move_KK: Integers = np.full((clusters, clusters), _FAR)
        self.mover_KK: Integers = np.full((clusters, clusters), -1)
        for a in range(clusters):
            self._look_for_movers(a, np.arange(clusters))

    def along_cheapest_path(self, may_lose_K: NDArray[np.bool_], may_gain_K: NDArray[np.bool_]) -> None:
        """Take one example from a cluster that may lose one, and give one to a cluster that may gain one."""
        nodes = np.arange(len(may_lose_K))
        length_K: Integers = np.where(may_lose_K, 0, _FAR)
        before_K: Integers = np.full(nodes.size, -1)
        while True:  # Bellman and Ford: ends, because no cycle is negative
            through_KK = length_K[:, None] + self.move_KK
            nearest_K = through_KK.argmin(0)
            shorter_K = through_KK[nearest_K, nodes] < length_K
            if not shorter_K.any():
                break
            length_K = np.where(shorter_K, through_KK[nearest_K, nodes], length_K)
            before_K = np.where(shorter_K, nearest_K, before_K)
        b = int(np.where(may_gain_K, length_K, 2 * _FAR).argmin())
        steps = []
        while before_K[b] >= 0:
            steps.append((int(self.mover_KK[before_K[b], b]), int(before_K[b]), b))
            b = int(before_K[b])
        for example, _, to in steps:
            self.labels_N[example] = to
        for example, a, to in steps:
            self.sizes_K[a] -= 1
            self.sizes_K[to] += 1
            self._look_for_movers(a, np.flatnonzero(self.mover_KK[a] == example))
            extra_K = self.cost_NK[example] - self.cost_NK[example, to]
            extra_K[to] = _FAR
            better_K = extra_K < self.move_KK[to]
            self.move_KK[to, better_K] = extra_K[better_K]
            self.mover_KK[to, better_K] = example

    def _look_for_movers(self, a: int, columns: Integers) -> None:
        """Find anew the cheapest moves out of cluster a, into the clusters `columns`."""
        members = np.flatnonzero(self.labels_N == a)
        columns = columns[columns != a]
        if not members.size:
            self.move_KK[a], self.mover_KK[a] = _FAR, -1
            return
        extra = self.cost_NK[np.ix_(members, columns)] - self.cost_NK[members, a][:, None]
        least = extra.argmin(0)
        self.move_KK[a, columns] = extra[least, np.arange(columns.size)]
        self.mover_KK[a, columns] = members[least]
