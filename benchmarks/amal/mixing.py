"""AMAL's Figures 1 and 2: constant weights of the teacher beside learned ones, and who has which weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from benchmarks.amal.laptop import ACCURACY, BASE, FOUND, Case, pipeline_of, task_of, tells_wrong
from benchmarks.given import given
from benchmarks.only import check_only
from benchmarks.paired import Comparison
from benchmarks.results_table import Measured, ResultRow, rows_of
from tutelage.models import ModelSettings
from tutelage.recipes.base import Scale
from tutelage.recipes.distill.evaluation import right
from tutelage.recipes.distill.pipeline import Pipeline
from tutelage.recipes.distill.settings import NoiseSettings, TeacherSettings
from tutelage.recipes.distill.taught import Taught
from tutelage.reports.plots import COLOURS, DASHES, MUTED, PERCENT, Line, line_plot, plot
from tutelage.training import Budget

FIRST_SEED = 300  # settings were chosen on seeds below 300
CLEAN = Case("CIFAR-100", "cifar100", NoiseSettings())
NOISY = Case("CIFAR-100, 40 % wrong at random", "cifar100", NoiseSettings("symmetric", 0.4))
LAMBDAS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
TEACHERS = {"a large teacher": [1024, 1024], "a small teacher": [128]}
LABELS = ("right labels", "wrong labels")
HISTOGRAM = "share of the examples by lambda_a - lambda_p"
EDGES = np.linspace(-2, 2, 21)
PARTS = ("sweep", "histogram")
SETTINGS = replace(BASE, temperature=4.0)


def measure(data: Path, runs: Path, *, seeds: int, only: tuple[str, ...]) -> Iterator[Measured]:
    """Train and judge the students of both figures; stages that are done under ``runs`` are kept.

    Args:
        data: the folder of the real data sets.
        runs: where features and stages lie.
        seeds: number of seeds.
        only: out of `PARTS`; both by default.

    Raises:
        ValueError: another name in ``only``.
    """
    check_only(only, PARTS, "part")
    for part in only or PARTS:
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            folder = runs / "mixing" / part / f"seed-{seed}"
            yield from (_sweep if part == "sweep" else _histogram)(seed, data, runs, folder)


def _sweep(seed: int, data: Path, runs: Path, folder: Path) -> Iterator[Measured]:
    task = task_of(CLEAN, seed, data, runs)
    for name, widths in TEACHERS.items():
        model = ModelSettings("feature_mlp", dropout=0.3, options={"widths": widths})
        settings = replace(SETTINGS, teachers=(TeacherSettings(model),))
        where = f"{CLEAN.name}, {name} of {'-'.join(map(str, widths))} units"
        own = folder / name.replace(" ", "-")
        run = pipeline_of(task, settings, seed, own)
        (teacher,) = run.teachers()
        yield _judged(run, where, "the teacher", teacher)
        for weight in LAMBDAS:
            constant = {"fixed": {"weights": (1 - weight, weight)}}
            fixed = pipeline_of(task, replace(settings, weighting_defaults=constant), seed, own)
            yield _judged(fixed, where, f"lambda_a = {weight:g}", fixed.student("fixed", f"student-{weight:g}"))
        yield _judged(run, where, "AMAL", run.student("amal"))


def _histogram(seed: int, data: Path, runs: Path, folder: Path) -> Iterator[Measured]:
    task = task_of(NOISY, seed, data, runs)
    model = ModelSettings("feature_mlp", dropout=0.3, options={"widths": TEACHERS["a large teacher"]})
    run = pipeline_of(
        task, replace(SETTINGS, teachers=(TeacherSettings(model, budget=Budget(epochs=8)),)), seed, folder
    )
    taught = run.student("amal")
    yield _judged(run, NOISY.name, "AMAL", taught)
    assert taught.weights is not None
    assert task.truth is not None
    train = run.rows("train")
    label, teacher = taught.weights[train].unbind(1)
    difference, wrong = (teacher - label).double(), (task.truth != task.labels)[train]
    for name, rows in zip(LABELS, (~wrong, wrong), strict=True):
        counts, _ = np.histogram(difference[rows].numpy(), EDGES)
        yield Measured(NOISY.name, "AMAL", seed, f"lambda_a - lambda_p, {name}", float(difference[rows].mean()))
        for low, high, count in zip(EDGES[:-1], EDGES[1:], counts, strict=True):
            share = float(count / max(1, int(rows.sum())))
            yield Measured(HISTOGRAM, f"{low:+.1f} to {high:+.1f}", seed, name, share)
    told = tells_wrong(taught, run)
    assert told is not None
    yield Measured(NOISY.name, "AMAL", seed, FOUND, told)


def _judged(run: Pipeline, case: str, row: str, taught: Taught) -> Measured:
    accuracy = 100 * float(right(taught, run.task).mean())
    run.log.say(f"{case}, seed {run.settings.seed}, {row}: accuracy {accuracy:.1f}")
    return Measured(case, row, run.settings.seed, ACCURACY, accuracy)


def results(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> tuple[list[ResultRow], list[str]]:
    """Measure the tables; return their figures and the notes below them. Arguments as in `measure`.

    Raises:
        ValueError: without data.
    """
    return rows_of(measure(given(data), runs, seeds=seeds, only=only)), _reading()


COMPARED = Comparison({ACCURACY: True}, lambda row: row == "AMAL", beside=lambda row: row == "the teacher")


def pictures(rows: list[ResultRow]) -> dict[str, str]:
    """Return the figures as pictures: those that have been measured."""
    drawn: dict[str, str] = {}
    for name in TEACHERS:
        own = {row.row: row for row in rows if f"{CLEAN.name}, {name}" in row.metric and row.ours is not None}
        constant = [(weight, own[f"lambda_a = {weight:g}"]) for weight in LAMBDAS if f"lambda_a = {weight:g}" in own]
        if constant and "AMAL" in own:
            drawn[name.removeprefix("a ").replace(" ", "-")] = _swept(name, constant, own["AMAL"])
    shares: dict[str, dict[str, float]] = {row.row: {} for row in rows if row.metric.startswith(HISTOGRAM)}
    for row in rows:
        if row.row in shares and row.ours is not None:
            shares[row.row][row.metric.rpartition(": ")[2]] = row.ours
    if shares:
        drawn["histogram"] = _distribution({part: [own.get(part, 0.0) for own in shares.values()] for part in LABELS})
    return drawn


def _swept(name: str, constant: list[tuple[float, ResultRow]], amal: ResultRow) -> str:
    def point(x: float, row: ResultRow) -> tuple[float, float, float, float]:
        value, spread = float(row.ours or 0.0), row.spread or 0.0
        return x, value, value - spread, value + spread

    weights = np.array([weight for weight, _ in constant])
    accuracies = np.array([row.ours for _, row in constant], dtype=float)
    level = np.full(2, amal.ours, dtype=float)
    lines = [
        Line("the same weight for all", weights, accuracies, points=[point(*each) for each in constant]),
        Line("AMAL, a weight for each example", np.array([0.0, 1.0]), level, points=[point(0.6, amal)]),
    ]
    best = max(constant, key=lambda each: float(each[1].ours or 0.0))
    return line_plot(
        lines,
        x_label="weight lambda_a of the teacher; the label has the rest",
        y_label=f"test accuracy, %, {name}",
        name=f"mixing-{name.replace(' ', '-')}",
        alt=f"Test accuracy by the teacher's weight, {name}: best {best[1].ours:.1f} % at {best[0]:g}, "
        f"labels alone {accuracies[0]:.1f} %, AMAL {amal.ours:.1f} %.",
    )


def _distribution(shares: dict[str, list[float]]) -> str:
    def draw(axes: Axes) -> None:
        for place, (part, values) in enumerate(shares.items()):
            axes.stairs(values, EDGES, fill=True, color=COLOURS[place], alpha=0.25)
            axes.stairs(values, EDGES, color=COLOURS[place], linestyle=DASHES[place], linewidth=1.6, label=part)
        axes.axvline(0.0, color=MUTED, linestyle=":", linewidth=1.2)
        axes.yaxis.set_major_formatter(PERCENT)
        axes.legend(loc="best")

    above = {
        part: sum(v for v, edge in zip(values, EDGES, strict=False) if edge >= 0) for part, values in shares.items()
    }
    return plot(
        draw,
        "lambda_a - lambda_p: above 0 the teacher counts for more",
        "share of the training examples",
        "mixing-histogram",
        f"Distribution of lambda_a - lambda_p: above 0 for {100 * above[LABELS[0]]:.0f} % of the right and "
        f"{100 * above[LABELS[1]]:.0f} % of the wrong labels.",
    )


def _reading() -> list[str]:
    return [
        "CIFAR-100 as 512 features of an encoder of CIFAR-10; of each seed 10,000 training images, 2,000 held out and 1,000 of "
        "validation, the test is CIFAR's own. The student is linear, temperature 4, 20 epochs; rows with constant weights are "
        "trained on the held-out images, too, so that all see the same labels. Nothing was tuned for this table.",
        "Figure 1 of the paper has ResNet-8 as student, without numbers: of ResNet-110 constant weights are level with the "
        "labels alone (lambda_a = 0) or worse, of ResNet-20 some are better, and AMAL is above all of them with both teachers.",
        "Figure 2 of the paper: lambda_a - lambda_p is below 0 for most right labels and above 0 for most wrong ones. Here the "
        "teacher is trained on the wrong labels for 8 of 20 epochs; both lambdas begin at 1, so a difference begins at 0, "
        "and are learned on held-out right labels, in steps of 0.1, between 0 and 2.",
    ]
