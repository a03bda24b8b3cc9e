"""Directional derivatives by dual numbers: exact, all B x K of them in one forward pass."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from tutelage.batches import map_tensors
from tutelage.hypergradient.probe import Parameters, Probe, marked


def forward_mode(probe: Probe, direction: Parameters) -> Tensor:
    r"""Return D (B, K) by forward-mode differentiation.

    Every parameter becomes the dual number :math:`\theta + p\,\epsilon`, and the coefficient of :math:`\epsilon` of each loss
    is :math:`\langle p, \nabla_\theta \ell_k(x_i)\rangle`. What is computed under ``no_grad()`` or detached counts as constant,
    as in a backward pass. Time: about three forward passes; memory: two, no graph is kept. Attention runs in its plain
    kernel, as the fused ones have no forward mode.

    Raises:
        NotImplementedError: an operator of the model has no forward mode.
    """
    _load_rules()
    with torch.enable_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), _ConstantsUnderNoGrad():
        duals = {name: forward_ad.make_dual(probe.parameters[name], p) for name, p in direction.items()}
        return probe.run(duals, _tangent)


class _ConstantsUnderNoGrad(TorchFunctionMode):
    """Takes tensors without their tangents where gradients are off: forward mode by itself sees through `torch.no_grad`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_grad_enabled():
            return func(*args, **kwargs)
        return func(*map_tensors(args, _constant), **map_tensors(kwargs, _constant))


def _constant(value: Tensor) -> Tensor:
    primal, tangent = forward_ad.unpack_dual(value)
    return value if tangent is None else primal


def _tangent(losses_BK: Tensor) -> Tensor:
    value_BK, tangent_BK = forward_ad.unpack_dual(losses_BK)
    D_BK = torch.zeros_like(value_BK) if tangent_BK is None else tangent_BK
    return marked(D_BK, value_BK).detach()  # a signal's own parameters may have left a graph


@functools.cache
def _load_rules() -> None:
    """Let torch load its forward-mode rules, which its deprecated compiler warns of, once and quietly."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)
        forward_ad.make_dual(torch.zeros(()), torch.zeros(()))
