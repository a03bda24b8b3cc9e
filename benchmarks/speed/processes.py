"""Two processes beside one: seconds for the same steps with the same global batch, in one run.

    python -m benchmarks.speed.processes

A residual network on random images of 32 pixels, one thread a process, the two measurements in turn; the best of several
counts, since other programs share the cores. Writes benchmarks/results/processes.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.results_table import hardware, markdown_table
from tutelage import distributed
from tutelage.data import TensorData
from tutelage.models import ModelSpec, build
from tutelage.signals import CrossEntropy
from tutelage.training import Budget, Optimization, Plan, fit, predict

MODEL, BATCH, STEPS, REPEATS = "cifar_resnet8", 128, 12, 5
EXAMPLES = 4 * 256  # of a prediction


def work() -> None:
    """Train and predict in this process, with others where torchrun has started some."""
    torch.set_num_threads(1)
    main = distributed.join()
    dice = torch.Generator().manual_seed(0)
    data = TensorData(
        input=torch.randint(0, 256, (EXAMPLES, 3, 32, 32), generator=dice, dtype=torch.uint8),
        label=torch.randint(0, 10, (EXAMPLES,), generator=dice),
    )
    model = build(ModelSpec(MODEL, num_classes=10, image_size=32))
    sgd = Optimization(optimizer="sgd", lr=0.01, batch_size=BATCH)
    seconds = []
    for steps in (2, STEPS):  # the first is a warm-up
        distributed.barrier()
        started, used = time.perf_counter(), time.process_time()
        fit(model, data, signals=[CrossEntropy()], plan=Plan(Budget(steps=steps), sgd))
        distributed.barrier()
        seconds = [time.perf_counter() - started, time.process_time() - used]
    started = time.perf_counter()
    predict(model, data, shared=True)
    seconds.append(time.perf_counter() - started)
    if main:
        print("seconds", *seconds)


def measured(processes: int) -> list[float]:
    """Return the seconds of the steps, of the processor in one process, and of the prediction."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    command = [sys.executable, *start, "-m", "benchmarks.speed.processes", "--work"]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True
    )
    found = re.search(r"seconds (.*)", done.stdout)
    assert found is not None, done.stderr
    return [float(word) for word in found[1].split()]


def main() -> None:
    times: dict[int, list[list[float]]] = {1: [], 2: []}
    for _ in range(REPEATS):
        for processes, found in times.items():
            found.append(measured(processes))
    best = {processes: [min(column) for column in zip(*found, strict=True)] for processes, found in times.items()}
    rows = [
        [
            str(processes),
            str(BATCH // processes),
            *[f"{value:.2f} ({one / value:.2f})" for value, one in zip(values, best[1], strict=True)],
        ]
        for processes, values in best.items()
    ]
    head = [
        "processes",
        "examples in each",
        f"{STEPS} steps: seconds",
        "of the processor",
        f"{EXAMPLES} predictions: seconds",
    ]
    heading = (
        "# Two processes beside one\n\n"
        f"- Date: {datetime.now(UTC).date().isoformat()}\n- Hardware: {hardware()}, one thread a process, gloo\n"
        f"- {MODEL}, images of 32 pixels, global batch of {BATCH}; the best of {REPEATS} repeats in turn; in "
        "brackets, how many times less than one process; of the processor: the time that it gave to one process\n\n"
    )
    table = markdown_table(head, rows)
    Path("benchmarks/results/processes.md").write_text(heading + table + "\n")
    print(heading + table)


if __name__ == "__main__":
    if "--work" in sys.argv:
        work()
    else:
        main()
