"""Table 2 of the sub-task paper at laptop size: its rows with its epochs and its numbers of sub-tasks, on features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.given import given
from benchmarks.moderation.rows import FULL, PLAIN, SERVED, paper_rows
from benchmarks.moderation.summary import TRUE_LABELS, figures
from benchmarks.moderation.table import FIRST_SEED, Measured, judged, made_of, pipeline_of
from benchmarks.moderation.tasks import ALL, LAPTOP_TASKS, NOISES, PRODUCTS
from benchmarks.moderation.variants import ON_FEATURES
from benchmarks.only import check_only
from benchmarks.paired import Comparison
from benchmarks.results_table import ResultRow
from tutelage.recipes.base import Scale
from tutelage.recipes.moderation.settings import ModerationSettings, laptop

FIRST = next(iter(ON_FEATURES.models))
ROWS = paper_rows(ON_FEATURES)
TASKS = (PRODUCTS, ALL)
TOO_MANY = f"SL K{ON_FEATURES.subtasks[-1]} "  # sub-tasks for the 1,300 defects of `PRODUCTS`


def printed_settings() -> ModerationSettings:
    """Return the paper's settings, with the small sizes' models and optimisers."""
    small, paper = laptop(), ModerationSettings()
    return replace(
        small,
        discovery=paper.discovery,
        budget=paper.budget,
        specialists=replace(small.specialists, smoothing=paper.specialists.smoothing),
        specialist=ON_FEATURES.swin,
        selection=replace(small.selection, significance=1.0),
        learning=paper.learning,
        doubt=paper.doubt,
    )


def measure(data: Path, runs: Path, *, seeds: int, only: tuple[str, ...]) -> Iterator[Measured]:
    """Train and judge the paper's rows on product photographs; stages that are done under ``runs`` are kept.

    Args:
        data: the folder of the real data sets.
        runs: where encoder, features and stages lie.
        seeds: number of seeds.
        only: names of rows, of `TASKS` and of `NOISES`; all by default.

    Raises:
        ValueError: a name in ``only`` that is none of these.
    """
    check_only(only, [*(row.name for row in ROWS), *TASKS, *NOISES], "row")
    noises, names = set(only) & set(NOISES) or set(NOISES), set(only) & set(TASKS) or set(TASKS)
    asked = set(only) - set(NOISES) - set(TASKS) or {row.name for row in ROWS}
    wanted = [task for task in LAPTOP_TASKS if task.name in names and task.noise in noises]
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        for each in wanted:
            task, settings = made_of(each, replace(printed_settings(), seed=seed), data, runs, seed)
            pipeline = pipeline_of(task, settings, runs / "printed")
            for row in ROWS:
                if row.name in asked and not (each.name == PRODUCTS and TOO_MANY in row.name):
                    yield from judged(row, pipeline)


def results(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> tuple[list[ResultRow], list[str]]:
    """Measure the table; return its figures and the notes below it. Arguments as in `measure`.

    Raises:
        ValueError: without data.
    """
    found = list(measure(given(data), runs, seeds=seeds, only=only))
    return figures(found, {row.name: row.paper for row in ROWS}, FIRST), _reading()


def is_taught(row: str) -> bool:
    """Whether the paper's own method makes this row: sub-tasks whose specialists teach."""
    return " SL K" in row and not row.endswith(f" + {ON_FEATURES.classifier}") and "filtered" not in row


COMPARED = Comparison({"NPV@5%": True, "AUROC": True}, is_taught, lambda row: " SL K" in row)


def _reading() -> list[str]:
    epochs, subtasks = ON_FEATURES.epochs, ON_FEATURES.subtasks
    return [
        TRUE_LABELS,
        f"As in the paper: {epochs} epochs of discovery from random labels (SeLa's start), K of {subtasks}, lambda 250; "
        "specialists and students of 20 epochs, smoothing 0.05 and dropout 0.1; each example is taught by its own sub-task's "
        "specialist, and what is not kept is dropped.",
        "Not as in the paper: features of a frozen encoder in the place of images; one hidden layer of 256 (MLP) in the place "
        "of Swin and of a specialist's ResNet-50, and two of them (two-token MLP) in the place of DeiT; the specialists of one "
        "K share that layer; AdamW at 1e-3, and 3e-4 for students, with a cosine schedule; local precision selects the "
        "specialists, since the paper's threshold, an NPV of 0.1, is below the floor and rejects nobody (the row AT); a "
        "student's checkpoint is selected by AUROC.",
        f"{PRODUCTS.capitalize()} have some 1,300 defects to learn from, too few for 500 sub-tasks; {ALL} some 4,900: a "
        "seed of these takes hours, and is not in the committed table, nor is uniform noise. A seed of the others takes half "
        "an hour, most of it for 1,000 epochs, which therefore have fewer seeds.",
        f"Gains are over the {FIRST} that is plainly fine-tuned; the paper's are over ViT-Base/16, on confidential adverts.",
        f"What `tutelage moderate` makes of these photographs, and stronger plain rows, stand in the table `moderation`: "
        f"`{PLAIN}`, `{FULL}` and `{SERVED}` of the same task and seeds.",
    ]
