"""A case with harmful examples and a harmful module: handwritten digits, each beside a hint.

Examples: 40 % of the labels are wrong, and the teacher has never seen three of the ten digits, so that some examples need the
label and others the teacher. Modules: where the teacher comes from, pictures were grainy and the hint named the digit; here the
hint says nothing. What the teacher says is therefore a help for the part of the student that sees the picture, and misleads
the part that sees the hint.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tutelage.data import TensorData, symmetric_noise
from tutelage.data.digits import handwritten_digits
from tutelage.metrics import auroc
from tutelage.recipes.distill.pipeline import accuracy
from tutelage.recipes.distill.settings import Shares
from tutelage.recipes.distill.task import divided
from tutelage.signals import CrossEntropy, Distillation
from tutelage.training import Budget, Log, Optimization, Plan, Stages, fit, predict, seeds
from tutelage.weighting import AMAL, MAOAL, Equal, Fixed, Joint, MetaOptimizer, Partition, Weighting

TRAINING = Optimization(
    optimizer="sgd", lr=0.02, momentum=0.9, weight_decay=5e-4, schedule="milestones", warmup=0.05, batch_size=50
)
BUDGET = Budget(epochs=60)
EXAMPLES, NOISE, UNSEEN = 300, 0.5, 3
LOUD = 3.0  # the input of a hint that is there
NAMED, GRAIN = 0.95, 1.0  # of the teacher's own data: the share of true hints, the deviation of the grain
SHARE = 0.05  # of the images is held out, with right labels
EVERY, HELD_OUT, MOVED = 4, 200, MetaOptimizer(lr=0.03)


class WithHint(nn.Module):
    """Logits that are the sum of what a perceptron says of the picture, and a linear layer of the hint."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.picture = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
        self.hint = nn.Linear(10, 10, bias=False)
        nn.init.zeros_(self.hint.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Return the logits (B, 10) of pixels and a hint, (B, 64 + 10)."""
        return self.picture(input[:, :64]) + self.hint(input[:, 64:])


def _modules(model: nn.Module) -> Partition:
    return Partition.given(model, {"picture": ["picture"], "hint": ["hint"]})


def _maoal(model: nn.Module, count: int) -> Weighting:
    return MAOAL(model, 2, partition=_modules(model), meta_optimizer=MOVED)


def _joint(model: nn.Module, count: int, neumann_steps: int = 3) -> Weighting:
    return Joint(model, count, 2, partition=_modules(model), meta_optimizer=MOVED, neumann_steps=neumann_steps)


METHODS: dict[str, Callable[[nn.Module, int], Weighting]] = {
    "CE": lambda model, count: Fixed([1.0, 0.0]),
    "KD": lambda model, count: Fixed([0.1, 0.9]),
    "Equal": lambda model, count: Equal(),
    "AMAL": lambda model, count: AMAL(count, 2),
    "MAOAL": _maoal,
    "Joint": _joint,
    "Joint, one step ahead": lambda model, count: _joint(model, count, neumann_steps=0),
}

LEARNS = ("AMAL", "MAOAL", "Joint", "Joint, one step ahead")  # by the held-out part; the others are trained on it


def hinted(seed: int) -> tuple[dict[str, TensorData], Tensor]:
    """Return the parts by name, the teacher's among them, and which labels of the student's training part are wrong."""
    digits = divided(handwritten_digits(), Shares(held_out=SHARE, val=0.1, seed=seed))
    pixels = digits.images.gather(range(len(digits)))[:, 0].flatten(1).float() / 255

    def data(rows: Tensor, label: Tensor, name: str, named: float = 0.0, grain: float = 0.0) -> TensorData:
        draws = seeds.generator(seed, name)
        seen = pixels[rows] + grain * torch.randn(len(rows), 64, generator=draws)
        hint = torch.randint(0, 10, (len(rows),), generator=draws)
        right = torch.rand(len(rows), generator=draws) < named
        hint = torch.where(right, digits.labels[rows], hint)
        return TensorData(input=torch.cat([seen, LOUD * F.one_hot(hint, 10)], 1), label=label)

    train = digits.rows("train")
    seen = train[digits.labels[train] < 10 - UNSEEN]
    own = train[torch.randperm(len(train), generator=seeds.generator(seed, "own"))[:EXAMPLES]]
    noisy = symmetric_noise(digits.labels[own], NOISE, 10, seeds.generator(seed, "noise"))
    parts = {
        "teacher": data(seen, digits.labels[seen], "teacher", NAMED, GRAIN),
        "train": data(own, noisy.labels, "train"),
    }
    for part in ("held_out", "val", "test"):
        parts[part] = data(digits.rows(part), digits.labels[digits.rows(part)], part)
    both = zip(parts["train"].tensors.items(), parts["held_out"].tensors.values(), strict=True)
    parts["train and held out"] = TensorData(**{name: torch.cat([own, held]) for (name, own), held in both})
    return parts, noisy.wrong


def measure(seed: int, folder: Path, log: Log) -> dict[str, dict[str, float]]:
    """Train a student by every method, and return its figures; what is done in the folder is not done again."""
    parts, wrong = hinted(seed)
    stages = Stages(folder, log)
    cache_key = [seed, TRAINING, BUDGET, EXAMPLES, NOISE, UNSEEN, NAMED, GRAIN, LOUD, SHARE, EVERY, HELD_OUT, MOVED]

    def network(width: int, name: str) -> WithHint:
        with seeds.fixed(seed, name):
            return WithHint(width)

    def train_teacher(out: Path) -> dict[str, float]:
        model = network(128, "teacher")
        fit(
            model,
            parts["teacher"],
            signals=[CrossEntropy()],
            plan=Plan(BUDGET, TRAINING, seed=seed, out=out, log=log, name="teacher"),
        )
        save_file(model.state_dict(), out / "teacher.safetensors")
        return {"accuracy": accuracy(*predict(model, parts["test"]))}

    taught = stages.run("teacher", train_teacher, cache_key=cache_key)
    teacher = network(128, "teacher")
    teacher.load_state_dict(load_file(taught.folder / "teacher.safetensors"))

    def train_student(method: str, out: Path) -> dict[str, float]:
        student = network(32, "student")
        examples = parts["train" if method in LEARNS else "train and held out"]
        weighting = METHODS[method](student, len(examples))
        signals = [CrossEntropy(name="label"), Distillation(teacher, temperature=4, name="teacher")]
        fit(
            student,
            examples,
            signals=signals,
            weighting=weighting,
            held_out=parts["held_out"] if method in LEARNS else None,
            plan=Plan(
                BUDGET,
                TRAINING,
                val=parts["val"],
                select_by=accuracy,
                adapt_every=EVERY,
                held_out_batch_size=HELD_OUT,
                seed=seed,
                out=out,
                log=log,
                name=method,
            ),
        )
        return {"accuracy": accuracy(*predict(student, parts["test"])), **_learned(weighting, wrong)}

    return {
        method: stages.run(method, partial(train_student, method), cache_key=cache_key, after=["teacher"]).facts
        for method in METHODS
    }


def _learned(weighting: Weighting, wrong: Tensor) -> dict[str, float]:
    """Return how well the weights tell wrong labels, and each module's importance of the teacher."""
    found = {}
    if isinstance(weighting, AMAL | Joint):
        label_N, teacher_N = weighting.weights.unbind(1)
        found["auroc"] = auroc((teacher_N - label_N).numpy(), wrong.long().numpy())
    if isinstance(weighting, MAOAL | Joint):
        found |= dict(zip(("picture", "hint"), weighting.importance[0].tolist(), strict=True))
    return found
