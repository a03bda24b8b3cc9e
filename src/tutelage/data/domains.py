"""Domain generalisation as a split: train on all domains but one, test on that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tutelage.data.drawn import Names, stratified_split


def leave_one_domain_out(
    domains: Sequence[str], labels: np.ndarray, *, val: float = 0.2, seed: int = 0
) -> Iterator[tuple[str, Names]]:
    """Yield each domain with the split in which it is the test: names train, val and test, (N,).

    Validation is a share of every class of every training domain, so that nothing of the test's domain selects anything.

    Args:
        domains: the domain of each example, (N,).
        labels: int (N,), its class.
        val: share of the training domains' examples that select.
        seed: of the draw.

    Raises:
        ValueError: fewer than two domains, or a share outside (0, 1).
    """
    names, domain_N = np.unique(np.asarray(domains, dtype=object).astype(str), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"domains: {len(names)} different ones; leaving one out needs at least two")
    if not 0 < val < 1:
        raise ValueError(f"val={val} must be a share in (0, 1)")
    _, stratum_N = np.unique(np.stack([domain_N, np.asarray(labels)]), axis=1, return_inverse=True)
    for place, name in enumerate(names):
        split = np.full(len(domain_N), "test", dtype=object)
        rest = np.flatnonzero(domain_N != place)
        alone = np.arange(len(rest))
        split[rest] = stratified_split(stratum_N.ravel()[rest], alone, {"train": 1 - val, "val": val}, seed)
        yield str(name), split
