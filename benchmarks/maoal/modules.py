"""MAOAL's Table 4 and Figures 4 and 5: how finely a network is divided, and what is learned in which module."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.given import given
from benchmarks.heat import heat_map
from benchmarks.laptop.described import FEATURES, described, encoded_table, table_of
from benchmarks.maoal.cases import LEVELS
from benchmarks.only import check_only
from benchmarks.paired import Comparison
from benchmarks.results_table import Measured, ResultRow, rows_of
from tutelage.data.ratings import movielens
from tutelage.recipes.auxiliary.judgement import MEASURES
from tutelage.recipes.auxiliary.pipeline import Learned, Pipeline
from tutelage.recipes.auxiliary.settings import (
    EVIDENCE,
    AuxiliarySettings,
    BodySettings,
    Shares,
    TaskSpec,
    by_modules,
    laptop,
    pocket,
)
from tutelage.recipes.auxiliary.sources import images_task, ratings_task
from tutelage.recipes.auxiliary.task import AuxiliaryTask
from tutelage.recipes.base import Scale
from tutelage.training import Budget, Log, Optimization
from tutelage.weighting.settings import AdaptSettings

FIRST_SEED = 200  # settings were chosen on seeds below 200
CLASSES = "super-classes of CIFAR-100"
RATINGS = "ratings of MovieLens"
ACCURACY = "accuracy, %"
IMPORTANCE = "importance of"
PLACES = 6  # of a training at which importances are told
WIDTHS = (256, 256, 256, 256)
HIDDEN = (8, 128)  # units of AutoInt's head: the smallest and the largest of the paper
USERS, EACH = 800, 8  # MovieLens, thinned to about Beauty's ratings a user
ROWS = {
    "SLL": "single",
    "Equal": "equal",
    "MAOAL": "maoal",
    **dict.fromkeys(LEVELS, "maoal"),
    "MAOAL, evidence": "maoal",
}
TABLE_4 = {"MAOAL, by parameter": (52.48, 66.14), "MAOAL": (52.36, 69.61), "MAOAL, whole model": (51.16, 67.18)}


def classes(data: Path, runs: Path, settings: AuxiliarySettings) -> AuxiliaryTask:
    """Return CIFAR-100's super-classes beside people's labels of the classes (40 % wrong), and labels drawn at random."""
    features, facts = described("cifar100", data, runs)
    rng = np.random.default_rng([settings.seed, 13])
    known = facts["split"].to_numpy() == "unassigned"
    rows = np.concatenate([rng.permutation(np.flatnonzero(known))[:6000], np.flatnonzero(~known)])
    facts = facts.assign(label=facts["coarse"], arbitrary=rng.integers(0, 10, len(facts)))
    sides = (TaskSpec("people's class", column="noisy_label"), TaskSpec("arbitrary"))
    problem = images_task(CLASSES, table_of(facts, rows), TaskSpec("super-class", column="coarse"), sides, settings)
    assert problem.images is not None
    return replace(problem, images=encoded_table(features, problem.images, rows, f"modules-{settings.seed}"))


def ratings(data: Path, settings: AuxiliarySettings) -> AuxiliaryTask:
    """Return a few ratings of each of some users of MovieLens, with L2 regularisation."""
    every = movielens(data / "ml-1m", users=USERS, seed=settings.seed)
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(settings.seed))
    user = every.fields[order, 2]
    by_user = user.argsort(stable=True)
    counts = user.bincount()
    place = torch.arange(len(order)) - (counts.cumsum(0) - counts)[user[by_user]]
    kept = order[by_user[place < EACH]].sort().values
    return ratings_task(replace(every, fields=every.fields[kept], rating=every.rating[kept]), settings, RATINGS)


SETTINGS: dict[str, AuxiliarySettings] = {
    CLASSES: replace(
        laptop(),
        encoder=FEATURES,
        image_size=32,
        augmentation="none",
        shares=Shares(val=0.15, held_out=laptop().shares.held_out, labels=0.1),
        body=BodySettings("feature_mlp", dropout=0.1, options={"widths": list(WIDTHS)}),
        budget=Budget(epochs=10),
        adapt=AdaptSettings(every=8),
    ),
    RATINGS: replace(
        pocket(),
        shares=Shares(test=0.1, val=0.1, held_out=0.02),
        body=BodySettings("autoint"),
        training=Optimization(optimizer="adam", lr=1e-3, weight_decay=0.0, batch_size=256),
        budget=Budget(epochs=15),
        adapt=AdaptSettings(every=8),
        weighting_defaults=by_modules(constraint="softplus", meta_optimizer={"lr": 0.1}),
    ),
}


def measure(data: Path, runs: Path, *, seeds: int, only: tuple[str, ...]) -> Iterator[Measured]:
    """Train and judge both problems on every seed; stages that are done under ``runs`` are kept.

    Args:
        data: the folder of the real data sets.
        runs: where features and stages lie.
        seeds: number of seeds.
        only: `CLASSES` or `RATINGS`; both by default.

    Raises:
        ValueError: another name in ``only``.
    """
    check_only(only, (CLASSES, RATINGS), "part")
    for name in only or (CLASSES, RATINGS):
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            settings = replace(SETTINGS[name], seed=seed)
            folder = runs / "modules" / name.replace(" ", "-") / f"seed-{seed}"
            yield from (_classes if name == CLASSES else _ratings)(data, runs, settings, folder)


def _classes(data: Path, runs: Path, settings: AuxiliarySettings, folder: Path) -> Iterator[Measured]:
    problem, log = classes(data, runs, settings), Log(folder / "log.jsonl")
    options = settings.weighting_defaults["maoal"] | {"evidence": None}
    for row, method in ROWS.items():
        changed = dict(options)
        if row in LEVELS:
            changed["partition"] = LEVELS[row]
        if row.endswith("evidence"):
            changed["evidence"] = EVIDENCE
        changed = {name: value for name, value in changed.items() if value is not None}
        weightings = {**settings.weighting_defaults, "maoal": changed}
        own = folder / row.replace(", ", "-").replace(" ", "-")
        found = Pipeline(problem, replace(settings, weighting_defaults=weightings), own, log).learned(method)
        accuracy = 100 * MEASURES["classification"][0].figure(found.outcomes)
        log.say(f"{CLASSES}, seed {settings.seed}, {row}: {accuracy:.1f}")
        yield Measured(CLASSES, row, settings.seed, ACCURACY, accuracy)
        if method == "maoal" and row not in LEVELS:
            yield from _course(settings.seed, problem, found, row)


def _ratings(data: Path, runs: Path, settings: AuxiliarySettings, folder: Path) -> Iterator[Measured]:
    problem, log = ratings(data, settings), Log(folder / "log.jsonl")
    for hidden in HIDDEN:
        body = replace(settings.body, hidden=hidden)
        pipeline = Pipeline(problem, replace(settings, body=body), folder / str(hidden), log)
        for row, method in (("SLL", "single"), ("MAOAL", "maoal")):
            if row == "SLL" and hidden != HIDDEN[-1]:
                continue
            found = pipeline.learned(method)
            error = MEASURES["regression"][0].figure(found.outcomes)
            told = f"{row}, {hidden} units in the head"
            log.say(f"{RATINGS}, seed {settings.seed}, {told}: {error:.4f}")
            yield Measured(RATINGS, told, settings.seed, "RMSE", error)
        for module, value in zip(_named(found.modules), found.weighting_history[-1]["importance"][0], strict=True):
            yield Measured(
                f"{IMPORTANCE} the L2 regulariser in the end", module, settings.seed, f"{hidden} units", value
            )
        if hidden == HIDDEN[-1]:
            yield from _course(settings.seed, problem, found, "MAOAL")


def _course(seed: int, problem: AuxiliaryTask, found: Learned, row: str) -> Iterator[Measured]:
    """Yield how far each side task counts in each module at six places of a training."""
    history = found.weighting_history
    for place in range(PLACES):
        share = place / (PLACES - 1)
        entry = history[round(share * (len(history) - 1))]
        for task, values in zip(problem.sides, entry["importance"], strict=True):
            for module, value in zip(_named(found.modules), values, strict=True):
                yield Measured(f"{IMPORTANCE} {task.name}, {row}", module, seed, f"{100 * share:.0f} %", value)


def _named(modules: list[str]) -> list[str]:
    """Return the modules' names as the pictures have them: layers are numbered from the input on."""
    layers = [name for name in modules if name.startswith("layers.")]
    return [
        f"layer {layers.index(name) + 1}" if name in layers else name.replace("head of rating", "head")
        for name in modules
    ]


def results(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> tuple[list[ResultRow], list[str]]:
    """Measure the tables; return their figures and the notes below them. Arguments as in `measure`.

    Raises:
        ValueError: without data.
    """
    return rows_of(measure(given(data), runs, seeds=seeds, only=only)), _reading()


COMPARED = Comparison({ACCURACY: True, "RMSE": False}, lambda row: row.startswith("MAOAL"))


def pictures(rows: list[ResultRow]) -> dict[str, str]:
    """Return the importances as pictures: those that have been measured."""
    found: dict[str, dict[tuple[str, str], Any]] = defaultdict(dict)
    for row in rows:
        case, _, figure = row.metric.rpartition(": ")
        if case.startswith(IMPORTANCE) and row.ours is not None:
            found[case][row.row, figure] = row.ours
    drawn = {}
    for case, cells in found.items():
        modules, columns = (list(dict.fromkeys(key[place] for key in cells)) for place in (0, 1))
        values = np.array([[cells.get((m, c), np.nan) for c in columns] for m in modules], dtype=float)
        name = re.sub(r"\W+", "-", case.removeprefix(f"{IMPORTANCE} ").replace("'", "")).strip("-").lower()
        told = ", ".join(f"{m} {value:.2f}" for m, value in zip(modules, values[:, -1], strict=True))
        ended = "units in the head" if columns[0].endswith("units") else "of the training"
        drawn[name] = heat_map(
            values,
            modules,
            [column.removesuffix(" units") for column in columns],
            title=f"{case[0].upper()}{case[1:]}: mean over the seeds",
            y_label="from the input to the output",
            x_label=ended,
            name=f"modules-{name}",
            alt=f"{case}, by module; in the last column {told}.",
            digits=2,
        )
    return drawn


def _reading() -> list[str]:
    printed = ", ".join(
        f"{row.removeprefix('MAOAL, ').replace('MAOAL', 'by block')} {cub} and {pet}"
        for row, (cub, pet) in TABLE_4.items()
    )
    return [
        f"Granularity: the paper's Table 4 has on CUB with a fifth of the labels and on Pet {printed}, with networks of "
        f"images. Here a perceptron of {len(WIDTHS)} layers, each a module, learns from features of an encoder of CIFAR-10.",
        "Super-classes: 6,000 training images, a tenth of their labels; side tasks are people's labels of the 100 classes "
        "(CIFAR-100N, 40 % wrong) of all images, and ten classes drawn at random, which say nothing. 10 epochs, an update of "
        "the importances every 8 steps. All 1,020 held-out examples have their labels; methods that learn nothing on them are "
        "trained on them, too, beside some 400 labels.",
        f"Ratings: {EACH} ratings of each of {USERS:,} users of MovieLens-1M, about as sparse as the paper's Amazon Beauty, "
        "which is not at hand; AutoInt with a hidden layer in its head, 15 epochs, an update every 8 steps by Adam at 0.1. "
        "Importances are kept positive by a softplus: under the released ReLU all were 0 after 128 steps, and 0 stays. 1 is "
        "a weight of 1e-3 on the sum of squares. In the paper's Figure 5 a larger head ends with a larger importance.",
        "Importances begin at 1. In the paper's Figure 4 those of harmful side tasks end at 0, and those of useful ones are "
        "high near the input and low near the output.",
    ]
