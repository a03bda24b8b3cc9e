"""The cost of one AMAL update: the closed form of the last layer and forward mode against what they replace.

OMP_NUM_THREADS=1 python -m benchmarks.speed.hypergradient_cost    # writes benchmarks/results/hypergradient-cost.md
"""

import argparse
import datetime
import math
import multiprocessing
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.hypergradient import LastLayerLookAhead, look_ahead_gradient
from tutelage.models.cifar import CifarResNet
from tutelage.signals import CrossEntropy, Distillation, Objective

RATE, TEMPERATURE = 0.1, 4.0


@dataclass
class Problem:
    """One AMAL update: K = 2 losses (label and teacher) of B examples, and V held-out examples."""

    objective: Objective
    batch: dict[str, Tensor]
    held_out: dict[str, Tensor]
    weights_BK: Tensor

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.objective.model.parameters(), lr=RATE)


def problem(model: nn.Module, shape: tuple[int, ...], classes: int, examples: int, held_out: int) -> Problem:
    draws = torch.Generator().manual_seed(0)
    parts = [
        {
            "input": torch.randn(size, *shape, generator=draws).relu() / math.sqrt(math.prod(shape)) * 4,
            "label": torch.randint(classes, (size,), generator=draws),
            "teacher": torch.randn(size, classes, generator=draws),
        }
        for size in (examples, held_out)
    ]
    objective = Objective(model.eval(), [CrossEntropy(), Distillation("teacher", temperature=TEMPERATURE)])
    return Problem(objective, *parts, torch.rand(examples, 2, generator=draws))


def closed_form(p: Problem) -> Tensor:
    return LastLayerLookAhead(p.objective, p.batch, p.held_out, p.optimizer).gradient(p.weights_BK).values


def dense(p: Problem) -> Tensor:
    """The formulation of the authors' program: one row of C (d + 1) numbers for each example and loss.

    Kinder than that program: the held-out gradient, of which only the mean is needed, is a matrix product.
    """
    layer: nn.Linear = p.objective.model
    with torch.no_grad():
        h_Bd, labels_B, teacher_BC = p.batch["input"], p.batch["label"], p.batch["teacher"]
        z_BC = layer(h_Bd)
        pulls = [
            z_BC.softmax(1) - F.one_hot(labels_B, z_BC.shape[1]),
            TEMPERATURE * ((z_BC / TEMPERATURE).softmax(1) - (teacher_BC / TEMPERATURE).softmax(1)),
        ]
        h_Bd1 = torch.cat([h_Bd, torch.ones(len(h_Bd), 1)], 1)
        rows = [
            (pull_BC[:, :, None] * h_Bd1[:, None, :]).flatten(1) / len(h_Bd1) for pull_BC in pulls
        ]  # B x C(d+1), K of them
        step = sum(weight_B @ row for weight_B, row in zip(p.weights_BK.T, rows, strict=True))
        ahead = torch.cat([layer.weight, layer.bias[:, None]], 1) - RATE * step.view(-1, h_Bd1.shape[1])
        h_Vd1 = torch.cat([p.held_out["input"], torch.ones(len(p.held_out["input"]), 1)], 1)
        g_VC = ((h_Vd1 @ ahead.T).softmax(1) - F.one_hot(p.held_out["label"], len(ahead))) / len(h_Vd1)
        outer = (g_VC.T @ h_Vd1).flatten()
        return torch.stack([-RATE * (row @ outer) for row in rows], 1)


def double_backward(p: Problem) -> Tensor:
    """Differentiate through the step with autograd, as `higher` or `torch.func` programs do."""
    weights_BK = p.weights_BK.clone().requires_grad_()
    parameters = dict(p.objective.model.named_parameters())
    total = (weights_BK * p.objective(p.batch)).mean(0).sum()
    gradients = torch.autograd.grad(total, list(parameters.values()), create_graph=True)
    ahead = {name: q - RATE * g for (name, q), g in zip(parameters.items(), gradients, strict=True)}
    buffers = dict(p.objective.model.named_buffers())
    logits_VC = torch.func.functional_call(p.objective.model, (ahead, buffers), (p.held_out["input"],))
    return torch.autograd.grad(F.cross_entropy(logits_VC, p.held_out["label"]), weights_BK)[0]


def through(strategy: str) -> Callable[[Problem], Tensor]:
    def update(p: Problem) -> Tensor:
        return look_ahead_gradient(
            p.objective, p.batch, p.held_out, p.optimizer, p.weights_BK, strategy=strategy
        ).values

    return update


def plain_step(p: Problem) -> Tensor:
    (p.weights_BK * p.objective(p.batch)).mean(0).sum().backward()
    p.objective.zero_grad()
    return torch.zeros(())


@dataclass
class Cost:
    seconds: float
    megabytes: float
    result: Tensor


def measured(update: Callable[[Problem], Tensor], p: Problem, tiny: Problem, repeats: int) -> Cost:
    """In a process of its own: by how much the first update raises the peak of resident memory, and the fastest of some."""
    receive, send = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        update(tiny)  # loads what is loaded once
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = update(p)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        seconds = math.inf
        for _ in range(repeats):
            start = time.process_time()
            update(p)
            seconds = min(seconds, time.process_time() - start)
        send.send((seconds, grown / 1024, result.tolist()))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    send.close()  # so that waiting ends where the process does
    seconds, megabytes, result = receive.recv()
    process.join()
    return Cost(seconds, megabytes, torch.tensor(result))


def table(methods: dict[str, Callable[[Problem], Tensor]], p: Problem, tiny: Problem, repeats: int) -> list[str]:
    """A row for each method; the first is what the others are set against."""
    rows = [
        "| one update by | ms | peak memory, MB | times as slow | times the memory | difference |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    first: Cost | None = None
    for name, update in methods.items():
        cost = measured(update, p, tiny, repeats)
        first = first or cost
        slower, larger = cost.seconds / first.seconds, cost.megabytes / max(first.megabytes, 1e-3)
        apart = (
            f"{float((cost.result - first.result).norm() / first.result.norm()):.0e}"
            if cost.result.shape == first.result.shape and cost is not first
            else ""
        )
        rows.append(
            f"| {name} | {1e3 * cost.seconds:.1f} | {cost.megabytes:.1f} | {slower:.1f} | {larger:.1f} | {apart} |"
        )
        print(rows[-1], flush=True)
    return rows


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "hypergradient-cost.md")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = [
        "# The cost of one AMAL update",
        "",
        f"{datetime.date.today()}; {processor()}, one thread; torch {torch.__version__}, float32.",
        "One update: the derivative of the held-out loss after one step of SGD by each weight of B examples and K = 2 losses",
        "(label and teacher). Seconds are processor time, the fastest of the runs; memory is what one update adds to the peak",
        "of the process, beside the model and the data. All methods in one run, each in a process of its own. 'Difference' is",
        "relative to the first row's result. For the last layer alone, double backward costs no more than the closed form: its",
        "price is paid in the body, below. Made by `OMP_NUM_THREADS=1 python -m benchmarks.speed.hypergradient_cost`.",
    ]
    methods: dict[str, Callable[[Problem], Tensor]] = {
        "closed form (ours)": closed_form,
        "dense rows, B x C (d + 1) for each loss": dense,
        "double backward": double_backward,
    }
    tiny = problem(nn.Linear(2, 3), (2,), 3, 4, 4)
    for classes, width, examples, held_out, repeats in ((100, 64, 384, 1000, 10), (1000, 2048, 128, 64, 3)):
        lines += [
            "",
            f"## The last layer: C = {classes} classes, d = {width} features, B = {examples}, V = {held_out} held out",
            "",
            "The model is that layer alone, so that the body's forward passes, which are the same for all, do not count.",
            "",
            *table(methods, problem(nn.Linear(width, classes), (width,), classes, examples, held_out), tiny, repeats),
        ]
    methods = {
        "plain training step (forward and backward)": plain_step,
        "closed form of the last layer (another estimate)": closed_form,
        "forward mode (ours)": through("forward_mode"),
        "finite difference (ours)": through("finite_difference"),
        "double backward": double_backward,
    }
    lines += [
        "",
        "## The whole network: ResNet-8 on 32 x 32 images, C = 100, B = V = 128",
        "",
        *table(
            methods,
            problem(CifarResNet(num_classes=100), (3, 32, 32), 100, 128, 128),
            problem(CifarResNet(num_classes=3), (3, 8, 8), 3, 2, 2),
            2,
        ),
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
