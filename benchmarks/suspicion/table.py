"""The list from which a person re-labels: how many of its labels are wrong, before and after scores are calibrated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.only import check_only
from benchmarks.paired import Comparison
from benchmarks.results_table import Measured, ResultRow, rows_of
from benchmarks.suspicion.cases import cases, start_features
from tutelage.metrics import auroc, bootstrap, find_label_issues
from tutelage.recipes.base import Scale
from tutelage.recipes.moderation.choice import Candidate
from tutelage.recipes.moderation.evaluation import Models, examples_table, knows_nothing
from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.recipes.moderation.recipe import train
from tutelage.training import Log

FIRST_SEED = 300  # settings were chosen on seeds below 300
TOP = 96
PLAIN, BEFORE = "plain fine-tuning, before calibration", "the served model, before calibration"
SERVED = "the served model, calibrated"
WRITTEN = "relabel.csv"
EVIDENCE = "find_label_issues, features"
BOTH = "find_label_issues, features and the served scores"
LESS = ", less relabel.csv"
COMPARED = Comparison(
    {"AUROC": True, f"wrong among the first {TOP}": True},
    lambda row: row not in (PLAIN, BEFORE) and not row.endswith(LESS),
    beside=lambda row: row.endswith(LESS),
)
Floats = NDArray[np.float64]


def results(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> tuple[list[ResultRow], list[str]]:
    """Measure the table; return its figures and the notes below it.

    Args:
        scale: pocket (digit posters) or laptop (product photographs).
        seeds: number of seeds.
        data: the folder of the real data sets, which the laptop scale needs.
        runs: where encoders and stages lie; what is done there is not done again.
        only: names of cases; all by default.

    Raises:
        ValueError: no folder of data, or a name in ``only`` that is no case.
    """
    made = dict(cases(scale, data, runs))
    check_only(only, made)
    log, found = Log(None, quiet=False), []
    for case, make in made.items():
        if only and case not in only:
            continue
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            task, settings = make(seed)
            folder = runs / scale / "suspicion" / case.replace(", ", "-").replace(" ", "-") / f"seed-{seed}"
            pipeline = Pipeline(task, settings, folder, Log(folder / "log.jsonl", quiet=True))
            models = train(task, settings, folder, pipeline.log)
            found += list(measured(case, seed, pipeline, models))
            mine = [each for each in found if (each.case, each.seed, each.figure) == (case, seed, "AUROC")]
            told = ", ".join(f"{each.value:.3f} {each.row}" for each in mine)
            log.say(f"{case}, seed {seed}, served {models.choice.chosen}: AUROC {told}")
    return rows_of([*found, *beyond(found)]), NOTES


def measured(case: str, seed: int, pipeline: Pipeline, models: Models) -> Iterator[Measured]:
    """Yield how well the training labels are ranked, and which of them are listed."""
    task, rows = pipeline.task, pipeline.rows("train")
    labels, truth = (each[rows].numpy() for each in (task.labels, task.judged_by()))
    wrong = labels != truth
    for row, (doubt, listed) in doubts_of(pipeline, models, rows, labels).items():
        order = np.argsort(-doubt, kind="stable")
        yield Measured(case, row, seed, "AUROC", auroc(doubt, wrong.astype(np.int64)))
        yield Measured(case, row, seed, f"wrong among the first {TOP}", float(wrong[order[:TOP]].mean()))
        yield Measured(case, row, seed, "labels listed", float(listed.sum()))
        yield Measured(case, row, seed, "of these wrong", float(wrong[listed].mean()) if listed.any() else 0.0)


def doubts_of(
    pipeline: Pipeline, models: Models, rows: torch.Tensor, labels: NDArray[np.int64]
) -> dict[str, tuple[Floats, NDArray[np.bool_]]]:
    """Return each row's doubt in the training labels, (n,), and which of them it lists, (n,)."""
    place, task = rows.numpy(), pipeline.task

    def by_log_odds(acceptable: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        doubt = np.where(labels == 1, -acceptable[place], acceptable[place])
        return doubt, doubt > 0

    def by_issues(probabilities: Floats | None) -> tuple[Floats, NDArray[np.bool_]]:
        issues = find_label_issues(labels, probabilities, features=x)
        return -issues.score, np.isin(np.arange(len(labels)), issues.ranked)

    candidates, served = models.choice.candidates, models.choice.served
    before = np.mean([as_it_comes(candidates[name]) for name in served.members], axis=0)
    written = examples_table(task, models).iloc[place]
    test = pipeline.rows("test").numpy()
    area = bootstrap(auroc, served.scores[test], task.judged_by().numpy()[test], seed=pipeline.settings.seed).plain()
    listed = written["doubted"].to_numpy(bool) & (not knows_nothing(area))
    x = start_features(pipeline, rows)
    acceptable = served.scores[place]
    return {
        PLAIN: by_log_odds(models.fine_tuned.log_odds),
        BEFORE: by_log_odds(before),
        SERVED: by_log_odds(served.log_odds),
        WRITTEN: (written["suspicion"].to_numpy(np.float64), listed),
        EVIDENCE: by_issues(None),
        BOTH: by_issues(np.stack([1 - acceptable, acceptable], 1)),
    }


def as_it_comes(candidate: Candidate) -> Floats:
    """Return a single model's log-odds as they were before they were calibrated, (N,)."""
    fitted = candidate.calibration
    return (candidate.log_odds - fitted.offset) / fitted.slope if fitted.slope else np.zeros_like(candidate.log_odds)


def beyond(found: list[Measured]) -> Iterator[Measured]:
    """Yield what each other list has beyond relabel.csv, seed by seed."""
    written = {(each.case, each.figure, each.seed): each.value for each in found if each.row == WRITTEN}
    for each in found:
        if each.figure in COMPARED.metrics and each.row in (SERVED, EVIDENCE, BOTH):
            less = each.value - written[each.case, each.figure, each.seed]
            yield replace(each, row=f"{each.row}{LESS}", value=less)


NOTES = [
    "A fifth of the labels of training and validation is wrong; which ones is known here and to no model. Listed and ranked "
    "are the training labels, in which the served model has learned. Nothing was tuned on these seeds, nor ever on other "
    "products.",
    f"{WRITTEN}: the columns suspicion and doubted as `tutelage moderate` writes them: the probability that a label is wrong, "
    "on the average over the error rates that agree with the labels, and as many labels as are wrong by that. At pocket scale "
    "by the served model; at laptop scale by it and the kernel ridge regression that leaves each example out, weighed alike.",
    "Before calibration: the mean of the log-odds of the models that are served together, as they come. Calibration is by "
    "held-out labels, as wrong as all others, with their error rates estimated.",
    "find_label_issues: see `find_label_issues(features=...)`; without scores its own ridge regression predicts. Features are "
    "the laptop scale's encoder's, and at the pocket scale those of the network with which specialists start; none has seen "
    "any of these labels.",
    f"Labels listed: those that a model contradicts, or that `find_label_issues` finds. Few labels: fewer than {TOP} of the "
    "training labels may be wrong, so that the share among the first cannot be 1.",
]
