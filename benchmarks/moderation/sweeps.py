"""The sub-task paper's sweeps, of lambda, of the competence threshold and of the learning rate, and its two tokens."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes

from benchmarks.given import given
from benchmarks.laptop.encoder import shop_encoder
from benchmarks.moderation.tasks import products_task
from benchmarks.only import check_only
from benchmarks.paired import Comparison
from benchmarks.results_table import Measured, ResultRow, rows_of
from tutelage.metrics import auroc, normalised_mutual_information, npv_at_fpr, npv_floor
from tutelage.recipes.base import Scale
from tutelage.recipes.encoding import EncoderSettings, encoded
from tutelage.recipes.input import input_size
from tutelage.recipes.moderation.found import ModelScores
from tutelage.recipes.moderation.pipeline import TOKENS, Pipeline
from tutelage.recipes.moderation.settings import ModerationSettings, laptop
from tutelage.recipes.moderation.teaching import taught
from tutelage.reports.plots import COLOURS, MUTED, plot
from tutelage.subtasks import LessonSettings, SelectionSettings, VacuousThreshold, token_cosine
from tutelage.subtasks.doubt import DoubtSettings
from tutelage.training import Log

FIRST_SEED = 300  # settings were chosen on seeds below 300
NOISE = "structured"
LAMBDAS = (10.0, 25.0, 50.0, 125.0, 250.0, 1000.0)  # the paper's, and ours: 25
THRESHOLDS = (0.1, 0.366, 0.37, 0.375, 0.38, 0.39)  # the paper's best, 0.1, is below the lowest NPV possible
RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
PARTS = ("lambda", "threshold", "learning rate")
AREA, COSINE = "AUROC", "cosine of the two tokens"
LESSON = LessonSettings(rejected="dropped", teacher="own", contradicted=0.0, calibrated=False, substitute=False)
PLAIN = "plain fine-tuning"


def measure(data: Path, runs: Path, *, seeds: int, only: tuple[str, ...]) -> Iterator[Measured]:
    """Train and judge what the sweeps ask for, on every seed; stages that are done under ``runs`` are kept.

    Args:
        data: the folder of the real data sets.
        runs: where encoder, features and stages lie.
        seeds: number of seeds.
        only: out of `PARTS`; all by default.

    Raises:
        ValueError: another name in ``only``.
    """
    check_only(only, PARTS, "part")
    features = EncoderSettings(pretrained=str(shop_encoder(data, runs)), cache=runs / "laptop" / "features")
    settings = replace(laptop(), encoder=features, augmentation="shift", doubt=DoubtSettings(used=False), lesson=LESSON)
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        task = products_task(data / "fashion-products", seed, NOISE, input_size(settings))
        task.images = encoded(task.images, settings)
        folder = runs / "sweeps" / f"seed-{seed}"
        for part in only or PARTS:
            own = folder / part.replace(" ", "-")
            yield from PART[part](
                Pipeline(task, replace(settings, seed=seed), own, Log(own / "log.jsonl"), runs / "none")
            )


def _lambda(run: Pipeline) -> Iterator[Measured]:
    """How sharp the assignment is: what is found, and what it costs."""
    truth = run.task.truth("true_subtask")
    assert truth is not None
    for lam in LAMBDAS:
        other = _changed(run, f"{lam:g}", discovery=replace(run.settings.discovery, lam=lam))
        found = other.discovery()
        known = (found.subtask >= 0) & (truth >= 0)
        figures = {
            "NMI with the true sub-tasks": normalised_mutual_information(
                truth[known].numpy(), found.subtask[known].numpy()
            ),
            "confidence": float(found.confidence[found.subtask >= 0].mean()),
            "smallest sub-task": float(found.facts["smallest"]),
            "largest": float(found.facts["largest"]),
            "Sinkhorn iterations": float(found.facts["sinkhorn_iterations"]),
        }
        run.log.say(f"lambda {lam:g}, seed {run.settings.seed}: {figures}")
        yield from (_of(run, "lambda", f"{lam:g}", name, value) for name, value in figures.items())


def _threshold(run: Pipeline) -> Iterator[Measured]:
    """Whom the paper's rule keeps at which threshold, and what a student becomes that hears only these."""
    found = run.discovery()
    log_odds_NK, failures = run.specialists(found)
    truth = run.task.truth("true_label")
    assert truth is not None
    taught_before: dict[tuple[bool, ...], ModelScores] = {}
    for threshold in THRESHOLDS:
        rule = SelectionSettings(rule="npv", threshold=threshold, significance=1.0)
        other = run.with_settings(replace(run.settings, selection=rule))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VacuousThreshold)  # that 0.1 keeps everybody is what the table shows
            selection = other.selection(log_odds_NK, failures)
        inside = (found.subtask >= 0) & torch.from_numpy(selection.kept)[found.subtask.clamp_min(0)]
        row, kept = f"{threshold:g}", tuple(selection.kept.tolist())
        yield _of(run, "threshold", row, "specialists kept", float(selection.kept.sum()))
        if not any(kept):
            continue
        yield _of(
            run,
            "threshold",
            row,
            "wrong labels among their defects, %",
            100 * float((truth[inside] == 1).double().mean()),
        )
        if kept not in taught_before:
            taught_before[kept] = taught(other, found, log_odds_NK, selection, name=f"student-{threshold:g}")
        yield from _judged(run, "threshold", row, taught_before[kept])
    plain = run.fine_tuned(run.settings.student)
    yield from _judged(run, "threshold", PLAIN, plain)
    fresh = run.new(run.settings.student, 2)
    test = run.task.images.subset(run.rows("test"))
    yield _of(run, "threshold", "before any training", COSINE, token_cosine(fresh, test))


def _rate(run: Pipeline) -> Iterator[Measured]:
    """How fast the heads learn; the encoder, which the paper trains at 8e-7, is frozen."""
    for rate in RATES:
        other = _changed(run, f"{rate:g}", training=replace(run.settings.training, lr=rate))
        yield from _judged(run, "learning rate", f"{rate:g}", other.fine_tuned(run.settings.student))


def _changed(run: Pipeline, name: str, **changed: Any) -> Pipeline:
    settings: ModerationSettings = replace(run.settings, **changed)
    return Pipeline(run.task, settings, run.stages.folder / name, run.log, run.encoders.folder)


def _judged(run: Pipeline, sweep: str, row: str, model: ModelScores) -> Iterator[Measured]:
    rows = run.rows("test")
    labels, scores = run.task.judged_by()[rows].numpy(), model.scores[rows].double().numpy()
    figures = {f"NPV@{rate:.0%}": npv_at_fpr(scores, labels, rate) for rate in (0.01, 0.05)}
    figures |= {AREA: auroc(scores, labels), COSINE: model.facts[TOKENS]}
    run.log.say(f"{sweep} {row}, seed {run.settings.seed}: AUROC {figures[AREA]:.3f}, cosine {figures[COSINE]:.3f}")
    yield from (_of(run, sweep, row, name, value) for name, value in figures.items())
    floor = npv_floor(int((labels == 0).sum()), int((labels == 1).sum()), 0.05)
    yield _of(run, sweep, "the lowest possible", "NPV@5%", floor)


def _of(run: Pipeline, sweep: str, row: str, figure: str, value: float) -> Measured:
    return Measured(sweep, row, run.settings.seed, figure, value)


PART = {"lambda": _lambda, "threshold": _threshold, "learning rate": _rate}


def results(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> tuple[list[ResultRow], list[str]]:
    """Measure the tables; return their figures and the notes below them. Arguments as in `measure`.

    Raises:
        ValueError: without data.
    """
    return rows_of(measure(given(data), runs, seeds=seeds, only=only)), _reading()


COMPARED = Comparison(
    {AREA: True, "NPV@5%": True},
    lambda row: row in {f"{threshold:g}" for threshold in THRESHOLDS},
    lambda row: row != PLAIN,
)
SHOWN = {
    "lambda": ("NMI with the true sub-tasks", "lambda: a larger one assigns more sharply"),
    "threshold": (AREA, "competence threshold on the specialists' NPV"),
    "learning rate": (AREA, "learning rate of the heads"),
}


def pictures(rows: list[ResultRow]) -> dict[str, str]:
    """Return each sweep as a picture, if it has been measured."""
    drawn = {}
    for sweep, (figure, label) in SHOWN.items():
        found = {row.row: row for row in rows if row.metric == f"{sweep}: {figure}" and row.ours is not None}
        points = [(name, row) for name, row in found.items() if name.replace(".", "").replace("e-", "").isdigit()]
        if points:
            drawn[sweep.replace(" ", "-")] = _swept(sweep, figure, label, points, found.get(PLAIN))
    return drawn


def _swept(sweep: str, figure: str, label: str, points: list[tuple[str, ResultRow]], plain: ResultRow | None) -> str:
    names, values = [name for name, _ in points], [float(row.ours or 0.0) for _, row in points]
    beside = "" if plain is None else f"; {PLAIN} {plain.ours:.3f}"

    def draw(axes: Axes) -> None:
        axes.errorbar(
            range(len(points)),
            values,
            yerr=[row.spread or 0.0 for _, row in points],
            fmt="o-",
            color=COLOURS[0],
            capsize=3,
            linewidth=1.6,
            markersize=4.5,
        )
        axes.set_xticks(range(len(points)), names)
        if plain is not None:
            axes.axhline(float(plain.ours or 0.0), color=MUTED, linestyle=":", linewidth=1.2, label=PLAIN)
            axes.legend(loc="best")

    told = ", ".join(f"{name} {value:.3f}" for name, value in zip(names, values, strict=True))
    return plot(draw, label, figure, f"sweeps-{sweep.replace(' ', '-')}", f"{figure} by {sweep}: {told}{beside}.")


def _reading() -> list[str]:
    return [
        "Product photographs, structured noise; seeds, features and sizes as in the table `moderation` at laptop size, K = 24, "
        "30 epochs of discovery. Specialists, students and lessons are the paper's: an example is taught by its own "
        "sub-task's specialist, what is not kept is dropped, and nothing is calibrated or doubted.",
        "lambda: the paper tried 10, 50, 125, 250 and 1,000 with K = 100, and took 250: large enough against diffuse "
        "assignments, and not so large that it is slow. It prints no figures. Iterations are those of the last assignment.",
        "threshold: the paper took 0.1, by the NPV at 1 % FPR on the teachers' test. No specialist can be below the floor of "
        "that figure, 0.36 by the wrong labels of that part, so that 0.1 rejects nobody; all of them lie from 0.36 to 0.40. "
        "Thresholds that keep the same specialists have one student.",
        "learning rate: plain fine-tuning. The paper tried 8e-7, 1e-6, 5e-5 and 3e-4 and took 8e-7 for the encoder, which is "
        "frozen here, and 3e-4 for the heads.",
        "The cosine is that of the class and the distillation token before their heads, a mean over the test images; the paper "
        "reports low ones, without a number. The tokens here are two perceptrons on the same features, without shared weights.",
    ]
