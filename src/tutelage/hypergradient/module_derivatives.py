"""How each signal's mean loss changes when one module moves along a direction: what weights per module descend on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tutelage.distributed import mean_over_processes
from tutelage.hypergradient.field import weighted_totals
from tutelage.hypergradient.passes import Pass, module_products
from tutelage.hypergradient.probe import Parameters, Probe, full_types
from tutelage.signals import Batch, Objective


@full_types()
def module_derivatives(
    objective: Objective,
    batch: Batch,
    direction: Parameters,
    partition: Mapping[str, int],
    weights_BK: Tensor | None = None,
) -> Tensor:
    r"""Return the directional derivatives of each signal's mean loss, module by module, (K, M).

    .. math:: D_{km} = \Big\langle p_m,\; \nabla_{\theta_m} \frac1n \sum_i u_{ik}\, \ell_k(x_i) \Big\rangle

    so that :math:`\partial L_V / \partial a_{km} = -D_{km}`. One forward pass, and one backward pass for each signal.
    The mean is over the finite examples of all processes, each of which returns the same.

    Args:
        objective: the model and its signals.
        batch: the examples.
        direction: p, by name as in `directional_derivatives`; a name that is missing counts as 0.
        partition: the module, 0 to M - 1, of each parameter by name; parameters that it leaves out are left out.
        weights_BK: u, or None for all ones.

    Raises:
        ValueError: the direction does not fit the model, or the weights are not (B, K).
    """
    probe = Probe(objective, batch)
    direction = {name: p for name, p in probe.direction(direction).items() if name in partition}
    leaves = {name: probe.parameters[name].detach().requires_grad_() for name in direction}
    modules = max(partition.values(), default=-1) + 1

    def derive(losses_BK: Tensor) -> tuple[Tensor, int]:
        totals_K, count = weighted_totals(losses_BK, weights_BK)
        rows = []
        for k in range(len(totals_K)):
            found = Pass.of_one(k, len(totals_K), leaves).gradients(totals_K, leaves)
            rows.append(module_products(found, direction, partition, modules, losses_BK.detach()))
        D_KM = torch.stack(rows)
        return D_KM, count

    with torch.enable_grad():
        D_KM, count = probe.run(leaves, derive)
    return mean_over_processes({"D": D_KM}, count, {"D": D_KM})[0]["D"]
