"""How well wrong labels are found: AUROC, and the share of wrong ones among the first 100, 500 and 1,000 of each list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from benchmarks.given import given
from benchmarks.labels.cases import COUNT, COUNT_100, HELD_OUT, MANY, VOTES, cases
from benchmarks.labels.methods import AMAL_CLEAN, OURS, ranked
from benchmarks.only import check_only
from benchmarks.paired import Comparison
from benchmarks.results_table import Measured, ResultRow, rows_of
from tutelage.metrics import auroc
from tutelage.recipes.base import Scale
from tutelage.training import Log

FIRST_SEED = 300  # the combination was chosen on seeds below 300
LEADING = (100, 500, 1000)
FIGURES = ("AUROC", *(f"wrong among the first {count:,}" for count in LEADING))
BEYOND = "ours less cleanlab's best"
COMPARED = Comparison(
    dict.fromkeys(FIGURES, True), lambda row: row == OURS, beside=lambda row: row in (BEYOND, AMAL_CLEAN)
)


def results(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> tuple[list[ResultRow], list[str]]:
    """Measure the table; return its figures and the notes below it.

    Args:
        scale: laptop.
        seeds: number of seeds: each draws other images, and other folds and orders for the heads.
        data: the folder of the real data sets.
        runs: where encoders and features lie; what is done there is not done again.
        only: names of cases; all by default.

    Raises:
        ValueError: no folder of data, or a name in ``only`` that is no case.
    """
    data = given(data)
    made = dict(cases(data, runs))
    check_only(only, made)
    log, measured = Log(None, quiet=False), []
    for case, draw in made.items():
        if only and case not in only:
            continue
        found: list[Measured] = []
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            labels = draw(seed)
            wrong = labels.wrong[:-HELD_OUT]
            for method, doubt in ranked(labels, seed).items():
                found += (Measured(case, method, seed, figure, value) for figure, value in judged(doubt, wrong).items())
            (ours,) = (each.value for each in found if (each.row, each.figure, each.seed) == (OURS, "AUROC", seed))
            log.say(f"{case}, seed {seed}: {wrong.mean():.3f} wrong; AUROC of ours {ours:.3f}")
        measured += [*found, *beyond(found)]
    return rows_of(measured), [
        "All methods rank the labels by the same out-of-sample predictions (the mean log-probability of a ridge regression "
        "that leaves each example out, and of softmax regressions in five folds) and the same features; Dataset Cartography, "
        "AUM and small loss by the training of a softmax regression on all labels. AMAL alone sees labels that are known to be "
        f"right, those among {HELD_OUT} further images, as its paper assumes; the predictions are its teacher. cleanlab 2.9.0.",
        f"{COUNT:,} images a seed, {COUNT_100:,} or {MANY:,} of CIFAR-100, and 3,600 photographs less {HELD_OUT} of products. "
        f"Of the {MANY:,} a seed shares most with the other seeds of its half, so that their intervals are too narrow.",
        "CIFAR-10's features are by an encoder trained on CIFAR-100, the products' by one trained on other article types. "
        "CIFAR-100N: by one trained on CIFAR-10 and then on people's labels of those CIFAR-100 images that are not judged, as "
        "whoever has no other encoder would; below it by the one trained on CIFAR-10 alone.",
        f"CIFAR-10H: found is to be that at least {VOTES} of about 51 raters name a class beside the given one.",
        f"'{BEYOND}': by seed, the difference to the cleanlab row with the best mean. The form of what ours combines "
        "and its constants were chosen on seeds 100 to 102 of all cases.",
    ]


def judged(doubt: NDArray[np.float64], wrong: NDArray[np.bool_]) -> dict[str, float]:
    """Return the figures of a ranking; of equal doubts those that come first count first."""
    order = np.argsort(-doubt, kind="stable")
    values = [auroc(doubt, wrong.astype(np.int64)), *(float(wrong[order[:count]].mean()) for count in LEADING)]
    return dict(zip(FIGURES, values, strict=True))


def beyond(found: list[Measured]) -> Iterator[Measured]:
    """Yield, for each figure of a case, ours less the best of cleanlab's rows, seed by seed."""
    for figure in FIGURES:
        by_row: dict[str, dict[int, float]] = defaultdict(dict)
        for each in found:
            if each.figure == figure:
                by_row[each.row][each.seed] = each.value
        theirs = [values for row, values in by_row.items() if row.startswith("cleanlab")]
        best = max(theirs, key=lambda values: fmean(values.values()))
        for seed, value in by_row[OURS].items():
            yield Measured(found[0].case, BEYOND, seed, figure, value - best[seed])
