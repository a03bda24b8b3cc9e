"""AMAL's figures and table, measured: every method on every case, and what to know when reading them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.amal import laptop, two_harms
from benchmarks.amal.cases import Case, cases
from benchmarks.amal.laptop import ACCURACY, FOUND, chosen, tells_wrong
from benchmarks.given import given
from benchmarks.paired import Comparison
from benchmarks.results_table import Measured, ResultRow, rows_of
from tutelage.recipes.base import Scale
from tutelage.recipes.distill.evaluation import right
from tutelage.recipes.distill.pipeline import Pipeline
from tutelage.recipes.distill.task import distill_task
from tutelage.training import Log

FIRST_SEED = 300  # settings were chosen on seeds below 300
TWO_HARMS = "digits with a hint: harmful examples and a harmful module"
APART = ("CE, without the held-out labels", "KD, without the held-out labels")
IMPORTANCE = {name: f"importance of the teacher, {name}" for name in ("picture", "hint")}


def measure(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> Iterator[Measured]:
    """Train and judge every student of every case and seed; stages that are done under ``runs`` are kept.

    Args:
        scale: pocket, laptop or paper.
        seeds: number of seeds.
        data: the folder of the real data sets; without it, only what needs none; laptop needs it.
        runs: where the stages lie.
        only: names of cases and of rows; all by default.

    Raises:
        ValueError: a name in ``only`` that is neither, or laptop without data.
    """
    if scale == "laptop":
        yield from laptop.measure(given(data), runs, seeds=seeds, only=only)
        return
    listed = cases(scale)
    names = [case.name for case in listed] + ([TWO_HARMS] if scale == "pocket" else [])
    students = dict.fromkeys(row for case in listed for row in case.students)
    asked, rows = chosen(only, names, list(students))
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        for case in listed:
            if case.name in asked and (case.data == "digits" or data is not None):
                folder = runs / f"amal-{scale}" / case.name.replace(", ", "-").replace(" ", "-") / f"seed-{seed}"
                yield from _of_case(case, rows, seed, data, folder)
        if TWO_HARMS in only or (TWO_HARMS in names and not only):  # its rows are measured together
            folder = runs / f"amal-{scale}" / "two-harms" / f"seed-{seed}"
            yield from _of_two_harms(seed, Log(folder / "log.jsonl"), folder)


def _of_case(case: Case, rows: list[str], seed: int, data: Path | None, folder: Path) -> Iterator[Measured]:
    settings = replace(case.settings, seed=seed, shares=replace(case.settings.shares, seed=seed))
    source = None if data is None or case.data == "digits" else data / case.data
    task = distill_task(
        case.data,
        settings,
        folder=source,
        train_images=case.images[0],
        test_images=case.images[1],
        classes=case.classes,
    )
    log = Log(folder / "log.jsonl")
    pipeline = Pipeline(task, settings, folder, log)
    for row, student in case.students.items():
        if row not in rows:
            continue
        taught = student(pipeline)
        found = {ACCURACY: 100 * float(right(taught, task).mean())}
        if (told := tells_wrong(taught, pipeline)) is not None:
            found[FOUND] = told
        log.say(f"{case.name}, seed {seed}, {row}: {', '.join(f'{key} {value:.3f}' for key, value in found.items())}")
        yield from (Measured(case.name, row, seed, figure, value) for figure, value in found.items())


def _of_two_harms(seed: int, log: Log, folder: Path) -> Iterator[Measured]:
    for row, found in two_harms.measure(seed, folder, log).items():
        log.say(f"{TWO_HARMS}, seed {seed}, {row}: accuracy {100 * found['accuracy']:.1f}")
        for name, value in found.items():
            if name == "accuracy":
                yield Measured(TWO_HARMS, row, seed, ACCURACY, 100 * value)
            else:
                yield Measured(TWO_HARMS, row, seed, FOUND if name == "auroc" else IMPORTANCE[name], value)


def results(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> tuple[list[ResultRow], list[str]]:
    """Measure the tables; return their figures and the notes below them. Arguments as in `measure`."""
    told = () if scale == "laptop" else cases(scale)
    papers = {(case.name, ACCURACY, row): value for case in told for row, value in case.paper.items()}
    return rows_of(measure(scale, seeds=seeds, data=data, runs=runs, only=only), papers), _reading(scale)


COMPARED = Comparison({ACCURACY: True}, lambda row: row.startswith(("AMAL", "MAOAL", "Joint")))


def _reading(scale: Scale) -> list[str]:
    if scale == "laptop":
        return laptop.reading()
    notes = [
        "Figures 3 and 4 of the paper are drawings without numbers; Table 1 (coresets) has some. KD has 0.9 for the teacher, "
        "the temperature is 4, all methods have one network, optimiser, budget, and selection on the validation part.",
        "Held-out labels, on which AMAL and the other learned weightings look, are clean; the methods that learn nothing on "
        "them are trained on them too, so that all see the same labels. The authors' program keeps them from AMAL's rivals; "
        "so do the rows `without the held-out labels`.",
        "AMAL: weights learned every few steps by the derivative through the whole network, divided by its root mean square. "
        "The released step: 1500 times the last layer's derivative, five times, from 0.1 and 0.9.",
        "CRUST keeps few medoids of the clean examples, which lie close together, and many of the wrong ones, which do not; a "
        "medoid weighs as many as it stands for. So its weights of single examples are no test for wrong labels.",
    ]
    if scale == "pocket":
        notes += [
            "Digits: scikit-learn's 1,797 at 8 pixels, a perceptron of (48, 48) units taught by one of (128, 128), which stops "
            "after 6 of 40 epochs where labels are wrong. CIFAR-100: 3,000 images of 20 classes at 16 pixels, ResNet-20 "
            "teaches ResNet-8 in 12 epochs; the paper has 50,000 of 100 at 32 pixels and 240 epochs.",
            f"{TWO_HARMS}: half of 300 labels are wrong and the teacher never saw three of ten digits, so that examples differ "
            "in whom they should follow; and the teacher relies on a hint that here says nothing, so that modules differ. "
            "Settings and the case were chosen on seeds 0 to 2.",
        ]
    return notes
