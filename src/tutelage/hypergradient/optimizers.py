"""What an optimiser would do next: where its step lands, and how that depends on the gradient."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.hypergradient.named import named_parameters
from tutelage.signals import Objective

Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]
"""The model's own optimiser, or several that share its parameters between them."""


@dataclass(frozen=True)
class Step:
    r"""One element-wise step of an optimiser, :math:`\hat\theta(g)`.

    Attributes:
        landed: :math:`\hat\theta`, where the parameter would be.
        slope: :math:`S = -\partial\hat\theta / \partial g`, of the parameter's shape, or one number for all of it.
    """

    landed: Tensor
    slope: Tensor | float


def next_steps(
    optimizer: Optimizers, objective: Objective, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
) -> dict[str, Step]:
    """Return the step that the optimisers would take for each parameter that they hold and that has a gradient.

    Everything is read from ``param_groups`` and ``state``, which stay as they are. What is done to gradients between the
    backward pass and the step, such as clipping, is not known here.

    Args:
        optimizer: one or several of `torch.optim.SGD`, `Adam` and `AdamW` with any of their options, subclasses of theirs
            that do not override ``step``, or wrappers that hold one as their ``optimizer``, as Accelerate's and Lightning's do.
        objective: whose parameters they hold, its model's and its signals'.
        values: the parameters' values by the names of `named_parameters`, in the type to compute in.
        gradients: their gradients by name.

    Raises:
        ValueError: another optimiser, or one of another model.
    """
    names = {id(parameter): name for name, parameter in named_parameters(objective).items()}
    held, steps = False, {}
    with torch.no_grad():
        for each in _each(optimizer):
            inside, rule = _rule_of(each)
            for group in inside.param_groups:
                for parameter in group["params"]:
                    name = names.get(id(parameter))
                    if name is None:
                        continue
                    held = True
                    if name in gradients:
                        gradient = -gradients[name] if group["maximize"] else gradients[name]
                        steps[name] = rule(group, inside.state.get(parameter, {}), values[name], gradient)
    if not held:
        raise ValueError(_FOREIGN.format(type(objective.model).__name__))
    return steps


def rates(optimizer: Optimizers, objective: Objective) -> dict[str, float]:
    """Return the learning rates of the parameters that training moves, by name.

    Left out is what is frozen, what no optimiser holds, and what has a learning rate of 0, as in a warm-up.

    Raises:
        ValueError: no optimiser holds a parameter of the objective.
    """
    named = named_parameters(objective)
    names = {id(parameter): name for name, parameter in named.items()}
    groups = [group for each in _each(optimizer) for group in each.param_groups]
    held = {
        names[id(parameter)]: float(group["lr"])
        for group in groups
        for parameter in group["params"]
        if id(parameter) in names
    }
    if not held:
        raise ValueError(_FOREIGN.format(type(objective.model).__name__))
    return {name: rate for name, rate in held.items() if rate != 0 and named[name].requires_grad}


def learning_rate(optimizer: Optimizers, objective: Objective) -> float:
    """Return the optimisers' learning rate; of several `rates`, the one of most numbers, and 0 where nothing moves.

    Raises:
        ValueError: no optimiser holds a parameter of the objective.
    """
    named = named_parameters(objective)
    sizes: dict[float, int] = {}
    for name, rate in rates(optimizer, objective).items():
        sizes[rate] = sizes.get(rate, 0) + named[name].numel()
    return max(sizes, key=sizes.__getitem__, default=0.0)


def greatest_learning_rate(optimizer: Optimizers, objective: Objective) -> float:
    """Return the greatest of `rates`, which bounds what a look-ahead's derivatives are proportional to; 0 where nothing moves.

    Raises:
        ValueError: no optimiser holds a parameter of the objective.
    """
    return max(rates(optimizer, objective).values(), default=0.0)


_FOREIGN = (
    "the optimizer holds no parameter of the {} or of its signals: give the one that trains the objective's model"
)


def _sgd(group: Mapping[str, Any], state: Mapping[str, Any], value: Tensor, gradient: Tensor) -> Step:
    r"""SGD: follows :math:`m = b m_0 + (1-d) g`, in the first step :math:`m = g`; with Nesterov, :math:`g + b m`."""
    rate, momentum = float(group["lr"]), group["momentum"]
    gradient = gradient + group["weight_decay"] * value if group["weight_decay"] else gradient
    update, slope = gradient, 1.0
    if momentum:
        buffer = state.get("momentum_buffer")
        if buffer is not None:
            slope = 1 - group["dampening"]
            update = momentum * buffer.to(gradient) + slope * gradient
        if group["nesterov"]:
            update, slope = gradient + momentum * update, 1 + momentum * slope
    return Step(value - rate * update, _signed(rate * slope, group))


def _adam(group: Mapping[str, Any], state: Mapping[str, Any], value: Tensor, gradient: Tensor) -> Step:
    r"""Adam and AdamW, with or without AMSGrad.

    With :math:`m = \beta_1 m_0 + (1-\beta_1) g`, :math:`v = \beta_2 v_0 + (1-\beta_2) g^2`, :math:`r = \sqrt{v / c_2}` and
    the bias corrections :math:`c_j = 1 - \beta_j^t`,

    .. math:: S = \frac{\eta}{c_1 (r + \epsilon)^2} \Big[ (1-\beta_1)\epsilon +
        \frac{(1-\beta_1)\beta_2 v_0 - \beta_1 (1-\beta_2) m_0 g}{c_2 r} \Big]

    which is the derivative with the terms in :math:`g^2` cancelled by hand: at the first step they are all there is, and
    their difference in floating point would be noise. Where AMSGrad's maximum is an older v, r does not depend on g.
    """
    rate, (beta1, beta2), epsilon = float(group["lr"]), group["betas"], group["eps"]
    beta1, beta2 = float(beta1), float(beta2)
    if group["weight_decay"]:
        if group["decoupled_weight_decay"]:
            value = value * (1 - rate * group["weight_decay"])
        else:
            gradient = gradient + group["weight_decay"] * value
    zero = torch.zeros_like(gradient)
    m0 = state["exp_avg"].to(gradient) if state else zero
    v0 = state["exp_avg_sq"].to(gradient) if state else zero
    t = float(state["step"]) + 1 if state else 1.0
    c1, c2 = 1 - beta1**t, 1 - beta2**t
    m, v = beta1 * m0 + (1 - beta1) * gradient, beta2 * v0 + (1 - beta2) * gradient**2
    r = (v / c2).sqrt()
    bracket = (1 - beta1) * beta2 * v0 - beta1 * (1 - beta2) * m0 * gradient
    slope = (1 - beta1) * epsilon + torch.where(r > 0, bracket / (c2 * r), 0.0)
    if group["amsgrad"] and state:
        older = state["max_exp_avg_sq"].to(gradient)
        r = (torch.maximum(older, v) / c2).sqrt()
        slope = torch.where(older > v, (1 - beta1) * (r + epsilon), slope)
    slope = rate * slope / (c1 * (r + epsilon) ** 2)
    return Step(value - rate / c1 * m / (r + epsilon), _signed(slope, group))


def _signed(slope: Any, group: Mapping[str, Any]) -> Any:
    """Turn the slope by the descended gradient into that by the given one."""
    return -slope if group["maximize"] else slope


_RULES: dict[type[torch.optim.Optimizer], Callable[[Mapping[str, Any], Mapping[str, Any], Tensor, Tensor], Step]] = {
    torch.optim.SGD: _sgd,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adam,
}


def _each(optimizer: Optimizers) -> Sequence[torch.optim.Optimizer]:
    return optimizer if isinstance(optimizer, Sequence) else (optimizer,)


def _rule_of(optimizer: Any) -> tuple[torch.optim.Optimizer, Callable[..., Step]]:
    """Return the optimiser inside of its wrappers, and the rule of its step."""
    inside = optimizer
    while True:
        for kind, rule in _RULES.items():
            # ``unwrap``: torch puts a hook for its profiler around the ``step`` of each class that is used.
            if isinstance(inside, kind) and inspect.unwrap(type(inside).step) is inspect.unwrap(kind.step):
                return inside, rule
        if not isinstance(getattr(inside, "optimizer", None), torch.optim.Optimizer):
            why = ", as it overrides step()" if isinstance(inside, tuple(_RULES)) else ""
            raise ValueError(
                f"the step of {type(inside).__name__} can not be looked ahead{why}; use torch.optim's SGD, Adam or AdamW, or a "
                "weighting that does not look ahead"
            )
        inside = inside.optimizer
