"""Ours against the strongest simple row of each case, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.results_table import DASH, ResultRow, markdown_table


@dataclass(frozen=True)
class Comparison:
    """What of a table is compared with what.

    Attributes:
        metrics: the figures, as they end a metric's name, and whether more of one is better.
        ours: whether a row is ours; the others are what it has to beat.
        beside: whether a row is no rival, say since it sees what the others do not.
    """

    metrics: dict[str, bool]
    ours: Callable[[str], bool]
    beside: Callable[[str], bool] = lambda row: False


def paired(rows: Sequence[ResultRow], comparison: Comparison | None) -> str:
    """Return Markdown: of each case, our rows less the strongest other row, with the seeds paired; empty without such rows.

    The strongest is the one with the best mean over the same seeds, so that the comparison leans against ours. The interval
    is Student's of the mean difference, the p-value that of the two-sided sign test.
    """
    body: list[list[str]] = []
    for metric in dict.fromkeys(row.metric for row in rows):
        case, _, figure = metric.rpartition(": ")
        if comparison is None or figure not in comparison.metrics:
            continue
        sign = 1.0 if comparison.metrics[figure] else -1.0
        measured = {row.row: row.by_seed for row in rows if row.metric == metric and row.by_seed}
        for name, own in measured.items():
            if not comparison.ours(name):
                continue
            rivals = {
                other: values
                for other, values in measured.items()
                if not comparison.ours(other) and not comparison.beside(other) and values.keys() >= own.keys()
            }
            if not rivals:
                continue
            strongest = max(rivals, key=lambda other: sign * fmean(rivals[other][seed] for seed in own))
            less = {seed: sign * (value - rivals[strongest][seed]) for seed, value in own.items()}
            body.append([f"{case}: {figure}", name, strongest, *_judged(less)])
    if not body:
        return ""
    head = ["case", "ours", "strongest other row", "ours is better by", "seeds", "sign test p", ""]
    told = (
        "Differences are paired by seed and positive where ours is better. The strongest other row is that with the best mean "
        "over these same seeds."
    )
    return f"## Against the strongest other row\n\n{told}\n\n{markdown_table(head, body)}\n"


def _judged(less: dict[int, float]) -> list[str]:
    """Return the cells of a difference: the mean with its interval, the seeds won, the sign test's p, the verdict."""
    row = ResultRow.over_seeds("", "", less)
    assert row.ours is not None
    digits = 2 if abs(row.ours) >= 1 else 3
    spread = "" if row.spread is None else f" ± {row.spread:.{digits}f}"
    wins, losses = (sum(sign * value > 0 for value in less.values()) for sign in (1, -1))
    verdict = DASH if row.spread is None else "level"
    if row.spread is not None and abs(row.ours) > row.spread:
        verdict = "better" if row.ours > 0 else "worse"
    return [f"{row.ours:+.{digits}f}{spread}", f"{wins} of {len(less)}", f"{sign_test(wins, losses):.3f}", verdict]


def sign_test(wins: int, losses: int) -> float:
    """Return the two-sided p-value of the exact sign test; ties count for neither side.

    ``p = min(1, 2 sum_{i <= min(wins, losses)} C(n, i) / 2^n)`` with ``n = wins + losses``.
    """
    n = wins + losses
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(min(wins, losses) + 1)) / 2**n)
