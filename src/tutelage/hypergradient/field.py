"""The vector field that weighted training follows, and its Jacobian, which is not symmetric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tutelage.distributed import mean_over_processes
from tutelage.hypergradient.finite_difference import STEP, full_precision, moved, norm
from tutelage.hypergradient.passes import ModuleWeights, Pass, add_scaled, dense, passes, weighted_gradient
from tutelage.hypergradient.probe import Parameters, Probe

Result = TypeVar("Result")
Products = Literal["double_backward", "finite_difference"]
Product = Callable[[Parameters], dict[str, Tensor]]


class Field:
    r"""The update direction of weighted training.

    .. math:: G_m(\theta) = \frac1n \sum_i \sum_k u_{ik}\, a_{km}\, \nabla_{\theta_m} \ell_k(x_i; \theta)

    The mean is over the finite examples of all processes. With module weights G is the gradient of no function.

    Args:
        probe: the objective on the batch.
        weights_BK: u, or None for all ones.
        module_weights: a, or None for all ones.
        step: how far parameters are moved, in all, for a difference of gradients.
    """

    def __init__(
        self,
        probe: Probe,
        weights_BK: Tensor | None = None,
        module_weights: ModuleWeights | None = None,
        step: float = STEP,
    ) -> None:
        self.probe = probe
        self.step = step
        self.weights_BK = weights_BK
        self.passes = passes(module_weights, probe.trainable, len(probe.objective.signals))
        self.examples = 0

    def at(self, parameters: Parameters | None = None) -> dict[str, Tensor]:
        """Return G by name, at other parameters where they are given.

        A parameter that no counted loss depends on has no entry. `examples` is then the number of examples, n.
        """
        mean, self.examples = mean_over_processes(*self.local_sum(parameters), self.probe.parameters)
        return mean

    def local_sum(self, parameters: Parameters | None = None) -> tuple[dict[str, Tensor], int]:
        """Return this process's share of n G, and of n."""
        return self._gradient(self.passes, parameters)

    def with_products(self, strategy: Products, work: Callable[[Product], Result]) -> Result:
        r"""Return ``work(product)``, where ``product(v)`` is :math:`J^\top v = \sum_k H_k (a_k * v)`, J being G's Jacobian.

        The mask comes before the Hessian-vector product. Taking it after gives :math:`Jv`, which is something else.
        """
        if strategy == "finite_difference":
            with full_precision():
                return work(self._difference)
        leaves = self.probe.leaves()

        def derive(losses_BK: Tensor) -> Result:
            totals_K, count = weighted_totals(losses_BK, self.weights_BK)
            parts = [(each.gradients(totals_K, leaves, create_graph=True), each.scales) for each in self.passes]

            def product(v: Parameters) -> dict[str, Tensor]:
                pairs = [
                    (gradient, scale[name] * v[name])
                    for part, scale in parts
                    for name, gradient in part.items()
                    if name in v and gradient.requires_grad
                ]
                found: dict[str, Tensor] = {}
                if pairs:
                    outputs, masked = zip(*pairs, strict=True)
                    gradients = torch.autograd.grad(
                        outputs, list(leaves.values()), masked, retain_graph=True, allow_unused=True
                    )
                    found = {name: dense(g) for name, g in zip(leaves, gradients, strict=True) if g is not None}
                return mean_over_processes(found, count, leaves)[0]

            return work(product)

        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            return self.probe.run(leaves, derive)

    def _difference(self, v: Parameters) -> dict[str, Tensor]:
        """Return J^T v by central differences of gradients, two for each pass."""
        total: dict[str, Tensor] = {}
        count = 0
        for each in self.passes:
            masked = {name: each.scales[name] * value for name, value in v.items() if name in each.scales}
            length = norm(masked)
            epsilon = self.step / length if length > 0 else 0.0
            for step in (epsilon, -epsilon) if epsilon else ():
                there = moved(self.probe.parameters, masked, step)
                whole = Pass(each.weights, dict.fromkeys(self.probe.trainable, 1 / (2 * step)))
                found, count = self._gradient([whole], there)
                add_scaled(total, found, dict.fromkeys(found, 1.0))
        return mean_over_processes(total, count, self.probe.parameters)[0]

    def _gradient(self, way: Sequence[Pass], parameters: Parameters | None) -> tuple[dict[str, Tensor], int]:
        """Return this process's sum over the finite examples of some passes, and their number."""
        leaves = self.probe.leaves(parameters)

        def derive(losses_BK: Tensor) -> tuple[dict[str, Tensor], int]:
            totals_K, count = weighted_totals(losses_BK, self.weights_BK)
            return weighted_gradient(totals_K, way, leaves, retain_graph=True), count

        with torch.enable_grad():
            return self.probe.run(leaves, derive)


def weighted_totals(losses_BK: Tensor, weights_BK: Tensor | None) -> tuple[Tensor, int]:
    """Return sum_i u_ik l_ik over the finite examples, (K,), and their number."""
    if weights_BK is not None and weights_BK.shape != losses_BK.shape:
        raise ValueError(f"weights are {tuple(weights_BK.shape)} for losses of {tuple(losses_BK.shape)}")
    finite_B = torch.isfinite(losses_BK.detach()).all(1)
    losses_RK = losses_BK[finite_B]
    if weights_BK is not None:
        losses_RK = weights_BK.detach()[finite_B].to(losses_RK) * losses_RK
    return losses_RK.sum(0), len(losses_RK)
