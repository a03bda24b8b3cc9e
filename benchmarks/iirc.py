"""Classes that come task by task and are refined later (IIRC), learned with and without MILe, on handwritten digits.

    OMP_NUM_THREADS=1 python -m benchmarks.iirc             # writes benchmarks/results/iirc.md
    OMP_NUM_THREADS=1 python -m benchmarks.iirc --tune      # prints what the settings were chosen by

Super-classes by shape (closed, curved, straight), the ten digits below them; five tasks, one label an image. Three learning
rates were tried for replay and three rhos for MILe, by pw-JS over the tasks on the validation part of seed 100; the table is of
other seeds, and of other writers' digits.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.results_table import hardware, markdown_table
from tutelage.data.digits import handwritten_digits
from tutelage.data.drawn import divide
from tutelage.data.table import ImageTable
from tutelage.generations import (
    Incremental,
    IncrementalSettings,
    IteratedSettings,
    learn_incrementally,
    refining_tasks,
)
from tutelage.models import ModelSpec, build
from tutelage.training import Budget, Optimization, Plan, predict, seeds

SHAPES = {"closed": (0, 6, 8, 9), "curved": (2, 3, 5), "straight": (1, 4, 7)}
CLOSED, CURVED, STRAIGHT = 10, 11, 12
PARENTS = {digit: CLOSED + place for place, digits in enumerate(SHAPES.values()) for digit in digits}
STREAM = ((CLOSED, CURVED), (STRAIGHT, 0, 2), (1, 6, 3), (8, 4, 5), (9, 7))
BUDGET, BATCH_SIZE = Budget(steps=240), 32
SEEDS, TUNING_SEED = (0, 1, 2), 100
RATES, RHOS = (1e-3, 3e-3, 1e-2), (0.1, 0.25, 0.5)
RATE, MILE_RATE = 1e-3, 3e-3  # the best of the rates, and the middle one, with which the rhos were tried
MILE = IteratedSettings(interaction=20, imitation=10, rho=0.1)


class Figures(NamedTuple):
    """pw-JS after the last task and as a mean over the tasks, labels named of an image after the last, seconds."""

    last: float
    mean: float
    size: float
    seconds: float


def data(seed: int) -> tuple[ImageTable, Tensor]:
    """Return the digits, a fifth of the training writers' as validation, and which of the thirteen classes each is."""
    images = handwritten_digits()
    split = images.table["split"].to_numpy(object, copy=True)
    divide(split, images.labels.numpy(), "unassigned", {"train": 0.8, "val": 0.2}, seed)
    parents = torch.tensor([PARENTS[digit] for digit in range(10)])
    truth_NC = torch.zeros(len(images), 13, dtype=torch.bool)
    truth_NC[torch.arange(len(images)), images.labels] = True
    truth_NC[torch.arange(len(images)), parents[images.labels]] = True
    return images.with_split(split), truth_NC


def measure(seed: int, judged_on: str, settings: IncrementalSettings, rate: float) -> Figures:
    """Learn the stream once."""
    images, truth_NC = data(seed)
    train, test = images.rows("train"), images.rows(judged_on)
    tasks = [
        replace(task, rows=train[task.rows]) for task in refining_tasks(truth_NC[train], PARENTS, STREAM, seed=seed)
    ]
    with seeds.fixed(seed, "init"):
        model = build(ModelSpec("pocket_resnet", len(STREAM[0]), 8, options={"widths": [16, 32]}))
    plan = Plan(BUDGET, Optimization(lr=rate, batch_size=BATCH_SIZE), seed=seed)
    started = time.process_time()
    found = learn_incrementally(
        model, model.heads[0], tasks, images.subset, images.subset(test), truth_NC, settings, plan
    )
    seconds = time.process_time() - started
    return Figures(found.after[-1], float(np.mean(found.after)), _set_size(found, images, test, settings), seconds)


def _set_size(found: Incremental, images: ImageTable, rows: Tensor, settings: IncrementalSettings) -> float:
    logits, _ = predict(found.model, images.subset(rows))
    assert isinstance(logits, Tensor)
    return float((logits.sigmoid() > settings.threshold).sum(1).double().mean())


def methods() -> dict[str, tuple[IncrementalSettings, float]]:
    """Return the rows of the table, each with its learning rate."""
    return {
        "fine-tuning": (IncrementalSettings("finetune"), RATE),
        "fine-tuning with MILe": (IncrementalSettings("finetune", iterated=MILE), MILE_RATE),
        "replay": (IncrementalSettings("replay"), RATE),
        "replay with MILe": (IncrementalSettings("replay", iterated=MILE), MILE_RATE),
    }


def tune() -> None:
    """Print the figures on validation, for each learning rate without MILe and each rho with it."""
    replay = IncrementalSettings("replay")
    for rate in RATES:
        print("replay, lr", rate, measure(TUNING_SEED, "val", replay, rate))
    for rho in RHOS:
        iterated = replace(MILE, rho=rho)
        print("MILe, rho", rho, measure(TUNING_SEED, "val", replace(replay, iterated=iterated), MILE_RATE))


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("--tune", action="store_true")
    if parser.parse_args().tune:
        return tune()
    body = []
    for name, (settings, rate) in methods().items():
        runs = np.array([measure(seed, "test", settings, rate) for seed in SEEDS])
        (last, mean, size, _), spread = runs.mean(0), runs.std(0, ddof=1)
        cells = [
            f"{100 * last:.1f} ± {100 * spread[0]:.1f}",
            f"{100 * mean:.1f} ± {100 * spread[1]:.1f}",
            f"{size:.2f}",
        ]
        body.append([name, *cells, f"{runs[:, 3].mean():.0f}"])
    head = ["method", "pw-JS after the last task", "mean over the tasks", "labels an image", "processor seconds"]
    heading = (
        "# IIRC: classes that come task by task and are refined later\n\n"
        f"- Date: {datetime.now(UTC).date().isoformat()}\n- Hardware: {hardware()}, one thread\n"
        f"- Scikit-learn's digits below three super-classes of shape, {len(STREAM)} tasks, one label an image, test by other "
        f"writers; mean and standard deviation over {len(SEEDS)} seeds. An image has two labels.\n"
        f"- {BUDGET.steps} steps a task for all rows, batch {BATCH_SIZE}, buffer of {IncrementalSettings().buffer} a class, lr "
        f"{RATE:g} (with MILe {MILE_RATE:g}); MILe: rho {MILE.rho:g}, k_t {MILE.interaction}, k_s {MILE.imitation}. Three "
        "settings were tried for replay (learning rates) and three for MILe (rho), by the mean over the tasks on another "
        "seed's validation part.\n\n"
    )
    Path("benchmarks/results/iirc.md").write_text(heading + markdown_table(head, body) + "\n")
    print(heading + markdown_table(head, body))
    return None


if __name__ == "__main__":
    main()
