"""What iterated learning costs beside the sigmoid baseline: wall time of a run of as many steps, and its backward passes.

Interleaved repetitions of both on the same model, data and budget; the medians are compared. Writes
benchmarks/results/iterated-cost.md.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.iterated_cost [--model pocket_resnet] [--steps 200] [--repeats 5]
"""

from __future__ import annotations

import argparse
import datetime
import time
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch

from benchmarks.results_table import hardware, markdown_table
from tutelage.data.grids import digit_grids
from tutelage.generations import IteratedSettings, iterate
from tutelage.models import ModelSpec, build
from tutelage.models.heads import expect_one_label
from tutelage.signals import BinaryCrossEntropy
from tutelage.training import Budget, Optimization, Plan, fit
from tutelage.weighting import Weighting


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="pocket_patches")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--interaction", type=int, default=20)
    parser.add_argument("--imitation", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "iterated-cost.md")
    told = parser.parse_args()
    images, _ = digit_grids(0, train=5000, val=10, test=10)
    train = images.subset(images.rows("train"))
    passes = 0
    real = Weighting.backward

    def counted(*arguments: Any) -> None:
        nonlocal passes
        passes += 1
        real(*arguments)

    mock.patch.object(Weighting, "backward", counted).start()
    plan = Plan(Budget(steps=told.steps), Optimization(lr=2e-3, batch_size=64))
    settings = IteratedSettings(told.interaction, told.imitation, rho=0.1)
    seconds: dict[str, list[float]] = {"sigmoid": [], "mile": []}
    cpu: dict[str, list[float]] = {"sigmoid": [], "mile": []}  # which a busy machine disturbs less
    backward: dict[str, int] = {}
    for repeat in range(told.repeats + 1):  # the first one warms up
        for method in seconds:
            model = build(ModelSpec(told.model, 10, 24))
            expect_one_label(model, model.heads)
            passes, start, used = 0, time.perf_counter(), time.process_time()
            if method == "mile":
                iterate(model, train, settings, plan)
            else:
                fit(model, train, signals=[BinaryCrossEntropy()], plan=plan)
            if repeat:
                seconds[method].append(time.perf_counter() - start)
                cpu[method].append(time.process_time() - used)
            backward[method] = passes
    wall, used_by = ({method: median(values) for method, values in each.items()} for each in (seconds, cpu))
    rows = [
        [
            method,
            f"{backward[method]}",
            f"{1000 * wall[method] / told.steps:.2f}",
            f"{wall[method] / wall['sigmoid']:.3f}",
            f"{used_by[method] / used_by['sigmoid']:.3f}",
        ]
        for method in wall
    ]
    head = ["", "backward passes", "ms a step", "wall time, relative", "processor time, relative"]
    lines = [
        "# The cost of iterated learning",
        "",
        f"- Date: {datetime.date.today()}",
        f"- Hardware: {hardware()}, {torch.get_num_threads()} thread(s)",
        f"- {told.model}, {told.steps} steps, k_t = {told.interaction}, k_s = {told.imitation}; medians of {told.repeats} runs "
        "of each, one after the other.",
        "- Made by `OMP_NUM_THREADS=1 python -m benchmarks.speed.iterated_cost`.",
        "",
        markdown_table(head, rows),
    ]
    told.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
