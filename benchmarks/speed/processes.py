"""Two processes beside one: seconds for the same steps with the same global batch, in one run.

    python -m benchmarks.speed.processes

A residual network on random images of 32 pixels, one thread a process, the measurements in turn; the best of several
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

MODEL, REPEATS = "cifar_resnet8", 5
STEPS = {128: 40, 512: 10}  # by the global batch: as many examples in each
EXAMPLES = 4 * 256  # of a prediction
START_UP = 20.0  # seconds that two programs which do not know of each other have to get ready
ONE, TWO, APART = "1", "2", "2 that exchange nothing"


def work(batch: int, count: int, until: float) -> None:
    """Train and predict in this process from a moment on, with others where torchrun has started some.

    Args:
        batch: examples in a step, of all processes.
        count: steps.
        until: the moment, as `time.time`.
    """
    torch.set_num_threads(1)
    main = distributed.join()
    dice = torch.Generator().manual_seed(0)
    data = TensorData(
        input=torch.randint(0, 256, (EXAMPLES, 3, 32, 32), generator=dice, dtype=torch.uint8),
        label=torch.randint(0, 10, (EXAMPLES,), generator=dice),
    )
    model = build(ModelSpec(MODEL, num_classes=10, image_size=32))
    sgd = Optimization(optimizer="sgd", lr=0.01, batch_size=batch)
    seconds = []
    for steps in (2, count):  # the first is a warm-up
        time.sleep(max(0.0, until - time.time()) if steps == count else 0.0)
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


def measured(row: str, whole: int) -> list[float]:
    """Return the seconds of the steps with a global batch, of the processor in one process, and of the prediction."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if row == TWO else []
    until = time.time() + START_UP if row == APART else 0.0
    batch = whole // 2 if row == APART else whole
    command = [
        sys.executable,
        *start,
        "-m",
        "benchmarks.speed.processes",
        "--work",
        str(batch),
        str(STEPS[whole]),
        str(until),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    together = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2 if row == APART else 1)
    ]
    found = []
    for process in together:
        told, errors = process.communicate()
        if (line := re.search(r"seconds (.*)", told)) is None:
            raise RuntimeError(f"{' '.join(command)}: {errors}")
        found.append([float(word) for word in line[1].split()])
    return [max(column) for column in zip(*found, strict=True)]


def main() -> None:
    times: dict[tuple[int, str], list[list[float]]] = {(batch, row): [] for batch in STEPS for row in (ONE, TWO, APART)}
    for _ in range(REPEATS):
        for (batch, row), found in times.items():
            found.append(measured(row, batch))
    best = {key: [min(column) for column in zip(*found, strict=True)] for key, found in times.items()}
    rows = []
    for (batch, row), values in best.items():
        cells = [f"{value:.2f} ({one / value:.2f})" for value, one in zip(values, best[batch, ONE], strict=True)]
        if row == APART:
            cells[-1] = "–"  # each predicts all of them
        rows.append([row, str(batch), str(batch if row == ONE else batch // 2), str(STEPS[batch]), *cells])
    head = [
        "processes",
        "global batch",
        "examples in each",
        "steps",
        "seconds",
        "of the processor",
        f"{EXAMPLES} predictions: seconds",
    ]
    heading = (
        "# Two processes beside one\n\n"
        f"- Date: {datetime.now(UTC).date().isoformat()}\n- Hardware: {hardware()}, one thread a process, gloo\n"
        f"- {MODEL}, images of 32 pixels; the best of {REPEATS} repeats in turn; in "
        "brackets, how many times less than one process; of the processor: the time that it gave to one process\n"
        f"- {APART}: two programs at once, each with half of the batch, that know nothing of each other: what the "
        "machine's cores and memory allow\n\n"
    )
    table = markdown_table(head, rows)
    Path("benchmarks/results/processes.md").write_text(heading + table + "\n")
    print(heading + table)


if __name__ == "__main__":
    if "--work" in sys.argv:
        work(int(sys.argv[-3]), int(sys.argv[-2]), float(sys.argv[-1]))
    else:
        main()
