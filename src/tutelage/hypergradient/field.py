"""The vector field that weighted training follows, and its Jacobian, which is not symmetric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tutelage.distributed import mean_over_processes
from tutelage.hypergradient.finite_difference import STEP, full_precision, moved, norm
from tutelage.hypergradient.probe import Parameters, Probe

Result = TypeVar("Result")
Products = Literal["double_backward", "finite_difference"]
Product = Callable[[Parameters], dict[str, Tensor]]


class ModuleWeights(Protocol):
    """a: how far each signal counts in each module, as `tutelage.weighting.ModuleWeights` states it."""

    @property
    def values_KM(self) -> Tensor:
        """The weights, (K, M)."""

    @property
    def module_of(self) -> Mapping[str, int]:
        """The module of each parameter by name; one that is left out has weight 1 for every signal."""


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
        self._columns: list[
            tuple[Tensor, list[str]]
        ] = []  # of a, each with its parameters, where that is the cheaper way
        signals = len(probe.objective.signals)
        if module_weights is None:
            self._row_of_K = torch.zeros(signals, dtype=torch.int64, device=probe.device)
            self._scales: list[dict[str, float]] = [dict.fromkeys(probe.trainable, 1.0)]
        else:
            module_of = module_weights.module_of
            rows, self._row_of_K = torch.unique(module_weights.values_KM.detach(), dim=0, return_inverse=True)
            self._scales = [
                {name: row[module_of[name]] if name in module_of else 1.0 for name in probe.trainable}
                for row in rows.tolist()
            ]
            self._columns = self._cheaper_columns(module_weights.values_KM.detach(), module_of, len(rows))
        self.examples = 0

    def at(self, parameters: Parameters | None = None) -> dict[str, Tensor]:
        """Return G by name, at other parameters where they are given.

        A parameter that no counted loss depends on has no entry. `examples` is then the number of examples, n.
        """
        mean, self.examples = mean_over_processes(*self.local_sum(parameters), self.probe.parameters)
        return mean

    def local_sum(self, parameters: Parameters | None = None) -> tuple[dict[str, Tensor], int]:
        """Return this process's share of n G, and of n; one backward pass for each distinct row of a."""
        active = {row: [name for name in scale if scale[name] != 0] for row, scale in enumerate(self._scales)}
        rows, count = self._row_gradients(parameters, active)
        total: dict[str, Tensor] = {}
        for row, gradients in rows.items():
            _add(total, gradients, self._scales[row])
        return total, count

    def with_products(self, strategy: Products, work: Callable[[Product], Result]) -> Result:
        r"""Return ``work(product)``, where ``product(v)`` is :math:`J^\top v = \sum_k H_k (a_k * v)`, J being G's Jacobian.

        The mask comes before the Hessian-vector product. Taking it after gives :math:`Jv`, which is something else.
        """
        if strategy == "finite_difference":
            with full_precision():
                return work(self._difference)
        leaves = self.probe.leaves()

        def derive(losses_BK: Tensor) -> Result:
            parts, count = self._parts(losses_BK, leaves)

            def product(v: Parameters) -> dict[str, Tensor]:
                pairs = [
                    (gradient, scale[name] * v[name])
                    for part, scale in parts
                    for name, gradient in part.items()
                    if name in v and scale[name] != 0 and gradient.requires_grad
                ]
                found: dict[str, Tensor] = {}
                if pairs:
                    outputs, masked = zip(*pairs, strict=True)
                    gradients = torch.autograd.grad(
                        outputs, list(leaves.values()), masked, retain_graph=True, allow_unused=True
                    )
                    found = {name: g for name, g in zip(leaves, gradients, strict=True) if g is not None}
                return mean_over_processes(found, count, leaves)[0]

            return work(product)

        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            return self.probe.run(leaves, derive)

    def _parts(
        self, losses_BK: Tensor, leaves: Parameters
    ) -> tuple[list[tuple[dict[str, Tensor], dict[str, float]]], int]:
        """Return gradients with a graph, and what each counts in n G; by rows of a, or by columns, whose weights they hold."""
        if not self._columns:
            totals, count = self._totals(losses_BK)
            rows = [gradients(total, leaves, create_graph=True) for total in totals]
            return list(zip(rows, self._scales, strict=True)), count
        totals_K, count = weighted_totals(losses_BK, self.weights_BK)
        columns = []
        for weights_K, names in self._columns:
            counts_K = weights_K != 0
            total = (weights_K[counts_K].to(totals_K) * totals_K[counts_K]).sum()
            columns.append(gradients(total, {name: leaves[name] for name in names}, create_graph=True))
        return [(column, dict.fromkeys(column, 1.0)) for column in columns], count

    def _cheaper_columns(self, a_KM: Tensor, module_of: Mapping[str, int], rows: int) -> list[tuple[Tensor, list[str]]]:
        """Return each distinct column of a with the names of its parameters, or nothing where rows are cheaper."""
        columns, column_of_M = torch.unique(a_KM, dim=1, return_inverse=True)
        if not columns_are_cheaper(rows, columns.shape[1]):
            return []
        names: dict[int, list[str]] = {}
        for name in self.probe.trainable:
            names.setdefault(int(column_of_M[module_of[name]]) if name in module_of else -1, []).append(name)
        return [(torch.ones_like(a_KM[:, 0]) if c < 0 else columns[:, c], own) for c, own in names.items()]

    def _difference(self, v: Parameters) -> dict[str, Tensor]:
        """Return J^T v by central differences of gradients, two for each distinct row of a."""
        total: dict[str, Tensor] = {}
        count = 0
        for row, scale in enumerate(self._scales):
            masked = {name: scale[name] * value for name, value in v.items() if scale[name] != 0}
            length = norm(masked)
            epsilon = self.step / length if length > 0 else 0.0
            for step in (epsilon, -epsilon) if epsilon else ():
                there = moved(self.probe.parameters, masked, step)
                rows, count = self._row_gradients(there, {row: self.probe.trainable})
                _add(total, rows[row], dict.fromkeys(self.probe.trainable, 1 / (2 * step)))
        return mean_over_processes(total, count, self.probe.parameters)[0]

    def _row_gradients(
        self, parameters: Parameters | None, wanted: Mapping[int, list[str]]
    ) -> tuple[dict[int, dict[str, Tensor]], int]:
        """Return this process's sum over the examples of each wanted row's gradient, by the names wanted of it."""
        leaves = self.probe.leaves(parameters)

        def derive(losses_BK: Tensor) -> tuple[dict[int, dict[str, Tensor]], int]:
            totals, count = self._totals(losses_BK)
            return {
                row: gradients(totals[row], {name: leaves[name] for name in names}) for row, names in wanted.items()
            }, count

        with torch.enable_grad():
            return self.probe.run(leaves, derive)

    def _totals(self, losses_BK: Tensor) -> tuple[list[Tensor], int]:
        """Return the total loss of each distinct row of a, and the number of finite examples."""
        totals_K, count = weighted_totals(losses_BK, self.weights_BK)
        return [totals_K[self._row_of_K == row].sum() for row in range(len(self._scales))], count


def columns_are_cheaper(rows: int, columns: int) -> bool:
    """Say which way to the weighted gradient is cheaper, by a count of what is passed through in units of one forward pass.

    A pass for a row of a costs 2: gradients by the activations of the whole depth, and by all parameters. The passes for the
    columns go down to depths that are spread evenly: (columns + 1) / 2 by activations, and by each parameter once. With two
    rows, one of which may be a loss of the parameters alone that costs nothing, rows are taken.
    """
    return rows > 2 and (columns + 1) / 2 + 1 < 2 * rows


def weighted_totals(losses_BK: Tensor, weights_BK: Tensor | None) -> tuple[Tensor, int]:
    """Return sum_i u_ik l_ik over the finite examples, (K,), and their number."""
    if weights_BK is not None and weights_BK.shape != losses_BK.shape:
        raise ValueError(f"weights are {tuple(weights_BK.shape)} for losses of {tuple(losses_BK.shape)}")
    finite_B = torch.isfinite(losses_BK.detach()).all(1)
    losses_RK = losses_BK[finite_B]
    if weights_BK is not None:
        losses_RK = weights_BK.detach()[finite_B].to(losses_RK) * losses_RK
    return losses_RK.sum(0), len(losses_RK)


def _add(total: dict[str, Tensor], gradients: Parameters, scale: Mapping[str, float]) -> None:
    for name, gradient in gradients.items():
        scaled = gradient if scale[name] == 1 else scale[name] * gradient
        total[name] = total[name] + scaled if name in total else scaled


def gradients(total: Tensor, leaves: Parameters, create_graph: bool = False) -> dict[str, Tensor]:
    """Return the gradients of a scalar by those leaves that it depends on."""
    if not total.requires_grad or not leaves:
        return {}
    found = torch.autograd.grad(
        total, list(leaves.values()), retain_graph=True, create_graph=create_graph, allow_unused=True
    )
    return {name: gradient for name, gradient in zip(leaves, found, strict=True) if gradient is not None}
