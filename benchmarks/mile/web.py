"""MILe's Table 2 at the laptop size: learning from people's wrong labels, and from labels as the web gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks.mile.web_problems import SIZES, Problem, like_the_web, people
from benchmarks.mile.web_rows import EPOCHS, ROWS, WIDTH, Changes, Lesson, Row
from benchmarks.results_table import Measured
from tutelage.signals import Batch, Outputs
from tutelage.training import Budget, Log, Optimization, Plan, Stages, predict

FIRST_SEED = 300
TUNING_SEED = 200
OPTIMIZATION = Optimization(lr=3e-3, weight_decay=0.1, schedule="cosine", warmup=0.05, batch_size=500)
TOP_1, TOP_5 = "top-1, %", "top-5, %"


@dataclass(frozen=True)
class Case:
    """A problem of a seed, and whether rare classes come oftener in every row, as in MoPro's and MILe's trainings."""

    name: str
    draw: Callable[[int, Path, Path, bool], Problem]
    rebalance: float = 0.0


CASES = (
    Case("CIFAR-10N, one person, 18 % wrong", lambda *given: people("random_label1", *given)),
    Case("CIFAR-10N, the worse of three people, 40 % wrong", lambda *given: people("worse_label", *given)),
    Case("labels like the web's, 50 classes of CIFAR-100", like_the_web, rebalance=0.5),
)


def trials(row: Row) -> list[Changes]:
    """Return what is tried for a row: as many settings for each."""
    return [{}, {"lr": 1e-3}, {"weight_decay": 1.0}, row.own]


def measure(data: Path, runs: Path, *, seeds: int, only: tuple[str, ...]) -> Iterator[Measured]:
    """Tune each row on each case and a seed of its own, and measure it on others.

    Args:
        data: the folder of the real data sets.
        runs: where features and stages lie.
        seeds: number of seeds.
        only: names of cases.
    """
    for case in CASES:
        if case.name not in only:
            continue
        problem = case.draw(TUNING_SEED, data, runs, True)
        chosen = {}
        for name, row in ROWS.items():
            found = [judged(case, name, changes, TUNING_SEED, problem, runs)[TOP_1] for changes in trials(row)]
            chosen[name] = trials(row)[int(np.argmax(found))]
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            problem = case.draw(seed, data, runs, False)
            for name, changes in chosen.items():
                for figure, value in judged(case, name, changes, seed, problem, runs).items():
                    if figure == TOP_1 or problem.classes > 10:
                        yield Measured(case.name, name, seed, figure, value)


def judged(case: Case, name: str, changes: Changes, seed: int, problem: Problem, runs: Path) -> dict[str, float]:
    """Return a row's accuracies on the test, from a stage that is run once."""
    own = "-".join(["plain", *(f"{key}{value}" for key, value in changes.items())][bool(changes) :])
    folder = runs / "mile-web" / _slug(case.name) / f"seed-{seed}" / _slug(name)
    log = Log(folder / "log.jsonl")

    def work(out: Path) -> dict[str, float]:
        changed = {key: value for key, value in changes.items() if key in ("lr", "weight_decay")}
        plan = Plan(
            Budget(epochs=EPOCHS),
            replace(OPTIMIZATION, **changed),
            ("head",),
            val=problem.parts["val"],
            select_by=_right,
            seed=seed,
            out=out,
            log=log,
            name=name,
        )
        model = ROWS[name].train(Lesson(problem, plan, case.rebalance, changes))
        outputs, rest = predict(model, problem.parts["test"])
        scores = outputs if isinstance(outputs, Tensor) else outputs["logits"]
        found = {}
        for figure, count in ((TOP_1, 1), (TOP_5, 5)):
            named = scores.topk(count, dim=1).indices
            found[figure] = 100 * float((named == rest["label"][:, None]).any(1).double().mean())
        return found

    key = [problem.content, name, changes, case.rebalance, OPTIMIZATION, EPOCHS, WIDTH, seed]
    return Stages(folder, log).run(own, work, cache_key=key).facts


def _right(outputs: Outputs, batch: Batch) -> float:
    """Return the share of best classes that are right."""
    scores = outputs if isinstance(outputs, Tensor) else outputs["logits"]
    return float((scores.argmax(1) == batch["label"]).double().mean())


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


def reading() -> list[str]:
    """Return what to know when reading the rows."""
    train, held_out, val = SIZES.values()
    return [
        f"Table 2: of each seed {train:,} training images are drawn, {held_out} with right labels and {val} of validation; the "
        f"test is CIFAR's own. All rows are perceptrons of {WIDTH} units on frozen features (CIFAR-10 by an encoder of "
        f"CIFAR-100, CIFAR-100 by one of CIFAR-10), trained for {EPOCHS} epochs (SCC twice, MoPro's decoupled head for half as "
        "many more), and keep the epoch that is best on validation. Those that learn by right labels how far others count "
        "(MentorNet, data-driven; CleanNet-like; Distill) look at the held-out part, the others are trained on it.",
        "Labels like the web's: 50 classes of unequal size (the rarest a fifth of the most frequent); a fifth of the training "
        "images has the label of another class of its super-class, a fifth is of the 50 other classes with the label of one of "
        "the three classes nearest to its own. All rows draw rare classes oftener, as MoPro does.",
        "Table 2's rows were tuned by four trials for each case (learning rate, weight decay, one setting of their own) on "
        f"seed {TUNING_SEED}, judged by further training images.",
    ]
