"""What `tutelage moderate` serves, beside its candidates, and how well scores find wrong labels, calibrated and not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.choice.cases import cases
from benchmarks.only import check_only
from benchmarks.paired import Comparison
from benchmarks.results_table import Measured, ResultRow, rows_of
from tutelage.metrics import auroc, npv_at_fpr
from tutelage.recipes.base import Scale
from tutelage.recipes.moderation.choice import Choice
from tutelage.recipes.moderation.found import ModelScores
from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.recipes.moderation.served import choose_members, joint_teacher
from tutelage.recipes.moderation.settings import ModerationSettings, pocket
from tutelage.recipes.moderation.task import ModerationTask
from tutelage.recipes.moderation.teaching import taught
from tutelage.training import Log

FIRST_SEED = 300  # settings were chosen on seeds below 300
PLAIN, SERVED = "plain fine-tuning", "served"
NAMES = {"fine_tuned": PLAIN, "student": "the student", "specialists": "the specialists"}
TOP = 96
COMPARED = Comparison(
    {"NPV@1%": True, "AUROC": True}, lambda row: row == SERVED, beside=lambda row: row not in (PLAIN, SERVED)
)


def results(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> tuple[list[ResultRow], list[str]]:
    """Measure the table; return its figures and the notes below it.

    Args:
        scale: pocket or paper.
        seeds: number of seeds.
        data: the folder of the real data sets, or None for digit posters alone.
        runs: where the stages lie; what is done there is not done again.
        only: names of cases; all by default.

    Raises:
        ValueError: a name in ``only`` that is no case.
    """
    made = dict(cases(data))
    check_only(only, made)
    settings = pocket() if scale == "pocket" else ModerationSettings()
    found: list[Measured] = []
    chosen: dict[str, list[str]] = {}
    for case, make in made.items():
        if only and case not in only:
            continue
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            folder = runs / scale / case.replace(", ", "-").replace(" ", "-") / f"seed-{seed}"
            task = make(seed)
            log = Log(folder / "log.jsonl", quiet=True)
            encoders = runs / scale / f"encoders-{task.family}"
            pipeline = Pipeline(task, replace(settings, seed=seed), folder, log, encoders)
            choice, raw = run(pipeline)
            chosen.setdefault(case, []).append(choice.chosen)
            found += list(figures(case, seed, task, choice, raw))
    return rows_of(found), [
        *(f"{case}: served over the seeds: {', '.join(names).replace('_', ' ')}." for case, names in chosen.items()),
        "Labels of training and validation are wrong at 20 %, the test's are true. Served is what held-out labels, wrong ones "
        "and all, chose; no test label has a part in it. The settings are those of `tutelage moderate`.",
        "AUROC of wrong labels: of finding the wrong ones among all training labels by the probability of the other label; and "
        f"of the {TOP} most doubted, the share that are wrong. 'As it comes' is before calibration on held-out labels.",
    ]


def run(pipeline: Pipeline) -> tuple[Choice, dict[str, ModelScores]]:
    """Train a task's models; return the choice among them, and their scores as they come."""
    found = pipeline.discovery()
    log_odds_NK, failures = pipeline.specialists(found)
    selection = pipeline.selection(log_odds_NK, failures)
    teacher, raw = (
        joint_teacher(log_odds_NK, selection),
        {"fine_tuned": pipeline.fine_tuned(pipeline.settings.student)},
    )
    if torch.isfinite(teacher).all():
        raw["student"] = taught(pipeline, found, log_odds_NK, selection)
    return choose_members(pipeline, raw["fine_tuned"], raw.get("student"), teacher), raw


def figures(
    case: str, seed: int, task: ModerationTask, choice: Choice, raw: dict[str, ModelScores]
) -> Iterator[Measured]:
    """Yield the figures of every candidate, and of the one that is served."""
    test, train = task.rows("test").numpy(), task.rows("train").numpy()
    truth, labels = task.judged_by().numpy(), task.labels.numpy()
    rows = {" + ".join(NAMES[part] for part in name.split("+")): each for name, each in choice.candidates.items()}
    for row, candidate in {**rows, SERVED: choice.served}.items():
        scores = candidate.scores[test]
        yield Measured(case, row, seed, "NPV@1%", npv_at_fpr(scores, truth[test], 0.01))
        yield Measured(case, row, seed, "AUROC", auroc(scores, truth[test]))
        yield from doubts(case, row, seed, candidate.scores[train], labels[train], truth[train])
    for name, model in raw.items():
        given = model.scores.double().numpy()[train]
        yield from doubts(case, f"{NAMES[name]}, as it comes", seed, given, labels[train], truth[train])


def doubts(
    case: str,
    row: str,
    seed: int,
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    truth: NDArray[np.int64],
) -> Iterator[Measured]:
    """Yield how well doubt in a label, the probability of the other one, finds the wrong labels."""
    doubt, wrong = np.where(labels == 0, scores, 1 - scores), labels != truth
    top = np.argsort(-doubt, kind="stable")[:TOP]
    yield Measured(case, row, seed, "AUROC of wrong labels", auroc(doubt, wrong.astype(np.int64)))
    yield Measured(case, row, seed, f"wrong among the top {TOP}", float(wrong[top].mean()))
