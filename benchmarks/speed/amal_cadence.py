"""How often AMAL has to adapt: the AUROC of wrong labels by the number of steps between two updates.

OMP_NUM_THREADS=1 python -m benchmarks.speed.amal_cadence    # writes benchmarks/results/amal-cadence.md
"""

import argparse
import datetime
from pathlib import Path
from statistics import mean

import torch
from examples.own_loop import main as train

from benchmarks.speed.hypergradient_cost import processor

PERIODS, SEEDS, STEPS = (1, 2, 4, 10, 20, 50, 100), 3, 400


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "amal-cadence.md")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    lines = [
        "# How often AMAL has to adapt",
        "",
        f"{datetime.date.today()}; {processor()}, one thread; torch {torch.__version__}, float32.",
        "`examples/own_loop.py`: 1,000 digits with 40 % wrong labels, a teacher; AUROC with which the teacher's weight less",
        f"the label's finds the wrong labels after {STEPS} steps of 64 examples (26 epochs), {SEEDS} seeds. Made by",
        "`OMP_NUM_THREADS=1 python -m benchmarks.speed.amal_cadence`.",
        "",
        "| steps between updates | updates of an example | AUROC | least | greatest |",
        "|--:|--:|--:|--:|--:|",
    ]
    for every in PERIODS:
        found = [train(STEPS, every, seed) for seed in range(SEEDS)]
        updates = STEPS * 64 / 1000 / every
        lines.append(f"| {every} | {updates:.1f} | {mean(found):.3f} | {min(found):.3f} | {max(found):.3f} |")
        print(lines[-1], flush=True)
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
