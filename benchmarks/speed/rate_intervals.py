"""How often intervals of NPV at a false-positive rate hold the truth: by order statistics, and by the percentile bootstrap.

``python -m benchmarks.speed.rate_intervals`` prints the table.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy.stats import norm, t

from benchmarks.results_table import markdown_table
from tutelage.metrics import bootstrap, intervals_at_fpr, npv_at_fpr

REPEATS = 300
RESAMPLES = 200
CASES = [(160, 0.01), (160, 0.05), (800, 0.01), (800, 0.05), (40, 0.05)]  # defects, and the rate
SHAPES = {"normal": norm(), "heavy tails": t(3)}
TIMES, APART = 5, 2.5  # acceptable examples for a defect, and by how much their scores are higher


def main() -> None:
    """Simulate, and print a table of how often the truth lies below and above."""
    rows = []
    for shape, drawn in SHAPES.items():
        for defects, fpr in CASES:
            flagged = float(drawn.cdf(drawn.ppf(1 - fpr) - APART))
            truth = (1 - fpr) / (1 - fpr + TIMES * flagged)
            labels = np.repeat([0, 1], [defects, TIMES * defects])
            misses = {"bootstrap": np.zeros(2), "order statistics": np.zeros(2)}
            for seed in range(REPEATS):
                rng = np.random.default_rng([seed, defects])
                scores = drawn.rvs(labels.size, random_state=rng) + APART * labels
                made = {
                    "bootstrap": bootstrap(
                        partial(npv_at_fpr, fpr=fpr), scores, labels, resamples=RESAMPLES, seed=seed
                    ),
                    "order statistics": intervals_at_fpr(scores, labels, fpr, seed=seed)["npv_at_fpr"],
                }
                for name, each in made.items():
                    misses[name] += (truth < each.low, truth > each.high)
            cells = [f"{100 * share:.1f} %" for name in misses for share in misses[name] / REPEATS]
            rows.append([shape, str(defects), f"{fpr:.0%}", f"{truth:.3f}", *cells])
    head = ["scores", "defects", "rate", "true NPV"]
    head += [f"{name}: truth {side}" for name in ("bootstrap", "order statistics") for side in ("below", "above")]
    print(markdown_table(head, rows))


if __name__ == "__main__":
    main()
