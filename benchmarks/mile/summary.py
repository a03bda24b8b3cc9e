"""MILe's tables as rows of figures over seeds, what to know when reading them, and the ablations as heat maps."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.given import given
from benchmarks.mile import attributes, laptop, web
from benchmarks.mile.table import Figure, measure, paper_variants, pocket_variants
from benchmarks.only import check_only
from benchmarks.paired import Comparison
from benchmarks.results_table import Measured, ResultRow, rows_of
from tutelage.recipes.base import Scale

BY_BUDGETS = "by k_t and k_s"
# Rows in hindsight choose by the test's own labels.
COMPARED = Comparison(
    dict.fromkeys(("F1@0.25", "ReaL F1@0.25", "F1@chosen", "F1", "top-1, %"), True),
    lambda row: row.startswith("MILe"),
    beside=lambda row: "hindsight" in row,
)


def results(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> tuple[list[ResultRow], list[str]]:
    """Measure the tables; return their figures and the notes below them. Arguments as in `measure`.

    Raises:
        ValueError: a part that there is not, or laptop without data.
    """
    if scale == "laptop":
        return _at_laptop(seeds, data, runs, only)
    found = list(measure(scale, seeds=seeds, data=data, runs=runs, only=only))
    values: dict[tuple[str, str], list[Figure]] = defaultdict(list)
    for figure in found:
        values[figure.row, figure.metric].append(figure)
    rows = [
        ResultRow.over_seeds(row, metric, {figure.seed: figure.value for figure in same}, same[0].paper)
        for (row, metric), same in values.items()
    ]
    return rows, [*_gains(values), *_reading(scale, data)]


def _at_laptop(seeds: int, data: Path | None, runs: Path, only: tuple[str, ...]) -> tuple[list[ResultRow], list[str]]:
    data = given(data)
    shares, cases = ([each.name for each in listed] for listed in (laptop.SHARES, web.CASES))
    check_only(only, [*shares, attributes.CASE, *cases], "part")
    found: list[Measured] = []
    notes: list[str] = []
    for part, names in ((laptop, shares), (attributes, [attributes.CASE]), (web, cases)):
        if own := [name for name in names if not only or name in only]:
            found += part.measure(data, runs, seeds=seeds, only=tuple(own))
            notes += part.reading()
    return rows_of(found), notes


def _gains(values: dict[tuple[str, str], list[Figure]]) -> list[str]:
    notes = []
    for group in ("grids of digits", "grids of MNIST"):
        mile, sigmoid = (values.get((row, f"{group}: F1@0.25"), []) for row in ("MILe", "Sigmoid"))
        if mile and sigmoid:
            gains = [a.value - b.value for a, b in zip(mile, sigmoid, strict=True)]
            sizes = [figure.value for figure in values["MILe", f"{group}: set size@0.25"]]
            notes.append(
                f"{group}: MILe at rho = 0.1 is {min(gains):.1f} to {max(gains):.1f} points of F1@0.25 above the sigmoid, "
                f"naming {min(sizes):.1f} to {max(sizes):.1f} of ten digits; there are 6.13 in a grid. The paper: 12.3 points."
            )
    return notes


def _reading(scale: Scale, data: Path | None) -> list[str]:
    variants = pocket_variants() if scale == "pocket" else paper_variants()
    it, budget = variants.grids.iterated, variants.grids.budget
    notes = [
        f"Grids: {variants.sizes['train']:,} to train on, {variants.grids.model.name}, {budget}, the same optimiser "
        f"({variants.grids.training.optimizer}, {variants.grids.training.lr:g}) for all rows, no selection of weights. MILe: "
        f"rho = {it.rho:g}, k_t = {it.interaction}, k_s = {it.imitation}, as Algorithm 1 prints it; as released, the student "
        "goes on from its teacher's weights.",
        "The paper does not say which network, how many grids, nor k_t and k_s; so its figures stand beside ours for the order "
        "and the gap, not for the height. Naming one right digit has an F1 of 28.6 (the paper's Softmax), naming all ten 75.5, "
        "more than the paper's MILe: hence the set size beside every F1.",
        "Rows `chosen on validation` see one given label an image, and choose by the score of added labels (r^2 / q, by which "
        "naming everything scores 1). They choose among the ablations' settings; the row in hindsight shows the best of the "
        "same settings by the test's own labels. The test chooses nothing else.",
        "Figures 3 and 5 of the paper print no numbers. Two iterations: half the budget for the labels, half for a fresh "
        "student.",
        "MILe has as many backward passes as its baselines in every row. Learning rate, network and budget are common to all "
        "methods and were tuned for none; k_t, k_s and rho of MILe were chosen among eleven settings, on a seed below 300, "
        "ELR's numbers are its paper's.",
    ]
    if data is None:
        return [*notes, "MNIST and CIFAR-10 were not measured: no folder of data was given."]
    return [
        *notes,
        "CIFAR-10N and 10H: trained on one rater's label (17 % wrong), judged by the classes that at least two of about 51 "
        "raters named (1.35 an image), at threshold 0.25; MILe at rho = 0.25. The paper's figures are ResNet-50's on ImageNet "
        "and ReaL (table 1), another task at the same shares: only orders can be compared.",
    ]


def heat_maps(rows: list[ResultRow]) -> dict[str, str]:
    """Return the ablations as SVG, by name: F1 and set size by k_t and k_s, and by rho; those that were measured."""
    from benchmarks.heat import heat_map

    plots = {}
    for name, label in (("F1", "f1"), ("set size", "set-size")):
        cells = {}
        for row in rows:
            at = re.fullmatch(rf"{name}@0\.25 {BY_BUDGETS}: k_s = (\d+)", row.metric)
            if at and row.ours is not None:
                cells[int(row.row.removeprefix("k_t = ")), int(at[1])] = row.ours
        if not cells:
            continue
        interactions, imitations = (sorted({key[place] for key in cells}) for place in (0, 1))
        values = np.array([[cells.get((t, s), np.nan) for s in imitations] for t in interactions])
        plots[f"budgets-{label}"] = heat_map(
            values,
            [str(t) for t in interactions],
            [str(s) for s in imitations],
            title=f"{name} at threshold 0.25",
            y_label="interaction k_t",
            x_label="imitation k_s",
            name=f"budgets-{label}",
            alt=f"{name} at threshold 0.25 by k_t and k_s, from {np.nanmin(values):.1f} to {np.nanmax(values):.1f}.",
        )
    at_rho: dict[float, dict[str, float]] = defaultdict(dict)
    for row in rows:
        if row.metric.startswith("rho: ") and row.ours is not None:
            at_rho[float(row.row.removeprefix("rho = "))][row.metric.removeprefix("rho: ")] = row.ours
    if at_rho:
        shown = ["F1@0.25", "F1@0.5", "ReaL accuracy"]
        values = np.array([[figures.get(metric, np.nan) for metric in shown] for _, figures in sorted(at_rho.items())])
        plots["rho"] = heat_map(
            values,
            [f"{rho:g}" for rho in sorted(at_rho)],
            shown,
            title="by the threshold of the pseudo-labels",
            y_label="rho",
            x_label="",
            name="rho",
            alt=f"F1 and accuracy by rho, from {np.nanmin(values):.1f} to {np.nanmax(values):.1f}.",
        )
    return plots
