"""AMAL at the laptop size: CIFAR as features, people's wrong labels and drawn ones, and rows that are tuned alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from benchmarks.laptop.described import FEATURES, described, encoded_table, table_of
from benchmarks.only import check_only
from benchmarks.results_table import Measured
from tutelage.data.cifar import CifarName
from tutelage.metrics import auroc
from tutelage.models import ModelSettings
from tutelage.recipes.distill.evaluation import right
from tutelage.recipes.distill.methods import method_of
from tutelage.recipes.distill.pipeline import Pipeline, Taught
from tutelage.recipes.distill.settings import DistillSettings, NoiseSettings, TeacherSettings
from tutelage.recipes.distill.task import DistillTask, with_noise
from tutelage.recipes.distill.taught import doubt_of
from tutelage.training import Budget, Log, Optimization
from tutelage.weighting.settings import AdaptSettings

FIRST_SEED = 300
TUNING_SEEDS = (200, 201)
SIZES: dict[CifarName, dict[str, int]] = {
    "cifar10": {"train": 5_000, "held_out": 500, "val": 500},
    "cifar100": {"train": 10_000, "held_out": 2_000, "val": 1_000},
}
TUNED_ON = 5_000  # further training images that judge the trials
ACCURACY, FOUND = "accuracy, %", "AUROC of wrong labels"
Changes = dict[str, Any]

BASE = DistillSettings(
    image_size=32,
    encoder=FEATURES,
    student=ModelSettings("feature_mlp"),
    teachers=(
        TeacherSettings(ModelSettings("feature_mlp", dropout=0.3, options={"widths": [256]}), budget=Budget(epochs=8)),
    ),
    temperature=1.0,
    kd_weight=0.5,
    weighting_defaults={
        "amal": {"lr": 0.1},
        "joint": {"lr": 0.1, "neumann_steps": 1},
        "superloss": {"regularisation": 0.25},
        "crust": {"radius": None, "start": 15},
    },
    adapt=AdaptSettings(every=5, batch_size=500),
    training=Optimization(lr=1e-3, weight_decay=0.5, schedule="cosine", warmup=0.05, batch_size=500),
    budget=Budget(epochs=20),
)


@dataclass(frozen=True)
class Row:
    """A student, and what is tried for it.

    Attributes:
        teach: trains it.
        own: the trial of its own beside those that all rows have.
    """

    teach: Callable[[Pipeline], Taught]
    own: Changes


@dataclass(frozen=True)
class Case:
    """A problem.

    Attributes:
        name: for people.
        data: whose images.
        noise: of the training part.
        four_teachers: whether rows with four teachers are measured, too.
    """

    name: str
    data: CifarName
    noise: NoiseSettings
    four_teachers: bool = False


WORSE = "CIFAR-10N, the worse of three people, 40 % wrong"
CASES = (
    Case(WORSE, "cifar10", NoiseSettings("human", column="worse_label"), four_teachers=True),
    Case("CIFAR-10N, one person, 18 % wrong", "cifar10", NoiseSettings("human", column="random_label1")),
    Case(
        "CIFAR-100N, one person, 40 % wrong",
        "cifar100",
        NoiseSettings("human", column="noisy_label"),
        four_teachers=True,
    ),
    Case("CIFAR-10, 40 % wrong at random", "cifar10", NoiseSettings("symmetric", 0.4)),
    Case("CIFAR-10, 60 % wrong at random", "cifar10", NoiseSettings("symmetric", 0.6)),
)


def by(method: str, *, refit: bool = False) -> Callable[[Pipeline], Taught]:
    """Return how a student is taught by a method, and anew with the weights that it has learned where ``refit``."""

    def teach(pipeline: Pipeline) -> Taught:
        settings = replace(pipeline.settings, refit=refit)
        return Pipeline(pipeline.task, settings, pipeline.stages.folder, pipeline.log).student(method)

    return teach


def trusted(pipeline: Pipeline) -> Taught:
    """Teach a student by the labels, where those of the held-out part count twice: refitting without learned weights."""
    plain = pipeline.student("ce")
    ones = torch.ones(len(pipeline.task.images), 1)
    weighed = replace(plain, weights=ones)
    taught = pipeline.refit("student-ce-trusted", method_of("ce", pipeline.settings), weighed)
    return replace(taught, weights=None)


def _options(**weightings: Changes) -> Changes:
    defaults = {**BASE.weighting_defaults}
    for name, options in weightings.items():
        defaults[name] = {**defaults.get(name, {}), **options}
    return {"weighting_defaults": defaults}


ROWS: dict[str, Row] = {
    "CE": Row(by("ce"), {"smoothing": 0.1}),
    "CE, held-out labels count twice": Row(trusted, {"smoothing": 0.1}),
    "KD": Row(by("kd"), {"kd_weight": 0.9}),
    "Equal": Row(by("equal"), {"temperature": 4.0}),
    "SuperLoss": Row(by("superloss"), _options(superloss={"regularisation": 1.0})),
    "CRUST": Row(by("crust"), _options(crust={"fraction": 0.7})),
    "Meta-Weight-Net": Row(by("meta_weight_net"), _options(meta_weight_net={"meta_optimizer": {"lr": 0.01}})),
    "Learning to Reweight": Row(by("learning_to_reweight"), {"temperature": 4.0}),
    "AMAL": Row(by("amal"), _options(amal={"lr": 0.05})),
    "AMAL, refitted": Row(by("amal", refit=True), _options(amal={"lr": 0.05})),
    "Joint": Row(by("joint"), _options(joint={"lr": 0.05})),
    "Joint, refitted": Row(by("joint", refit=True), _options(joint={"lr": 0.05})),
}
FOUR = ("KD", "AMAL", "AMAL, refitted")
FOUR_TEACHERS = tuple(replace(BASE.teachers[0], budget=Budget(epochs=epochs)) for epochs in (2, 4, 8, 16))


def trials(row: Row) -> list[Changes]:
    """Return what is tried for a row: as many settings for each."""
    training = BASE.training
    return [{}, {"training": replace(training, lr=3e-3)}, {"training": replace(training, weight_decay=0.1)}, row.own]


def task_of(case: Case, seed: int, data: Path, runs: Path, *, tuning: bool = False) -> DistillTask:
    """Return a problem of a seed; for tuning, its test part is of training images."""
    features, facts = described(case.data, data, runs)
    rng = np.random.default_rng([seed, 11])
    counts = [*SIZES[case.data].values(), TUNED_ON if tuning else 0]
    known = facts["split"].to_numpy() == "unassigned"
    drawn = np.split(rng.permutation(np.flatnonzero(known))[: sum(counts)], np.cumsum(counts)[:-1])
    parts = dict(zip((*SIZES[case.data], "test"), drawn, strict=True))
    if not tuning:
        parts["test"] = np.flatnonzero(~known)
    facts = facts.assign(true_label=facts["label"])
    for name, rows in parts.items():
        facts.iloc[rows, facts.columns.get_loc("split")] = name  # type: ignore[index]  # the stubs know no rows
    rows = np.concatenate(list(parts.values()))
    names = tuple(map(str, range(int(facts["label"].max()) + 1)))
    task = with_noise(DistillTask(case.name, table_of(facts, rows), names), case.noise, seed)
    return _Drawn(case.name, encoded_table(features, task.images, rows, f"{case.data}-{seed}-{tuning}"), names)


@dataclass
class _Drawn(DistillTask):
    """A task that all rows share: its fingerprint is computed once."""

    def fingerprint(self) -> str:
        """Return a hash of what training sees."""
        if self._fingerprint is None:
            self._fingerprint = super().fingerprint()
        return self._fingerprint

    _fingerprint: str | None = None


def measure(data: Path, runs: Path, *, seeds: int, only: tuple[str, ...]) -> Iterator[Measured]:
    """Tune each row on seeds of their own and the first case of each data set, and measure it on all cases and other seeds.

    Args:
        data: the folder of the real data sets.
        runs: where features and stages lie.
        seeds: number of seeds.
        only: names of cases and of rows; all by default. Rows with four teachers come with those of one.

    Raises:
        ValueError: a name in ``only`` that is neither.
    """
    asked, rows = chosen(only, [case.name for case in CASES], list(ROWS))
    settings_of: dict[CifarName, dict[str, DistillSettings]] = {}
    for case in CASES:
        if case.name not in asked:
            continue
        if case.data not in settings_of:
            first = next(each for each in CASES if each.data == case.data)
            settings_of[case.data] = tuned(first, data, runs, rows)
        settings = settings_of[case.data]
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            task = task_of(case, seed, data, runs)
            folder = runs / "amal-laptop" / _slug(case.name) / f"seed-{seed}"
            for name in rows:
                found = pipeline_of(task, settings[name], seed, folder / _slug(name))
                yield from _judged(case, name, seed, found, ROWS[name])
            if case.four_teachers:
                for name in (name for name in FOUR if name in rows):
                    four = replace(settings[name], teachers=FOUR_TEACHERS)
                    found = pipeline_of(task, four, seed, folder / f"{_slug(name)}-four")
                    yield from _judged(case, f"{name}, four teachers", seed, found, ROWS[name])


def pipeline_of(task: DistillTask, settings: DistillSettings, seed: int, folder: Path) -> Pipeline:
    """Return the trainings of a seed and a row, whose teachers are trained as its students are."""
    return Pipeline(task, replace(settings, seed=seed), folder, Log(folder.parent / "log.jsonl"))


def chosen(only: tuple[str, ...], cases: list[str], rows: list[str]) -> tuple[list[str], list[str]]:
    """Return the cases and the rows that are asked for; all of those of which none is named.

    Raises:
        ValueError: a name that is neither a case nor a row.
    """
    check_only(only, [*cases, *rows], "case or row")
    return [name for name in cases if name in only] or cases, [name for name in rows if name in only] or rows


def tuned(case: Case, data: Path, runs: Path, rows: list[str]) -> dict[str, DistillSettings]:
    """Return the settings of these rows, of their trials those with the best mean accuracy over the tuning seeds."""
    scores: dict[tuple[str, int], list[float]] = {}
    for seed in TUNING_SEEDS:
        task = task_of(case, seed, data, runs, tuning=True)
        for name in rows:
            for place, changes in enumerate(trials(ROWS[name])):
                folder = runs / "amal-laptop" / f"tuning-{case.data}" / f"seed-{seed}" / f"{_slug(name)}-{place}"
                taught = ROWS[name].teach(pipeline_of(task, replace(BASE, **changes), seed, folder))
                scores.setdefault((name, place), []).append(float(right(taught, task).mean()))
    best = {name: max(range(len(trials(ROWS[name]))), key=lambda place: fmean(scores[name, place])) for name in rows}
    return {name: replace(BASE, **trials(ROWS[name])[best[name]]) for name in rows}


def _judged(case: Case, name: str, seed: int, pipeline: Pipeline, row: Row) -> Iterator[Measured]:
    task = pipeline.task
    taught = row.teach(pipeline)
    accuracy = 100 * float(right(taught, task).mean())
    pipeline.log.say(f"{case.name}, seed {seed}, {name}: accuracy {accuracy:.1f}")
    yield Measured(case.name, name, seed, ACCURACY, accuracy)
    if (found := tells_wrong(taught, pipeline)) is not None:
        yield Measured(case.name, name, seed, FOUND, found)


def reading() -> list[str]:
    """Return what to know when reading the table."""
    count = len(trials(ROWS["CE"]))
    return [
        f"Of each seed {_sizes('cifar10')} are drawn, of CIFAR-100 {_sizes('cifar100')}, the held-out and the validation part "
        "with right labels; the test is CIFAR's own. CIFAR-10 is seen as the features of a small encoder that was trained on "
        "CIFAR-100, and CIFAR-100 as those of one trained on CIFAR-10 (512 numbers). The student is linear, the teacher a "
        "perceptron of 256 units that is trained for 8 of 20 epochs on the training part, four teachers for 2, 4, 8 and 16.",
        "All rows have the same right labels: those that learn weights look at the held-out part, the others are trained on "
        "it, and all keep the epoch that is best on validation. Refitted: a second student is trained with the learned weights "
        "from the start, and on the held-out part too, whose labels have weight 2; `CE, held-out labels count twice` is the "
        "same without learned weights.",
        f"Each row was tuned by {count} trials (learning rate, weight decay, and one setting of its own) on the first case of "
        f"each data set and seeds {' and '.join(map(str, TUNING_SEEDS))}, judged by further training images. "
        "The step of lambda, the budget and that of refitting were found on seeds 1 to 3.",
    ]


def _sizes(data: CifarName) -> str:
    train, held_out, val = SIZES[data].values()
    return f"{train:,} training images, {held_out:,} held out and {val:,} of validation"


def tells_wrong(taught: Taught, pipeline: Pipeline) -> float | None:
    """Return how well the weights tell wrong labels of the training part; None where they weigh all examples alike."""
    task, train = pipeline.task, pipeline.rows("train")
    if taught.weights is None or task.truth is None:
        return None
    doubt, wrong = doubt_of(taught.weights)[train], (task.truth != task.labels)[train]
    if not wrong.any() or doubt.isnan().any() or bool((doubt == doubt[0]).all()):
        return None
    return auroc(doubt.numpy(), wrong.long().numpy())


def _slug(name: str) -> str:
    """Return a folder's name; what is refitted lies beside what it is refitted from."""
    name = name.removesuffix(", refitted")
    return name.replace(", ", "-").replace(" %", "").replace(" ", "-")
