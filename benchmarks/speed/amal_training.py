"""What AMAL adds to the time of distillation: the same steps with constant weights and with learned ones, side by side.

OMP_NUM_THREADS=1 python -m benchmarks.speed.amal_training    # writes benchmarks/results/amal-training.md
"""

import argparse
import datetime
import itertools
import time
from pathlib import Path
from statistics import median

import torch

from benchmarks.speed.hypergradient_cost import processor
from tutelage.hypergradient import Strategy
from tutelage.models.cifar import CifarResNet
from tutelage.signals import CrossEntropy, Distillation, Objective
from tutelage.weighting import AMAL, Fixed, Weighting

BLOCKS = {20: 3, 110: 18}  # of each of three stages, by depth
EXAMPLES, CLASSES, HELD_OUT = 64, 100, 64
UPDATES: dict[str, Strategy] = {"whole network": "auto", "last layer": "last_layer"}
PERIODS = (4, 10, 50)


class Training:
    """A ResNet-8 taught by a larger one on random images; one call is one step."""

    def __init__(self, depth: int, weighting: Weighting, period: int | None) -> None:
        draws = torch.Generator().manual_seed(0)
        self.model = CifarResNet(num_classes=CLASSES)
        self.objective = Objective(
            self.model, [CrossEntropy(), Distillation(CifarResNet(BLOCKS[depth], num_classes=CLASSES), temperature=4)]
        )
        self.weighting, self.period, self.steps = weighting, period, 0
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        self.batch, self.held_out = (
            {
                "index": torch.arange(count),
                "input": torch.randn(count, 3, 32, 32, generator=draws),
                "label": torch.randint(CLASSES, (count,), generator=draws),
            }
            for count in (EXAMPLES, HELD_OUT)
        )

    def step(self) -> None:
        """One step, and the weights' own where it is time."""
        batch = {**self.batch, "input": self.batch["input"].clone()}  # a new batch: teachers remember the last one
        self.weighting.backward(self.objective(batch), batch, self.model)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        if self.period is not None and self.steps % self.period == 0:
            self.weighting.adapt(self.objective, batch, self.held_out, self.optimizer)


def seconds(training: Training, steps: int) -> float:
    """Return the processor time of so many steps."""
    start = time.process_time()
    for _ in range(steps):
        training.step()
    return time.process_time() - start


def ratios(depth: int, steps: int, rounds: int) -> dict[tuple[str, int], float]:
    """Return by update and period how many times as long training takes as with constant weights.

    Rounds of each alternate, so that what else the machine does falls on all. A period longer than a round is measured as a
    period of one round, and its addition divided.
    """
    plain = Training(depth, Fixed([0.1, 0.9]), None)
    learned = {name: Training(depth, AMAL(EXAMPLES, 2, strategy=strategy), steps) for name, strategy in UPDATES.items()}
    for training in (plain, *learned.values()):
        seconds(training, steps)  # the first update also chooses a strategy
        training.steps = 0
    found: dict[str, list[float]] = {name: [] for name in learned}
    for _ in range(rounds):
        base = seconds(plain, steps)
        for name, training in learned.items():
            found[name].append(seconds(training, steps) / base - 1)
    return {
        (name, period): 1 + median(found[name]) * steps / period for name, period in itertools.product(learned, PERIODS)
    }


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10, help="steps of a round, at whose end is one update")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "amal-training.md")
    given = parser.parse_args()
    torch.manual_seed(0)
    lines = [
        "# The cost of training with AMAL",
        "",
        f"{datetime.date.today()}; {processor()}, one thread; torch {torch.__version__}, float32.",
        f"ResNet-8 taught by a larger one, {EXAMPLES} images of 32 x 32 a step and {HELD_OUT} held out, {CLASSES} classes. How",
        "many times as long training takes as with constant weights, by processor time, side by side in one run, the median of",
        f"{given.rounds} rounds of {given.steps} steps and one update. The released program sweeps over all examples in every",
        "tenth epoch, which is an update every 10 steps. Made by `OMP_NUM_THREADS=1 python -m benchmarks.speed.amal_training`.",
        "",
        "| teacher | derivatives of | " + " | ".join(f"every {period} steps" for period in PERIODS) + " |",
        "|---|---|" + "--:|" * len(PERIODS),
    ]
    for depth in BLOCKS:
        found = ratios(depth, given.steps, given.rounds)
        for name in UPDATES:
            cells = " | ".join(f"{found[name, period]:.3f}" for period in PERIODS)
            lines.append(f"| ResNet-{depth} | {name} | {cells} |")
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(given.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
