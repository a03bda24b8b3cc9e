"""The moderation table as rows of figures over seeds, and what to know when reading it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from benchmarks.moderation.rows import BELIEVED, FIRST, FULL, SERVED, SPECIALISTS, rows
from benchmarks.moderation.table import FIRST_SEED, Measured, Recovered, measure, rows_settings
from benchmarks.moderation.variants import VARIANTS
from benchmarks.paired import Comparison
from benchmarks.results_table import ResultRow
from tutelage.recipes.base import Scale
from tutelage.recipes.moderation.settings import ModerationSettings


def results(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> tuple[list[ResultRow], list[str]]:
    """Measure the table; return its figures and the notes below it. Arguments as in `measure`."""
    found = list(measure(scale, seeds=seeds, data=data, runs=runs, only=only))
    settings, variants = rows_settings(scale), VARIANTS[scale]
    judged = [figure for figure in found if isinstance(figure, Measured)]
    recovered = [figure for figure in found if isinstance(figure, Recovered)]
    printed = {row.name: row.paper for row in rows(variants, settings.student)}
    listed = figures(judged, printed, FIRST)
    for task in dict.fromkeys(figure.task for figure in recovered):
        for way in dict.fromkeys(figure.way for figure in recovered):
            mine = [figure for figure in recovered if figure.task == task and figure.way == way]
            group = f"recovered sub-tasks, {task}"
            listed.append(ResultRow.over_seeds(way, f"{group}: NMI with the truth", {f.seed: f.nmi for f in mine}))
            listed.append(
                ResultRow.over_seeds(way, f"{group}: sub-tasks in use", {f.seed: float(f.in_use) for f in mine})
            )
    if variants is None:
        return listed, [TRUE_LABELS, *LAPTOP]
    return listed, [TRUE_LABELS, *_reading(settings, variants.epochs, variants.subtasks)]


def figures(judged: list[Measured], papers: Mapping[str, tuple[float, float] | None], first: str) -> list[ResultRow]:
    """Return NPV, its gain over the first row in points, and AUROC of each row on each task, over the seeds.

    Args:
        judged: what was measured.
        papers: each row's gains in the paper at 5 % and 1 % FPR.
        first: the row over which gains are counted.
    """
    npv: dict[tuple[str, str, float], dict[int, Measured]] = defaultdict(dict)
    for figure in judged:
        npv[figure.task, figure.row, figure.rate][figure.seed] = figure
    listed: list[ResultRow] = []
    for task in dict.fromkeys(figure.task for figure in judged):
        for row in dict.fromkeys(figure.row for figure in judged if figure.task == task):
            for rate, paper_place in ((0.05, 0), (0.01, 1)):
                values = npv[task, row, rate]
                at, npvs = f"{rate:.0%}", {seed: v.npv for seed, v in values.items()}
                listed.append(ResultRow.over_seeds(row, f"{task}: NPV@{at}", npvs))
                base = npv.get((task, first, rate), {})
                gains = {seed: 100 * (v.npv - base[seed].npv) for seed, v in values.items() if seed in base}
                paper = papers[row]
                if gains:
                    listed.append(
                        ResultRow.over_seeds(row, f"{task}: gain@{at}, points", gains, paper and paper[paper_place])
                    )
            areas = {seed: v.auroc for seed, v in npv[task, row, 0.01].items()}
            listed.append(ResultRow.over_seeds(row, f"{task}: AUROC", areas))
        for rate in (0.05, 0.01):
            floors = {v.seed: v.floor for v in judged if (v.task, v.rate) == (task, rate)}
            listed.append(ResultRow.over_seeds(LOWEST, f"{task}: NPV@{rate:.0%}", floors))
    return listed


LOWEST = "the lowest that is possible"
# Only rows that find no sub-tasks are what the full method has to beat; the paper's own variants stand beside it.
COMPARED = Comparison(
    {"NPV@1%": True, "NPV@5%": True, "AUROC": True},
    lambda row: row.startswith((FULL, SERVED)),
    beside=lambda row: " SL K" in row or row.startswith((SPECIALISTS, BELIEVED)),
)


TRUE_LABELS = (
    "Test labels are the true ones; labels to learn from are wrong at the stated rate, or as people gave them."
)
LAPTOP = [
    f"Settings were chosen on product photographs of seeds below {FIRST_SEED}, both kinds of noise; these seeds are others. "
    "On other products (other restricted article types) nothing was tuned but that the regression is a candidate, and the "
    "rule by which the candidates are averaged: seeds 300 to 303 of both tasks were looked at for these.",
    "The test has no near-copy of what is trained on or selected by. All product photographs: 31,000, beside 9,000 of the "
    "encoder's; all that are restricted, and twice as many acceptable ones as there are look-alikes.",
    "People's labels: of CIFAR-100 ten classes are forbidden, and the labels are those of the one person who looked at an "
    "image (CIFAR-100N); of CIFAR-10 every seed forbids four other classes, and the labels are those of the worst of three "
    "people (CIFAR-10N). Their encoders have learned the other data set. The rule that poor features speak against no label "
    "was made on CIFAR-100's seeds 300, 301, 310 and 311.",
    "Pets: two of three breeds are forbidden, 240 photographs to learn from, an encoder of CIFAR-100.",
    "Moving average: of the weights in plain fine-tuning, with a decay of 0.98; the cosine schedule has come to rest by then.",
    "Doubted labels left out: those that the other examples contradict (leave-one-out kernel ridge regression), without any "
    "sub-task. The regression alone is a row, too. On the believed labels it teaches the student, and is a candidate itself.",
    "The student of the full method learns twice as long as plain fine-tuning, and so do two plain rows. The paper's own rows, "
    "with its epochs and numbers of sub-tasks, stand in the table `printed`.",
    "On products every model learns from features of one frozen encoder, which this command trains first: on CIFAR-100, then "
    "on photographs of the article types on which the pocket scale's encoders start, too: see the table `encoder`.",
]


def _reading(settings: ModerationSettings, epochs: tuple[int, ...], subtasks: tuple[int, ...]) -> list[str]:
    return [
        f"Settings were chosen on seeds below {FIRST_SEED} and both kinds of noise; the seeds here are others.",
        "The paper prints gains only, on its own confidential adverts; ours are on other data and at another size, so signs "
        "and orders can be compared and magnitudes cannot.",
        "Every row starts from encoders pre-trained on the same other task, and every student has the same budget "
        f"({settings.budget}).",
        "Rows named as the paper's follow it: an example is taught by its own sub-task's specialist, and what is not kept is "
        "dropped. Specialists are selected by local precision; by the paper's own threshold (NPV of 0.1, below the floor) "
        "nobody is rejected, which is the row AT.",
        f"Discovery rows: {epochs} epochs and {subtasks} sub-tasks in the place of the paper's (100, 300, 1000) and "
        "(20, 100, 500)."
        if epochs != (100, 300, 1000)
        else "Discovery rows have the paper's epochs and numbers of sub-tasks.",
        "Under structured noise only the core rows are measured.",
        "SWSL and Noisy Student learn from the same unlabelled images as the paper's own last row. Of their settings the paper "
        "says nothing but L2.",
    ]
