"""What an optimiser would do next: where its step lands, and how that depends on the gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


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
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    values: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
) -> dict[str, Step]:
    """Return the step that an optimiser would take for each parameter that it holds and that has a gradient.

    Everything is read from ``optimizer.param_groups`` and ``optimizer.state``, which stay as they are. What is done to
    gradients between the backward pass and the step, such as clipping, is not known here.

    Args:
        optimizer: `torch.optim.SGD`, `Adam` or `AdamW` with any of their options, or a wrapper that holds one as its
            ``optimizer``, as Accelerate's and Lightning's do.
        model: whose parameters it holds.
        values: the parameters' values by name, in the type to compute in.
        gradients: their gradients by name.

    Raises:
        ValueError: another optimiser.
    """
    optimizer = _unwrapped(optimizer)
    rule = _RULES[type(optimizer)]
    group_of = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    steps = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in gradients and id(parameter) in group_of:
                group, gradient = group_of[id(parameter)], gradients[name]
                state = optimizer.state.get(parameter, {})
                steps[name] = rule(group, state, values[name], -gradient if group["maximize"] else gradient)
    return steps


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


_RULES: dict[type, Callable[[Mapping[str, Any], Mapping[str, Any], Tensor, Tensor], Step]] = {
    torch.optim.SGD: _sgd,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adam,
}


def _unwrapped(optimizer: Any) -> torch.optim.Optimizer:
    """Return the optimiser inside of its wrappers."""
    while type(optimizer) not in _RULES:
        if not isinstance(getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
            raise ValueError(
                f"the step of {type(optimizer).__name__} can not be looked ahead; use torch.optim's SGD, Adam or AdamW, or "
                "a weighting that does not look ahead"
            )
        optimizer = optimizer.optimizer
    return optimizer
