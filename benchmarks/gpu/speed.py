"""The hot paths on the accelerator beside the CPU of the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks.gpu.agreement import on_the_cpu
from benchmarks.results_table import ResultRow, hardware, write_results
from tutelage.data import TensorData
from tutelage.hypergradient import directional_derivatives
from tutelage.models import ModelSpec, build
from tutelage.signals import CrossEntropy, Distillation, Objective
from tutelage.subtasks import kmeans, sinkhorn
from tutelage.training import predict
from tutelage.weighting import AMAL, MAOAL, Equal, Weighting

CLASSES = 100


@dataclass(frozen=True)
class Sizes:
    """How large the work is: a batch of images, their side, the depth of a network, and a transport problem."""

    batch: int
    side: int
    network: str
    examples: int
    clusters: int
    images: int


FULL = Sizes(batch=128, side=32, network="resnet18", examples=50_000, clusters=100, images=2048)
TINY = Sizes(batch=4, side=8, network="pocket_mlp", examples=40, clusters=3, images=8)


def heading() -> str:
    """Say what ran this."""
    return f"{hardware()}; torch {torch.__version__}"


def table(out: Path, *, tiny: bool = False) -> None:
    """Time every path on both, and write ``speed-gpu.md``."""
    sizes = TINY if tiny else FULL
    accelerator = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    rows = []
    with on_the_cpu():
        here = {name: seconds(work, torch.device("cpu"), 2) for name, work in paths(sizes, torch.device("cpu")).items()}
    there = {name: seconds(work, accelerator, 3 if tiny else 20) for name, work in paths(sizes, accelerator).items()}
    for name in here:
        for metric, value in (
            ("CPU, ms", 1e3 * here[name]),
            ("accelerator, ms", 1e3 * there[name]),
            ("times as fast", here[name] / there[name]),
        ):
            rows.append(ResultRow.over_seeds(name, metric, {0: value}))
            print(f"{name}: {metric} {value:.2f}", flush=True)
    notes = [
        f"{sizes.batch} images of {sizes.side} x {sizes.side} a step, {sizes.network}, {CLASSES} classes; Sinkhorn and k-means "
        f"of {sizes.examples} examples, {sizes.clusters} clusters. The median after two calls that are not counted; float32, "
        "in which matrix products may be TF32.",
        f"The CPU's column is of {torch.get_num_threads()} threads of the same machine.",
    ]
    write_results("speed", "gpu", rows, notes, out)


def seconds(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Return the median time of a call, once the device has done all that was asked."""
    taken = []
    for number in range(rounds + 2):
        start = time.monotonic()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        if number > 1:
            taken.append(time.monotonic() - start)
    return median(taken)


def paths(sizes: Sizes, device: torch.device) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name."""
    draws = torch.Generator().manual_seed(0)
    spec = ModelSpec(sizes.network, CLASSES, sizes.side)
    pixels = torch.randint(0, 256, (sizes.images, 3, sizes.side, sizes.side), generator=draws, dtype=torch.uint8)
    batch = {
        "index": torch.arange(sizes.batch, device=device),
        "input": pixels[: sizes.batch].to(device),
        "label": torch.randint(CLASSES, (sizes.batch,), generator=draws).to(device),
        "teacher": torch.randn(sizes.batch, CLASSES, generator=draws).to(device),
    }
    model = build(spec).to(device)
    objective = Objective(model, [CrossEntropy(), Distillation("teacher", temperature=4.0)])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    logits = torch.randn(sizes.examples, sizes.clusters, generator=draws).to(device).log_softmax(1)
    features = torch.randn(sizes.examples, 64, generator=draws).to(device)
    examples = TensorData(input=pixels)

    def step(weighting: Weighting) -> Callable[[], object]:
        weighting.to(device)

        def work() -> None:
            weighting.backward(objective(batch), batch, model)
            optimizer.step()
            optimizer.zero_grad()
            if weighting.learns:
                weighting.adapt(objective, batch, batch, optimizer)

        return work

    return {
        "plain step": step(Equal()),
        "step and update of AMAL": step(AMAL(sizes.batch, 2)),
        "step and update of AMAL by the last layer": step(AMAL(sizes.batch, 2, strategy="last_layer")),
        "step and update of MAOAL": step(MAOAL(model, 2)),
        "directional derivatives, forward mode": lambda: directional_derivatives(
            objective, batch, direction, "forward_mode"
        ),
        "directional derivatives, differences": lambda: directional_derivatives(
            objective, batch, direction, "finite_difference"
        ),
        "Sinkhorn, lam = 25": lambda: sinkhorn(logits, 25.0),
        "k-means": lambda: kmeans(features, sizes.clusters, restarts=1),
        f"answers for {sizes.images} images": lambda: predict(model, examples),
    }
