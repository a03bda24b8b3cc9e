"""Models and signals that break careless derivatives, small and in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tutelage.hypergradient import ModuleWeights, directional_derivatives
from tutelage.hypergradient.field import Field
from tutelage.hypergradient.optimizers import next_steps
from tutelage.hypergradient.probe import Probe
from tutelage.signals import Batch, CrossEntropy, Distillation, Objective, Outputs, Signal

EXAMPLES, WIDTH, CLASSES = 5, 6, 4


class Residual(nn.Module):
    """One module used twice, and registered under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Linear(WIDTH, WIDTH)
        self.again = self.block
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.again(torch.tanh(self.block(x))))


class Tied(nn.Module):
    """Two modules that hold one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.second.weight = self.first.weight
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Unused(nn.Module):
    """A layer that is never called, and a parameter without a gradient in some examples."""

    def __init__(self) -> None:
        super().__init__()
        self.never = nn.Linear(3, 3)
        self.body, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(x)))


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body(x).mul_(2).add_(1)
        F.silu(hidden, inplace=True)
        hidden[:, 0] *= 3
        return self.head(hidden)


class Convolutional(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Unflatten(1, (1, 2, 3)),
            nn.Conv2d(1, 4, 2),
            nn.BatchNorm2d(4),
            nn.SiLU(inplace=True),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(8, CLASSES),
        )


class Attention(nn.Module):
    """Fused attention by its three doors; in eval mode PyTorch has kernels for it without any derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(2, 4)
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, activation="gelu", batch_first=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.unflatten(1, (3, 2)))
        tokens = tokens + self.attend(tokens, tokens, tokens, need_weights=False)[0]
        tokens = self.layer(F.scaled_dot_product_attention(tokens, tokens, tokens))
        return self.head(tokens.mean(1))


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.drop, self.head = nn.Dropout(0.3), nn.Linear(WIDTH, CLASSES)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        def block(hidden: Tensor) -> Tensor:
            return self.drop(torch.tanh(self.second(torch.tanh(hidden))))

        return self.head(checkpoint(block, self.first(x), use_reentrant=self.reentrant))


class Detached(nn.Module):
    """Part of the output is a constant to the backward pass, though not in fact."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.body(x))
        with torch.no_grad():
            scale = 1 + 3 * torch.tanh(self.body(x)).square().mean(1, keepdim=True)
        return self.head(hidden * scale)


class _Cube(torch.autograd.Function):
    """An operator with a backward, and nothing else."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 3 * ctx.saved_tensors[0] ** 2


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(_Cube.apply(self.body(x)))


class Headed(nn.Module):
    """A dict of heads; the signals judge one each."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(WIDTH, WIDTH)
        self.heads = nn.ModuleDict({"main": nn.Linear(WIDTH, CLASSES), "side": nn.Linear(WIDTH, CLASSES)})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = torch.tanh(self.body(x))
        return {name: head(hidden) for name, head in self.heads.items()}


class Spread(Signal):
    """A loss that couples the examples of a batch."""

    separable = False

    def __init__(self) -> None:
        super().__init__("spread")

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        return self.own_output(outputs).var(0).sum()


class Toward(Signal):
    """The squared distance to a goal, which may be out of reach."""

    def __init__(self) -> None:
        super().__init__("toward")

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        return (self.own_output(outputs) - batch["goal"]).square().mean(1)


def mlp(width: int = WIDTH, classes: int = CLASSES) -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, width), nn.Tanh(), nn.Linear(width, classes))


def frozen() -> nn.Module:
    model = mlp()
    model[0].requires_grad_(False)
    return model


def partly_compiled() -> nn.Module:
    model = mlp()
    model[0].compile(backend="eager")
    return model


ZOO: dict[str, Callable[[], nn.Module]] = {
    "plain": mlp,
    "shared": Residual,
    "unused": Unused,
    "in place": InPlace,
    "frozen": frozen,
    "convolutional": Convolutional,
    "attention": Attention,
    "checkpointed": Checkpointed,
    "compiled": lambda: torch.compile(mlp(), backend="eager"),
    "partly compiled": partly_compiled,
    "tied": Tied,
    "heads": Headed,
}


def objective_of(model: nn.Module) -> Objective:
    heads = ("main", "side") if isinstance(model, Headed) else (None, None)
    signals: list[Signal] = [
        CrossEntropy(smoothing=0.1, head=heads[0]),
        Distillation("teacher", temperature=3.0, head=heads[1]),
    ]
    return Objective(model.double(), signals if heads[0] else [*signals, Spread()])


def batch_of(examples: int = EXAMPLES, classes: int = CLASSES, seed: int = 0) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        "index": torch.arange(examples),
        "input": torch.randn(examples, WIDTH, generator=random, dtype=torch.float64),
        "label": torch.randint(classes, (examples,), generator=random),
        "teacher": torch.randn(examples, classes, generator=random, dtype=torch.float64),
    }


def weights_of(examples: int, signals: int, seed: int = 1) -> Tensor:
    return torch.rand(examples, signals, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def direction_of(model: nn.Module, seed: int = 2) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(p.shape, generator=random, dtype=torch.float64)
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def by_example(objective: Objective, batch: Batch, direction: dict[str, Tensor]) -> Tensor:
    """Return D (B, K) from the gradient of each loss of each example, in the very next training pass of a copy."""
    state = torch.get_rng_state()
    objective = copy.deepcopy(objective)
    losses_BK = objective(batch)
    torch.set_rng_state(state)
    parameters = dict(objective.model.named_parameters())
    D_BK = torch.zeros_like(losses_BK)
    for i in range(losses_BK.shape[0]):
        for k in range(losses_BK.shape[1]):
            wanted = [parameters[name] for name in direction]
            found = torch.autograd.grad(losses_BK[i, k], wanted, retain_graph=True, allow_unused=True)
            D_BK[i, k] = sum((p * g).sum() for p, g in zip(direction.values(), found, strict=True) if g is not None)
    return D_BK.detach()


def distance(found: Tensor, expected: Tensor) -> float:
    """Return the relative distance of two tensors."""
    return float((found - expected).norm() / expected.norm())


def landed(objective: Objective, batch: Batch, optimizer: object, u_BK: Tensor | None = None) -> dict[str, Tensor]:
    """Return where the optimiser's next step would land."""
    field = Field(Probe(objective, batch), u_BK)
    steps = next_steps(optimizer, objective, field.probe.parameters, field.at())
    return {name: step.landed for name, step in steps.items()}


def masked_derivatives(objective: Objective, batch: Batch, direction: dict[str, Tensor], a: ModuleWeights) -> Tensor:
    """Return the derivatives (B, K) along the direction, which for signal k is weighed by row k of a."""
    columns = []
    for k, row in enumerate(a.values_KM.tolist()):
        own = {n: p * row[a.module_of[n]] if n in a.module_of else p for n, p in direction.items()}
        columns.append(directional_derivatives(objective, batch, own).values[:, k])
    return torch.stack(columns, 1)
