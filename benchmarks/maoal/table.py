"""MAOAL's tables, measured: every method on every case, and the paper's figures beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.maoal.cases import EVIDENCE, ROWS, Case, cases
from benchmarks.maoal.ridge import Way, ridge_error
from benchmarks.paired import Comparison
from benchmarks.results_table import Measured, ResultRow
from tutelage.recipes.auxiliary.judgement import MEASURES
from tutelage.recipes.auxiliary.pipeline import Learned, Pipeline
from tutelage.recipes.base import Scale
from tutelage.training import Log

FIRST_SEED = 200  # settings were chosen on seeds below 200
RIDGE: dict[str, Way] = {
    "SLL": "single",
    "Equal": "equal",
    "MAOAL, whole model": "model",
    "MAOAL, by parameter": "parameter",
    "MAOAL": "block",
}
RIDGE_CASE = "two-module ridge"


def estimate(scale: Scale, seeds: int, data: Path | None, only: tuple[str, ...] = ()) -> str:
    """Return a sentence that says about how long the table takes."""
    minutes = sum(
        case.minutes
        for case in cases(scale)
        if (data is not None or case.data is None) and (not only or case.name in only)
    )
    return f"about {seeds * minutes:,.0f} core-minutes for {seeds} seeds, where nothing is done yet"


def measure(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> Iterator[Measured]:
    """Train and judge every method on every case and seed; stages that are done under ``runs`` are kept.

    Args:
        scale: pocket or paper.
        seeds: number of seeds.
        data: the folder of the real data sets; without it, only what needs none.
        runs: where the stages lie.
        only: names of cases, and of `ROWS`; all by default.

    Raises:
        ValueError: a name in ``only`` that is neither.
    """
    listed = cases(scale)
    names = [RIDGE_CASE, *(case.name for case in listed), *ROWS]
    if unknown := set(only) - set(names):
        raise ValueError(f"only={sorted(unknown)}: no such case or row; there are {names}")
    rows = {row: method for row, method in ROWS.items() if row in only} or ROWS
    only = tuple(name for name in only if name not in ROWS)
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        if not only or RIDGE_CASE in only:
            for row, way in RIDGE.items():
                yield Measured(RIDGE_CASE, row, seed, "squared error", ridge_error(way, seed))
        for case in listed:
            if (case.data is not None and data is None) or (only and case.name not in only):
                continue
            settings = replace(case.settings, seed=seed)
            problem = case.make(data / case.data if data is not None and case.data is not None else Path(), settings)
            folder = runs / f"maoal-{scale}" / case.name.replace(", ", "-").replace(" ", "-") / f"seed-{seed}"
            log = Log(folder / "log.jsonl", quiet=False)
            pipeline = Pipeline(problem, settings, folder, log)
            for row, method in rows.items():
                found = _learned(pipeline, row, method, case)
                for measure in MEASURES[problem.primary.kind]:
                    value = measure.figure(found.outcomes)
                    log.say(f"{case.name}, seed {seed}, {row}: {measure.name} {value:.4f}")
                    yield Measured(case.name, row, seed, measure.name, value)


def _learned(pipeline: Pipeline, row: str, method: str, case: Case) -> Learned:
    if method == "equal" and case.equal:
        constant = {"fixed": {"weights": [1.0, *case.equal]}}
        return pipeline.with_settings(replace(pipeline.settings, weighting_defaults=constant)).learned("fixed")
    if row == "MAOAL, evidence":
        given = pipeline.settings.weighting_defaults
        asked = {**given, "maoal": {**given.get("maoal", {}), "evidence": EVIDENCE}}
        return pipeline.with_settings(replace(pipeline.settings, weighting_defaults=asked)).learned(
            method, "maoal-evidence"
        )
    return pipeline.learned(method)


UNITS = {
    "accuracy": (100.0, "accuracy, %"),
    "mean_iou": (100.0, "mean IoU, %"),
    "pixel_accuracy": (100.0, "pixel accuracy, %"),
    "rmse": (1.0, "RMSE"),
    "squared error": (1.0, "squared error"),
}


def results(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> tuple[list[ResultRow], list[str]]:
    """Measure the tables; return their figures and the notes below them. Arguments as in `measure`."""
    print(f"maoal, {scale} scale: {estimate(scale, seeds, data, only)}")
    found = list(measure(scale, seeds=seeds, data=data, runs=runs, only=only))
    papers = {case.name: case.paper for case in cases(scale)}
    listed = []
    keys = dict.fromkeys((each.case, each.figure, each.row) for each in found)
    for case, figure, row in keys:
        factor, label = UNITS[figure]
        values = {
            each.seed: factor * each.value
            for each in found
            if (each.case, each.figure, each.row) == (case, figure, row)
        }
        paper = papers.get(case, {}).get(figure, {}).get(row)
        listed.append(ResultRow.over_seeds(row, f"{case}: {label}", values, paper))
    return listed, _reading(scale)


LESS_IS_BETTER = ("rmse", "squared error")
COMPARED = Comparison(
    {label: figure not in LESS_IS_BETTER for figure, (_, label) in UNITS.items()}, lambda row: row.startswith("MAOAL")
)


def _reading(scale: Scale) -> list[str]:
    notes = [
        "Methods that learn nothing on the held-out part are trained on it too, as in the paper. All have the same network, "
        "optimiser, budget and selection on the validation part; HPO-tune has that budget in each of its trials "
        "(2 to 4 at pocket scale, 10 at the paper's). The test part selects nothing; the released "
        "program of the paper selects by the best test accuracy.",
        "Two-module ridge: errors of the coefficients; the prior is right for one module and arbitrary for the other.",
        "MovieLens: ratings of 3 are left out, as in the paper's program. The row Equal gives the L2 regulariser the weight 1, "
        "as the paper's does; for all others it is in units of 1e-3.",
    ]
    if scale == "pocket":
        notes += [
            "Digits with a mistaken annotator: one side task judges the digit's own head by labels that are one too high, the "
            "other is the parity; 30 % of the digits' labels are used.",
            "MovieLens: all ratings of 400 random users of 6,040 (another sample for each seed), 4 epochs. Sparser than the "
            "whole, so regularisation may help here where it harms in the paper.",
            "CIFAR-100: 100 training images of each of the 55 classes at 16 pixels and a network of 3 blocks in 6 epochs, in "
            "the place of 500 at 32 pixels and a ResNet-18 in 200. Signs can be compared, magnitudes cannot.",
            "CIFAR-100 and products: 5 % of the labelled examples develop weights, the paper's share. That was set after a run "
            "on these same seeds with 15 %, which MAOAL and AuxL lost by about 5 points: those examples are lost for training.",
            "Products: article types of 4,000 photographs at 24 pixels, with colour, season and gender as side tasks; in the "
            "place of CUB's and Pet's rows of Table 2, whose figures are of other data.",
            "NYUv2: 96 x 72 pixels, 4 epochs of a small encoder and decoder from random weights; normals derived from depth.",
        ]
    return notes
