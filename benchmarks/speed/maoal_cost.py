"""The cost of a training step and an update of MAOAL against plain steps, and against keeping the graph at every step.

OMP_NUM_THREADS=1 python -m benchmarks.speed.maoal_cost    # writes benchmarks/results/maoal-cost.md
"""

import argparse
import datetime
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.speed.hypergradient_cost import Cost, measured, processor
from tutelage.hypergradient.passes import Pass, by_columns, by_rows, weighted_gradient
from tutelage.models import MultiHead
from tutelage.models.cifar import CifarResNet
from tutelage.signals import CrossEntropy, Objective
from tutelage.weighting import (
    AMAL,
    MAOAL,
    AuxiLearn,
    Joint,
    LearningToReweight,
    MetaWeightNet,
    ModuleWeights,
    Weighting,
)
from tutelage.weighting.base import add_gradients

SIDES = (1, 3, 10)
CLASSES = 5


class Problem:
    """A ResNet-8 with a head for each of K losses, a batch, and MAOAL in its four blocks with importances that all differ."""

    def __init__(self, sides: int, examples: int, size: int) -> None:
        draws = torch.Generator().manual_seed(0)
        names = [f"task_{k}" for k in range(sides + 1)]
        self.model = MultiHead(CifarResNet(num_classes=0), 64, dict.fromkeys(names, CLASSES))
        self.objective = Objective(self.model, [CrossEntropy(name, head=name, name=name) for name in names])
        self.batch = {
            "index": torch.arange(examples),
            "input": torch.randn(examples, 3, size, size, generator=draws),
            **{name: torch.randint(CLASSES, (examples,), generator=draws) for name in names},
        }
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.maoal = MAOAL(self.model, sides + 1)
        self.maoal.free += 0.1 * torch.randn(self.maoal.free.shape, generator=draws)
        self.plain = Weighting()

    def a(self) -> ModuleWeights:
        return self.maoal.module_weights(self.model)


def _gradient(p: Problem) -> Tensor:
    flat = torch.cat([q.grad.flatten() for q in p.model.parameters() if q.grad is not None])
    p.model.zero_grad()
    return flat


def plain_step(p: Problem) -> Tensor:
    p.plain.backward(p.objective(p.batch), p.batch, p.model)
    p.model.zero_grad()
    return torch.zeros(())


def maoal_step(p: Problem) -> Tensor:
    p.maoal.backward(p.objective(p.batch), p.batch, p.model)
    return _gradient(p)


def by(way: Callable[[ModuleWeights, list[str]], list[Pass]]) -> Callable[[Problem], Tensor]:
    def step(p: Problem) -> Tensor:
        trained = dict(p.model.named_parameters())
        found = weighted_gradient(p.objective(p.batch).mean(0), way(p.a(), list(trained)), trained)
        add_gradients(found, trained)
        return _gradient(p)

    return step


def graph_kept(p: Problem) -> Tensor:
    """As the released program: one backward pass a loss, each with ``create_graph``, weighed by hand."""
    trained, a = dict(p.model.named_parameters()), p.a()
    total = {name: torch.zeros_like(q) for name, q in trained.items()}
    for k, loss in enumerate(p.objective(p.batch).mean(0)):
        found = torch.autograd.grad(loss, list(trained.values()), create_graph=True, allow_unused=True)
        for name, gradient in zip(trained, found, strict=True):
            if gradient is not None:
                weight = a.values_KM[k, a.module_of[name]] if name in a.module_of else 1.0
                total[name] = total[name] + weight * gradient
    return torch.cat([value.detach().flatten() for value in total.values()])


def update(p: Problem) -> Tensor:
    return p.maoal.hypergradient(p.objective, p.batch, p.batch, p.optimizer)


METHODS: dict[str, Callable[[Problem], Tensor]] = {
    "plain step on the sum of all losses": plain_step,
    "MAOAL's step (ours)": maoal_step,
    "the same, a pass for each row": by(by_rows),
    "the same, a pass for each column": by(by_columns),
    "the graph kept, as in the released program": graph_kept,
    "an update: hypergradient with 3 products": update,
}


def adapting(make: Callable[[Problem], Weighting]) -> Callable[[Problem], Tensor]:
    """An update of another weighting, made once for each problem: its first update also chooses how derivatives are taken."""
    made: dict[Problem, Weighting] = {}

    def adapt(p: Problem) -> Tensor:
        weighting = made.setdefault(p, make(p))
        weighting.adapt(p.objective, p.batch, p.batch, p.optimizer)
        return torch.zeros(())

    return adapt


OTHERS: dict[str, Callable[[Problem], Tensor]] = {
    "plain step on the sum of all losses": plain_step,
    "AMAL's update": adapting(lambda p: AMAL(len(p.batch["index"]), 2)),
    "AMAL's, of the last layer": adapting(lambda p: AMAL(len(p.batch["index"]), 2, strategy="last_layer")),
    "MAOAL's": adapting(lambda p: p.maoal),
    "Joint's, neumann_steps=0": adapting(lambda p: Joint(p.model, len(p.batch["index"]), 2, neumann_steps=0)),
    "Joint's": adapting(lambda p: Joint(p.model, len(p.batch["index"]), 2)),
    "AuxiLearn's": adapting(lambda p: AuxiLearn(2)),
    "Learning to Reweight's": adapting(lambda p: LearningToReweight()),
    "Meta-Weight-Net's": adapting(lambda p: MetaWeightNet(2)),
}


def table(methods: dict[str, Callable[[Problem], Tensor]], p: Problem, tiny: Problem, repeats: int) -> list[str]:
    lines = ["| one call of | ms | plain steps | peak memory, MB | difference |", "|---|--:|--:|--:|--:|"]
    plain: Cost | None = None
    ours: Cost | None = None
    for name, method in methods.items():
        cost = measured(method, p, tiny, repeats)
        plain = plain or cost
        ours = ours or (cost if method is maoal_step else None)
        same = ours is not None and ours is not cost and cost.result.shape == ours.result.shape
        apart = f"{float((cost.result - ours.result).norm() / ours.result.norm()):.0e}" if same and ours else ""
        row = f"| {name} | {1e3 * cost.seconds:.0f} | {cost.seconds / plain.seconds:.2f} | {cost.megabytes:.0f} | {apart} |"
        print(row, flush=True)
        lines.append(row)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "maoal-cost.md")
    parser.add_argument("--examples", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = [
        "# The cost of MAOAL",
        "",
        f"{datetime.date.today()}; {processor()}, one thread; torch {torch.__version__}, float32.",
        f"ResNet-8 in four blocks on {arguments.examples} images of 32 x 32, a linear head for each of 1 + K losses, and",
        "importances that all differ. Seconds are processor time, the fastest of three; memory is what the first call adds to",
        "the peak of the process. 'Difference' is relative to MAOAL's step. A row's pass is a whole backward pass; a column's",
        "goes down to its block and no further. Made by `OMP_NUM_THREADS=1 python -m benchmarks.speed.maoal_cost`.",
    ]
    for sides in SIDES:
        lines += ["", f"## K = {sides} auxiliary loss{'es' if sides > 1 else ''}: at most {1 + sides} plain steps", ""]
        lines += table(METHODS, Problem(sides, arguments.examples, 32), Problem(sides, 2, 8), 3)
    lines += ["", "## Updates of the weightings side by side, K = 1, as many examples held out as in the batch", ""]
    lines += table(OTHERS, Problem(1, arguments.examples, 32), Problem(1, 2, 8), 3)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
