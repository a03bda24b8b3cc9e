"""MAOAL's tables, measured: every method on every case, and the paper's figures beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.heat import heat_map
from benchmarks.maoal.cases import LEVELS, ROWS, SERVED, THRICE, Case, cases
from benchmarks.maoal.laptop import laptop_cases, redrawn
from benchmarks.maoal.ridge import Way, ridge_error
from benchmarks.only import check_only
from benchmarks.paired import Comparison
from benchmarks.results_table import Measured, ResultRow, rows_of
from tutelage.recipes.auxiliary.evaluation import served, with_mean
from tutelage.recipes.auxiliary.judgement import MEASURES
from tutelage.recipes.auxiliary.pipeline import Learned, Pipeline
from tutelage.recipes.auxiliary.settings import EVIDENCE, PLAIN, REFIT, AuxiliarySettings
from tutelage.recipes.auxiliary.task import AuxiliaryTask
from tutelage.recipes.base import Scale
from tutelage.training import Log

FIRST_SEED = {"pocket": 200, "laptop": 320, "paper": 200}  # settings were chosen on seeds below
RIDGE: dict[str, Way] = {
    "SLL": "single",
    "Equal": "equal",
    "MAOAL, whole model": "model",
    "MAOAL, by parameter": "parameter",
    "MAOAL": "block",
}
RIDGE_CASE = "two-module ridge"
IMPORTANCE = "importance"


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
    names = [RIDGE_CASE, *(case.name for case in known), *ROWS, *LEVELS]
    check_only(only, names, "case or row")
    every = {**ROWS, **dict.fromkeys(LEVELS, "maoal")}
    rows = {row: method for row, method in every.items() if row in only} or every
    only = tuple(name for name in only if name not in every)
    for seed in range(FIRST_SEED[scale], FIRST_SEED[scale] + seeds):
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
                if row in LEVELS and not case.levels:
                    continue
                found = trained.by(row, method)
                if row == "MAOAL" and case.levels:
                    yield from _importances(case, seed, problem, found)
                for measure in MEASURES[problem.primary.kind]:
                    value = measure.figure(found.outcomes)
                    log.say(f"{case.name}, seed {seed}, {row}: {measure.name} {value:.4f}")
                    yield Measured(case.name, row, seed, measure.name, value)


def _importances(case: Case, seed: int, problem: AuxiliaryTask, found: Learned) -> Iterator[Measured]:
    """Yield how far each side task counts in each module at six places of a training (the paper's Figure 4)."""
    history = found.weighting_history
    for share in range(6):
        entry = history[round(share / 5 * (len(history) - 1))]
        for task, values in zip(problem.sides, entry["importance"], strict=True):
            for module, value in zip(found.modules, values, strict=True):
                place = f"after {20 * share} % of the training"
                yield Measured(f"{IMPORTANCE}, {case.name}", place, seed, f"{task.name} in {module}", value)


class _Trained:
    """The trainings of one case and seed: as the paper has MAOAL, and as `tutelage auxiliary` does, with evidence."""

    def __init__(self, case: Case, problem: AuxiliaryTask, settings: AuxiliarySettings, folder: Path, log: Log) -> None:
        given = settings.weighting_defaults
        options = {name: value for name, value in given.get("maoal", {}).items() if name != "evidence"}
        self.case, self.problem = case, problem
        self.settings = replace(settings, weighting_defaults={**given, "maoal": options})
        self.paper = Pipeline(problem, self.settings, folder, log)
        ours = {**given, "maoal": {**options, "evidence": EVIDENCE}}
        again = settings.shares if case.held_out is None else replace(settings.shares, held_out=case.held_out)
        self.ours = Pipeline(
            problem if case.held_out is None else redrawn(problem, again, settings.seed),
            replace(settings, weighting_defaults=ours, shares=again),
            folder / "evidence",
            log,
        )
        self.by_level = {
            row: Pipeline(problem, self._with(options | {"partition": level}), folder / level, log)
            for row, level in LEVELS.items()
        }

    def _with(self, options: dict[str, Any]) -> AuxiliarySettings:
        return replace(self.settings, weighting_defaults={**self.settings.weighting_defaults, "maoal": options})

    def by(self, row: str, method: str) -> Learned:
        """Return the training of a row."""
        if row == SERVED:
            return self.served()
        if row in THRICE:  # as much work as what is served
            return self.paper.with_settings(replace(self.settings, copies=3)).together([self.paper.learned(method)])
        if row in self.by_level:
            return self.by_level[row].learned(method)
        if row != "MAOAL" and method in ("maoal", REFIT):
            return self.ours.learned(method)
        if method == "equal" and self.case.equal:
            constant = {"fixed": {"weights": [1.0, *self.case.equal]}}
            return self.paper.with_settings(replace(self.settings, weighting_defaults=constant)).learned("fixed")
        return self.paper.learned(method)

    def served(self) -> Learned:
        """Return what the validation part chooses of what `tutelage auxiliary` trains."""
        found = {method: self.ours.learned(method) for method in ("maoal", REFIT, "equal", PLAIN)}
        found = with_mean(self.ours, found)
        return found[served(self.ours.problem, self.ours.settings, found).chosen]


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
    papers = {
        (case.name, _in_units(figure)[1], row): value
        for case in listed(scale, runs)
        for figure, by_row in case.paper.items()
        for row, value in by_row.items()
    }
    found = []
    for each in measure(scale, seeds=seeds, data=data, runs=runs, only=only):
        factor, label = _in_units(each.figure)
        found.append(replace(each, figure=label, value=factor * each.value))
    return rows_of(found, papers), _reading(scale)


def _in_units(figure: str) -> tuple[float, str]:
    return UNITS.get(figure, (1.0, figure))


LESS_IS_BETTER = ("rmse", "squared error")
COMPARED = Comparison(
    {label: figure not in LESS_IS_BETTER for figure, (_, label) in UNITS.items()},
    lambda row: row.startswith("MAOAL") or row == SERVED,
)


def importances(rows: list[ResultRow]) -> dict[str, str]:
    """Return the importances over a training as a picture, where there are some."""
    shown = [row for row in rows if row.metric.startswith(IMPORTANCE) and row.ours is not None]
    if not shown:
        return {}
    places, columns = (list(dict.fromkeys(names)) for names in ([r.row for r in shown], [r.metric for r in shown]))
    found = {(row.row, row.metric): row.ours for row in shown}
    values = np.array([[found.get((place, column), np.nan) for column in columns] for place in places], dtype=float)
    titles = [column.rpartition(": ")[2] for column in columns]
    case = columns[0].rpartition(": ")[0].removeprefix(f"{IMPORTANCE}, ")
    told = ", ".join(f"{title} {value:.2f}" for title, value in zip(titles, values[-1], strict=True))
    return {
        "importance": heat_map(
            values,
            places,
            titles,
            title=f"Importance of each side task in each module, {case}: mean over the seeds",
            y_label="",
            x_label="",
            name="maoal-importance",
            alt=f"Importances over the training. In the end: {told}.",
            digits=2,
        )
    }


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
    if scale == "laptop":
        notes = [
            notes[0],
            "Models learn from features of small encoders (see the table `encoder`): of CIFAR-10 for CIFAR-100's images, of "
            "CIFAR-100 for all others. A perceptron of two layers, its modules, in 10 epochs; weights adapt every 5 steps. All "
            "seeds have the same images and the same test part; a seed draws the other parts, which labels are used, and the "
            "first weights.",
            "MAOAL is the paper's, and learns importances on a twentieth of the examples; with evidence, on a fifth, an "
            "importance counts only while its history excludes chance; again on all labels is a training with these "
            "importances, their mean over the second half, which has the held-out examples. What `tutelage auxiliary` serves "
            "is the mean of those of SLL, Equal and the last two that no other one surely beats on the validation part, three "
            "trainings of each, all with a fifth held out where weights are learned; the means of three of SLL and of Equal "
            "stand beside it. That rule was chosen on seeds 300 to 319.",
            "CIFAR-100 people: 5,500 training images of 55 classes. Super-classes: 6,000 training images, a tenth of their "
            "labels, beside people's labels of the 100 classes (CIFAR-100N, 40 % wrong) and ten classes drawn at random. "
            "Products: 6,000 photographs, a fifth of the article types, beside colour, season and gender. CIFAR-10: 5,000 "
            "training images, a tenth of their labels, beside the rotation of all, from the features of all four turns.",
            "NYUv2 and MovieLens are no problems of features of images; they stand in the table of the pocket scale.",
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
