"""What serving a candidate only where it is surely better costs and keeps, by simulation.

``python -m benchmarks.choice.guard`` prints the table.
"""

from __future__ import annotations

import numpy as np

from benchmarks.results_table import markdown_table
from tutelage.recipes.served import serve_best

RUNS = 100
PLAIN = 0.8
"""The accuracy of plain training."""
DRAWN_ANEW = 0.3
"""The share of the examples on which a candidate's luck is its own, as that of another training is."""
EXAMPLES = (200, 1000)
GAINS = {
    "useless": [(-0.05,), (-0.01,), (-0.005,), (0.0,), (0.0, 0.0, 0.0), (-0.01, -0.01, -0.01)],
    "useful": [(0.01,), (0.02,), (0.04,), (0.08,), (0.04, 0.0, -0.02)],
}


def served(seed: int, gains: tuple[float, ...], examples: int) -> tuple[float, float]:
    """Return by how much what is served is truly better than plain training, and so of the greatest figure alone."""
    rng = np.random.default_rng([seed, examples])
    luck = rng.random(examples)
    true = {"plain": 0.0} | {f"candidate {place}": gain for place, gain in enumerate(gains)}
    answers = {}
    for name, gain in true.items():
        own = np.where((name != "plain") & (rng.random(examples) < DRAWN_ANEW), rng.random(examples), luck)
        answers[name] = [own < PLAIN + gain]
    choice = serve_best(
        lambda right: float(right.mean()), answers, criterion="accuracy", plain="plain", asked="candidate 0", seed=seed
    )
    return true[choice.chosen], true[max(true, key=lambda name: choice.values[name])]


def main() -> None:
    """Simulate, and print by how much what is served is better or worse than plain training."""
    rows = []
    for kind, cases in GAINS.items():
        for examples in EXAMPLES:
            for gains in cases:
                found = 100 * np.array([served(seed, gains, examples) for seed in range(RUNS)])
                error = np.sqrt((DRAWN_ANEW * 2 * PLAIN * (1 - PLAIN) + max(map(abs, gains))) / examples)
                cells = [
                    f"{mean:+.2f} ± {1.96 * sd / np.sqrt(RUNS):.2f}"
                    for mean, sd in zip(found.mean(0), found.std(0), strict=True)
                ]
                kept = f"{found[:, 0].mean() / max(gains):.0f} %" if max(gains) > 0 else "–"
                told = ", ".join(f"{100 * gain:+g}" for gain in gains)
                rows.append([kind, f"{examples:,}", told, f"{100 * error:.1f}", *cells, kept])
    head = ["candidates", "examples", "true gains", "standard error"]
    print(markdown_table([*head, "served", "served without a margin", "of the gain is kept"], rows))


if __name__ == "__main__":
    main()
