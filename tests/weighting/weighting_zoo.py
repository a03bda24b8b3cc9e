"""Every weighting on one small task in float64, and the loop that anybody would write around it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from tutelage.signals import CrossEntropy, Distillation, Objective
from tutelage.weighting import (
    AMAL,
    CRUST,
    IEG,
    MAOAL,
    AuxiLearn,
    CleanNet,
    CurriculumNet,
    DroppedTeachers,
    Equal,
    Fixed,
    GradientCosine,
    Joint,
    LearnedMentorNet,
    LearningToReweight,
    MentorNet,
    MetaOptimizer,
    MetaWeightNet,
    SuperLoss,
    Uncertainty,
    Weighting,
)

N, WIDTH, CLASSES, K = 24, 5, 3, 2


class Network(nn.Module):
    """Two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(WIDTH, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh())
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def network(dtype: torch.dtype = torch.float64, kind: Callable[[], nn.Module] = Network) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind().to(dtype)


def examples(size: int = N, seed: int = 1, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        "index": torch.arange(size),
        "input": torch.randn(size, WIDTH, generator=g, dtype=torch.float64).to(dtype),
        "label": torch.randint(CLASSES, (size,), generator=g),
        "teacher": torch.randn(size, CLASSES, generator=g, dtype=torch.float64).to(dtype),
    }


def rows(batch: dict[str, Tensor], which: Iterable[int] | Tensor) -> dict[str, Tensor]:
    which = which if isinstance(which, Tensor) else torch.tensor(list(which), dtype=torch.int64)
    return {key: value[which] for key, value in batch.items()}


def objective_of(model: nn.Module) -> Objective:
    return Objective(model, [CrossEntropy(), Distillation("teacher", temperature=2.0)])


QUICK = MetaOptimizer(lr=0.1)
METHODS: dict[str, Callable[[nn.Module], Weighting]] = {
    "Equal": lambda model: Equal(),
    "Fixed": lambda model: Fixed([1.0, 0.5]),
    "DroppedTeachers": lambda model: DroppedTeachers([0.1, 0.9]),
    "AMAL": lambda model: AMAL(N, K, init=(0.4, 0.9)),
    "AMAL, last layer": lambda model: AMAL(N, K, strategy="last_layer", num_updates=2),
    "AMAL, as released": lambda model: AMAL(N, K, init=(0.1, 0.9), lr=1500, normalise=False, num_updates=5),
    "MAOAL": lambda model: MAOAL(model, K, meta_optimizer=QUICK),
    "MAOAL, parameters": lambda model: MAOAL(
        model,
        K,
        partition="parameter",
        constraint="relu",
        meta_optimizer=MetaOptimizer("sgd", lr=0.1, momentum=0.9, clip_norm=1.0),
    ),
    "Joint": lambda model: Joint(model, N, K, init=(0.4, 0.9), meta_optimizer=QUICK, constraint="softplus"),
    "Joint, one step": lambda model: Joint(model, N, K, neumann_steps=0, meta_optimizer=QUICK),
    "GradientCosine": lambda model: GradientCosine(model),
    "GradientCosine, weighted": lambda model: GradientCosine(model, mode="weighted", partition="block"),
    "Uncertainty": lambda model: Uncertainty(K),
    "AuxiLearn": lambda model: AuxiLearn(K, meta_optimizer=QUICK),
    "LearningToReweight": lambda model: LearningToReweight(),
    "MetaWeightNet": lambda model: MetaWeightNet(K, hidden=7, meta_optimizer=QUICK),
    "SuperLoss": lambda model: SuperLoss(math.log(CLASSES)),
    "SuperLoss, running": lambda model: SuperLoss(num_signals=K, regularisation=0.25),
    "CRUST": lambda model: CRUST(N, fraction=0.4, radius=0.5),
    "CRUST, nearest": lambda model: CRUST(N, fraction=0.4, radius=None),
    "CurriculumNet": lambda model: CurriculumNet(N, start=0, stage=1),
    "CleanNet": lambda model: CleanNet(N, start=0, meta_optimizer=QUICK),
    "MentorNet": lambda model: MentorNet(),
    "MentorNet, self-paced": lambda model: MentorNet(percentile=0.5, width=0.0),
    "MentorNet, learned": lambda model: LearnedMentorNet(hidden=7, meta_optimizer=QUICK),
    "IEG": lambda model: IEG(),
}
# Weightings whose weights of an example depend on the rest of its batch; those that adapt first do so anyway.
TOGETHER = {
    "GradientCosine",
    "GradientCosine, weighted",
    "MentorNet",
    "MentorNet, self-paced",
    "MentorNet, learned",
    "SuperLoss, running",
}
NEUTRAL: dict[str, Callable[[nn.Module], Weighting]] = {
    "Equal": lambda model: Equal(),
    "Fixed": lambda model: Fixed([1.0, 1.0]),
    "AMAL": lambda model: AMAL(N, K),
    "MAOAL": lambda model: MAOAL(model, K),
    "Joint": lambda model: Joint(model, N, K),
    "Uncertainty": lambda model: Uncertainty(K, init=-math.log(2)),
    "SuperLoss": lambda model: SuperLoss(1.0, regularisation=1e40),
    "CRUST": lambda model: CRUST(N),
    "CurriculumNet": lambda model: CurriculumNet(N),
    "CleanNet": lambda model: CleanNet(N),
    "MentorNet": lambda model: MentorNet(start=1),
}


def build(name: str, model: nn.Module, among: dict[str, Callable[[nn.Module], Weighting]] = METHODS) -> Weighting:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return among[name](model).to(next(model.parameters()).dtype)


LEARNED = [name for name in METHODS if build(name, network()).learns]


class Loop:
    """Anybody's training loop around a weighting."""

    def __init__(self, name: str, model: nn.Module | None = None, wrap: Callable[[nn.Module], nn.Module] | None = None):
        model = network() if model is None else model
        self.weighting = build(name, model)
        self.model = model if wrap is None else wrap(model)
        self.objective = objective_of(self.model)
        trained = [p for p in (*self.model.parameters(), *self.weighting.parameters()) if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, lr=0.2, momentum=0.9)

    def step(self, batch: dict[str, Tensor], held_out: dict[str, Tensor]) -> None:
        if self.weighting.adapts_first:
            self.weighting.adapt(self.objective, batch, held_out, self.optimizer)
        self.weighting.backward(self.objective(batch), batch, self.model)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not self.weighting.adapts_first:
            self.weighting.adapt(self.objective, batch, held_out, self.optimizer)
        if isinstance(self.weighting, CRUST):
            self.weighting.select(self.objective, [batch])
        else:
            self.weighting.begin_epoch(0, self.objective, [batch])

    def run(self, numbers: Iterable[int]) -> Loop:
        """Take some steps, each of which is a function of its number."""
        everything = examples()
        for number in numbers:
            torch.manual_seed(number)
            order = torch.randperm(N, generator=torch.Generator().manual_seed(number))
            self.step(rows(everything, order[:8]), examples(6, seed=100 + number))
        return self

    def gradients(self, batch: dict[str, Tensor], held_out: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the gradients of one batch, with the weights as they are."""
        self.optimizer.zero_grad()
        torch.manual_seed(0)
        if self.weighting.adapts_first:
            self.weighting.adapt(self.objective, batch, held_out, self.optimizer)
        self.weighting.backward(self.objective(batch), batch, self.model)
        return {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}


def drawn_anew(loop: Loop, batch: dict[str, Tensor]) -> bool:
    """Return whether the weights of a batch are drawn at random, in every step anew."""
    if loop.weighting.adapts_first:  # which knows weights of the batch that it has seen
        return False
    found, losses_BK = [], loop.objective(batch).detach()
    before = copy.deepcopy(loop.weighting.state_dict())
    for seed in range(8):
        torch.manual_seed(seed)
        loop.weighting.load_state_dict(before)
        found.append(loop.weighting.example_weights(losses_BK, batch))
    loop.weighting.load_state_dict(before)
    first = found[0]
    return first is not None and any(not torch.equal(first, other) for other in found if other is not None)


def assert_close(
    found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-9, atol: float = 1e-12
) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
