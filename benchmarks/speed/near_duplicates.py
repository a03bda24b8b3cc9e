"""Groups of near-duplicate hashes: a million strangers, and bursts of one template, at the default radius.

OMP_NUM_THREADS=1 python -m benchmarks.speed.near_duplicates    # two minutes; writes results/near-duplicates.md
"""

import argparse
import datetime
import time
import tracemalloc
from pathlib import Path

import numpy as np

from benchmarks.results_table import hardware
from tutelage.data.duplicates import Hashes, near_groups

RADIUS = 16


def strangers(count: int) -> Hashes:
    return np.random.default_rng(0).integers(0, 2**64, (count, 4), dtype=np.uint64, endpoint=False)


def burst(count: int, share: float) -> Hashes:
    """Copies of one hash, each bit turned with this probability."""
    draws = np.random.default_rng(1)
    bits = draws.random((1, 256)) < 0.5
    return np.packbits(bits ^ (draws.random((count, 256)) < share), axis=1).view(np.uint64)


CASES = {
    "1,000,000 random hashes": strangers(1_000_000),
    **{f"4,000 copies, {share:.0%} of the bits turned": burst(4_000, share) for share in (0, 0.01, 0.03, 0.05, 0.1)},
    "40,000 copies, 3% of the bits turned": burst(40_000, 0.03),
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/near-duplicates.md"))
    out = parser.parse_args(arguments).out
    lines = [
        "# Groups of near-duplicate hashes",
        "",
        f"{datetime.date.today()}; {hardware()}, one thread; numpy {np.__version__}.",
        f"256-bit hashes, radius {RADIUS} bits; exact (tests/data/test_duplicates.py compares with all pairs). CPU seconds,",
        "so that a busy machine counts little; memory is the peak beyond the hashes, from a second run.",
        "Made by `OMP_NUM_THREADS=1 python -m benchmarks.speed.near_duplicates`.",
        "",
        "| hashes | CPU seconds | memory, MiB | groups | the largest |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, hashes in CASES.items():
        begin = time.process_time()
        groups = near_groups(hashes, RADIUS)
        took = time.process_time() - begin
        tracemalloc.start()
        near_groups(hashes, RADIUS)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        sizes = np.bincount(groups)
        lines.append(f"| {name} | {took:.2f} | {peak / 2**20:.0f} | {(sizes > 0).sum():,} | {sizes.max():,} |")
        print(lines[-1])
    out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
