"""Batch normalisation by the batches of all processes together, in any model that calls ``torch.nn.functional.batch_norm``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode


class JointBatchNorm(TorchFunctionMode):
    r"""Inside, a model in training mode normalises each channel by the examples that all processes call it on.

    .. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta, \qquad
        \mu = \frac1n \sum_r n_r \mu_r, \qquad \sigma^2 = \frac1n \sum_r n_r \big(\sigma_r^2 + (\mu_r - \mu)^2\big)

    over the processes r, each with :math:`n_r` values of its own. The model is not changed. All processes make the same passes,
    forward and backward, and each has at least one example in them.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace the one function."""
        return (_batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Do as ``torch.nn.functional.batch_norm``, which has these arguments."""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    output, mean_C, var_C, count = _Normalised.apply(input, weight, bias, eps)
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean_C.to(running_mean), momentum)
        if running_var is not None:
            running_var.lerp_((var_C * count / (count - 1)).to(running_var), momentum)
    return output


class _Normalised(torch.autograd.Function):
    """From (input, weight, bias, eps) to the output, and each channel's mean, variance and number of values."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = input.to(torch.promote_types(input.dtype, torch.float32))
        own_var_C, own_mean_C = torch.var_mean(wide, _others(wide), correction=0)
        own = torch.stack([own_mean_C, own_var_C, torch.full_like(own_mean_C, wide.numel() / wide.shape[1])])
        gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, own)
        mean_RC, var_RC, count_RC = torch.stack(gathered, dim=1)
        count_C = count_RC.sum(0)
        mean_C = (count_RC * mean_RC).sum(0) / count_C
        var_C = (count_RC * (var_RC + (mean_RC - mean_C).square())).sum(0) / count_C
        scale_C = (var_C + eps).rsqrt()
        output = (wide - _along(mean_C, wide)) * _along(scale_C, wide)
        if weight is not None:
            output = output * _along(weight, wide)
        if bias is not None:
            output = output + _along(bias, wide)
        ctx.save_for_backward(input, weight, mean_C, scale_C, count_C)
        ctx.mark_non_differentiable(mean_C, var_C, count_C)
        return output.to(input.dtype), mean_C, var_C, count_C

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean_C, scale_C, count_C = ctx.saved_tensors
        gradient = gradient.to(mean_C.dtype)
        normalised = (input.to(mean_C.dtype) - _along(mean_C, input)) * _along(scale_C, input)
        own = torch.stack([gradient.sum(_others(input)), (gradient * normalised).sum(_others(input))])
        bias_C, weight_C = own.clone()
        found = None
        if ctx.needs_input_grad[0]:
            dist.all_reduce(own)
            mean_of, slope_of = own / count_C
            found = gradient - _along(mean_of, input) - normalised * _along(slope_of, input)
            found = found * _along(scale_C if weight is None else scale_C * weight, input)
            found = found.to(input.dtype)
        return found, None if weight is None else weight_C.to(weight), bias_C if ctx.needs_input_grad[2] else None, None


def _others(input: Tensor) -> list[int]:
    """Return all dimensions but the channels'."""
    return [0, *range(2, input.dim())]


def _along(values_C: Tensor, input: Tensor) -> Tensor:
    """Return one number a channel in the shape that goes with the input."""
    return values_C.view(1, -1, *[1] * (input.dim() - 2))
