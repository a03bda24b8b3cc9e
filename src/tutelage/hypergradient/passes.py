"""Gradients weighed by module, in as few backward passes as the weights have distinct rows or columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ModuleWeights:
    """a: how far each signal counts in each module.

    Attributes:
        values_KM: the weights.
        module_of: the module (a column of ``values_KM``) of each parameter, by its name in ``model.named_parameters()``.
            A parameter that is not named, such as a head that only its own loss trains, has weight 1 for every signal.
    """

    values_KM: Tensor
    module_of: Mapping[str, int]


@dataclass(frozen=True)
class Pass:
    """One backward pass: the gradient of ``sum_k weights[k] * totals[k]``, times a scale for each parameter.

    Attributes:
        weights: of each signal, K of them; a signal of weight 0 is not passed through.
        scales: by the name of each parameter that the pass goes to.
    """

    weights: tuple[float, ...]
    scales: Mapping[str, float]

    @classmethod
    def of_one(cls, k: int, signals: int, names: Iterable[str]) -> Pass:
        """Return the pass of one signal alone."""
        return cls(tuple(float(k == other) for other in range(signals)), dict.fromkeys(names, 1.0))

    def total(self, totals_K: Tensor) -> Tensor:
        """Return the scalar whose gradient is taken."""
        counted = [
            total if weight == 1 else weight * total
            for weight, total in zip(self.weights, totals_K.unbind(), strict=True)
            if weight != 0
        ]
        return torch.stack(counted).sum() if counted else totals_K.new_zeros(())

    def gradients(
        self,
        totals_K: Tensor,
        parameters: Mapping[str, Tensor],
        *,
        retain_graph: bool = True,
        create_graph: bool = False,
    ) -> dict[str, Tensor]:
        """Return the gradients, not yet scaled, by those parameters of the pass that its total depends on."""
        total = self.total(totals_K)
        wanted = {name: parameters[name] for name in self.scales if name in parameters}
        if not wanted or not total.requires_grad:
            return {}
        found = torch.autograd.grad(
            total, list(wanted.values()), retain_graph=retain_graph, create_graph=create_graph, allow_unused=True
        )
        return {name: dense(gradient) for name, gradient in zip(wanted, found, strict=True) if gradient is not None}


def dense(gradient: Tensor) -> Tensor:
    """Return a gradient with all its zeros: an embedding with ``sparse=True`` leaves them out, and products need them."""
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


def keep_compiled_graphs() -> None:
    """Let what `torch.compile` compiles from now on be passed through several times, at the price of some memory."""
    import torch._functorch.config as functorch  # the place that torch's own error message names

    functorch.donated_buffer = False


def passes(a: ModuleWeights | None, names: Sequence[str], signals: int) -> list[Pass]:
    r"""Return the passes whose sum is :math:`\sum_k a_{km} \nabla_m L_k`, for some parameters; the cheaper of two ways.

    One pass for each distinct row of a, into the modules where it is not 0; or one for each distinct column, of the losses
    weighed for that column's modules, down to those modules and no further.

    Raises:
        ValueError: another number of signals than rows of a.
    """
    if a is None:
        return [Pass((1.0,) * signals, dict.fromkeys(names, 1.0))]
    if len(a.values_KM) != signals:
        raise ValueError(f"the weighting was made for {len(a.values_KM)} signals, the objective has {signals}")
    on_host = ModuleWeights(a.values_KM.detach().cpu(), a.module_of)  # once, in the place of a wait for each number
    rows, columns = by_rows(on_host, names), by_columns(on_host, names)
    distinct = len(set(zip(*on_host.values_KM.tolist(), strict=True)))
    return columns if columns_are_cheaper(len(rows), distinct) else rows


def by_rows(a: ModuleWeights, names: Sequence[str]) -> list[Pass]:
    """Return a pass for each distinct row of a."""
    rows, row_of_K = torch.unique(a.values_KM, dim=0, return_inverse=True)
    scales = [{name: row[a.module_of[name]] if name in a.module_of else 1.0 for name in names} for row in rows.tolist()]
    return [
        Pass(tuple((row_of_K == row).double().tolist()), {name: scale for name, scale in own.items() if scale != 0})
        for row, own in enumerate(scales)
    ]


def by_columns(a: ModuleWeights, names: Sequence[str]) -> list[Pass]:
    """Return a pass for each distinct column of a, and one for the parameters in no module."""
    members: dict[tuple[float, ...], dict[str, float]] = {}
    columns = list(zip(*a.values_KM.tolist(), strict=True))
    ones = (1.0,) * len(a.values_KM)
    for name in names:
        members.setdefault(columns[a.module_of[name]] if name in a.module_of else ones, {})[name] = 1.0
    return [Pass(weights, scales) for weights, scales in members.items()]


def columns_are_cheaper(rows: int, columns: int) -> bool:
    """Say which way to the weighted gradient is cheaper, by a count of what is passed through in units of one forward pass.

    A pass for a row of a costs 2: gradients by the activations of the whole depth, and by all parameters. The passes for the
    columns go down to depths that are spread evenly: (columns + 1) / 2 by activations, and by each parameter once. With two
    rows, one of which may be a loss of the parameters alone that costs nothing, rows are taken.
    """
    return rows > 2 and (columns + 1) / 2 + 1 < 2 * rows


def weighted_gradient(
    totals_K: Tensor, way: Sequence[Pass], parameters: Mapping[str, Tensor], *, retain_graph: bool = False
) -> dict[str, Tensor]:
    """Return the sum of some passes, by name; the graph goes with the last of them unless it is retained."""
    summed: dict[str, Tensor] = {}
    for place, each in enumerate(way):
        found = each.gradients(totals_K, parameters, retain_graph=retain_graph or place + 1 < len(way))
        add_scaled(summed, found, each.scales)
    return summed


def add_scaled(summed: dict[str, Tensor], gradients: Mapping[str, Tensor], scales: Mapping[str, float]) -> None:
    """Add gradients, each times its scale, to those in ``summed``; one of scale 0 is left out."""
    for name, gradient in gradients.items():
        if scales[name] != 0:
            scaled = gradient if scales[name] == 1 else scales[name] * gradient
            summed[name] = summed[name] + scaled if name in summed else scaled


def module_products(
    left: Mapping[str, Tensor], right: Mapping[str, Tensor], module_of: Mapping[str, int], modules: int, like: Tensor
) -> Tensor:
    """Return the inner product of two directions in each module, (M,), of a tensor's type; what one of them lacks is 0."""
    products_M = like.new_zeros(modules)
    for name, value in left.items():
        if name in right and name in module_of:
            products_M[module_of[name]] += (value * right[name]).sum()
    return products_M
