"""The table of rules as rows of figures over seeds, and what to know when reading it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from benchmarks.paired import Comparison
from benchmarks.results_table import ResultRow, t_quantile
from benchmarks.rules.data_sets import NAMES
from benchmarks.rules.table import AMAL, ONLY_L, PAPER, RATES, WITH_VAL, Measured, measure
from tutelage.recipes.base import Scale
from tutelage.recipes.denoise.settings import DenoiseSettings, pocket

Found = dict[tuple[str, str], dict[int, Measured]]


def results(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> tuple[list[ResultRow], list[str]]:
    """Measure the table; return its figures and the notes below it. Arguments as in `measure`."""
    found: Found = defaultdict(dict)
    missing: dict[str, None] = {}
    for figure in measure(scale, seeds=seeds, data=data, runs=runs, only=only):
        if isinstance(figure, str):
            missing[figure] = None
        else:
            found[figure.data_set, figure.row][figure.seed] = figure
    listed = []
    for name, row in found:
        values = found[name, row]

        def over(key: str, values: dict[int, Measured] = values) -> dict[int, float]:
            return {seed: 100 * measured.figures[key] for seed, measured in values.items()}

        title = NAMES[name]
        listed.append(ResultRow.over_seeds(row, f"{title}: macro F1", over("macro_f1")))
        if row != ONLY_L and (name, ONLY_L) in found:
            gains = _differences(found, name, row, ONLY_L)
            listed.append(ResultRow.over_seeds(row, f"{title}: gain", gains, PAPER.get(row, {}).get(name)))
        listed.append(ResultRow.over_seeds(row, f"{title}: F1 of class 1", over("f1")))
        listed.append(ResultRow.over_seeds(row, f"{title}: accuracy", over("accuracy")))
        listed.append(ResultRow.over_seeds(row, f"{title}: macro F1, unseen", over("unseen")))
    settings = pocket() if scale == "pocket" else DenoiseSettings()
    return listed, [*missing, *_chosen(found), *_reading(settings, seeds)]


def _differences(found: Found, name: str, row: str, other: str) -> dict[int, float]:
    """Return how many points of macro F1 a row is better, seed by seed."""
    theirs = found[name, other]
    return {
        seed: 100 * (measured.figures["macro_f1"] - theirs[seed].figures["macro_f1"])
        for seed, measured in found[name, row].items()
        if seed in theirs
    }


COMPARED = Comparison({"macro F1": True}, lambda row: row == AMAL)


def _chosen(found: Found) -> list[str]:
    """Say which learning rate each row took."""
    notes = []
    for name, title in NAMES.items():
        rates = {row: next(iter(values.values())).rate for (of, row), values in found.items() if of == name}
        told = ", ".join(f"{row} {rate:g}" for row, rate in rates.items() if rate is not None)
        if told:
            notes.append(f"{title}: learning rates taken: {told}.")
    return notes


def _reading(settings: DenoiseSettings, seeds: int) -> list[str]:
    deviation = (
        f" The standard deviation over the {seeds} seeds, which the paper prints, is {seeds**0.5 / t_quantile(seeds - 1):.2f} "
        "times what stands after ±."
        if seeds > 1
        else ""
    )
    rates = ", ".join(f"{rate:g}" for rate in RATES)
    return [
        f"Figures are in percent.{deviation} Gains are points of macro F1 over Only-L of the same seed; the paper does not say "
        "which F1 its figures are, and has 91.45 (SMS), 77.35 (IMDB) and 89.60 (YouTube) for Only-L.",
        "Every seed draws its own labelled texts, as many of each class as the published split has (69, 284, 100), from "
        "the training part; test and validation parts are the published ones. All rows of a seed have the same texts.",
        f"Features: {settings.features.kind}; classifier: {settings.classifier.kind}; budget: {settings.budget}. The paper's "
        "SMS and YouTube figures stand on pre-trained embeddings, so that gains can be compared and levels cannot.",
        f"Every trained row has the same tuning: one of the learning rates {rates} by validation macro F1, on one seed that is "
        "not in the table. The best of a run's evaluations is kept by the same figure.",
        f"{AMAL}, L2R and MWN learn their weights on half of the validation part and are selected on the other half; the other "
        f"rows are selected on all of it. So they use labels that the others do not: the row '{WITH_VAL}' says what these are "
        "worth as mere training labels.",
        "'unseen' leaves out the test examples that also stand in the training part: 62 of 500 (SMS), 8 of 250 (YouTube), 2 of "
        "500 (IMDB).",
        "Where no rule votes, rows of rules alone answer the class with the most training labels.",
    ]
