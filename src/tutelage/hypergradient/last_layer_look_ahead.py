"""AMAL's update by the last linear layer: look-ahead logits and weights' derivatives from two feature matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.distributed import is_distributed, mean_over_processes
from tutelage.hypergradient.derivatives import Derivatives
from tutelage.hypergradient.last_layer import LastLayer
from tutelage.hypergradient.optimizers import Optimizers, Step, next_steps
from tutelage.hypergradient.probe import Parameters, Probe, full_types, held_out_probe
from tutelage.signals import Batch, Objective


class LastLayerLookAhead:
    r"""The derivative of the held-out loss after one step of the last linear layer, by each weight of that step.

    The model is asked once about each batch; any number of weights can then be tried. With :math:`z = Wh + b`, pulls
    :math:`\delta_{ik} = \partial \ell_k(x_i) / \partial z_i`, :math:`\Delta_i = \frac1n \sum_k u_{ik} \delta_{ik}`, and
    :math:`\kappa_{iv} = \eta (1 + h_i \cdot h_v)` for SGD with learning rate :math:`\eta`,

    .. math:: z'_v = z_v - \sum_i \kappa_{iv} \Delta_i, \qquad g_v = \frac{\partial L_V}{\partial z'_v}, \qquad
        \frac{\partial L_V}{\partial u_{ik}} = -\frac1n \Big\langle \delta_{ik}, \sum_v \kappa_{iv} g_v \Big\rangle

    in O(B V (C + d)), or, where that is less (and for Adam, whose step is not one multiple of the gradient), through the
    layer's own gradient in O((B + V) C d). Nothing of size B x C x d is built.

    Args:
        objective: the model and its signals.
        batch: the training examples of the step, B.
        held_out: the examples whose mean primary loss is to fall, V.
        optimizer: as in `look_ahead_direction`.

    Raises:
        ValueError: the model does not end in one linear layer that the optimiser trains, another optimiser or one of another
            model, or no held-out example.

    Source: Sivasubramanian et al., *Adaptive Mixing of Auxiliary Losses in Supervised Learning*, AAAI 2023, section 3.1.
    """

    @full_types()
    def __init__(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> None:
        self.train = LastLayer.of(Probe(objective, batch))
        self.held_out = LastLayer.of(held_out_probe(objective, held_out), pulled=False)
        self._objective = objective
        self._optimizer = optimizer
        layer = self.train.parameters
        still = self._steps({name: torch.zeros_like(p) for name, p in layer.items()})
        if set(still) != set(layer):
            raise ValueError(f"the optimizer does not hold {sorted(set(layer) - set(still))} of the last linear layer")
        self._examples = max(self.train.count_over_processes(), 1)
        self._held_out_examples = max(self.held_out.count_over_processes(), 1)
        self._kernel_BV = self._kernel(still)
        self._logits_at_rest_VC = self.held_out.logits_BC
        if self._kernel_BV is not None and any(not torch.equal(still[name].landed, layer[name]) for name in layer):
            # Momentum or weight decay moves the layer even where the gradient is 0.
            self._logits_at_rest_VC = self.held_out.logits_at({name: step.landed for name, step in still.items()})

    @full_types()
    def gradient(self, weights_BK: Tensor | None = None) -> Derivatives:
        """Return the derivative by each weight, (B, K), at given weights or at all ones."""
        pulls_BKC = self.train.pulls_BKC
        u_BK = pulls_BKC.new_ones(pulls_BKC.shape[:2]) if weights_BK is None else weights_BK.detach().to(pulls_BKC)
        if u_BK.shape != pulls_BKC.shape[:2]:
            raise ValueError(f"weights are {tuple(u_BK.shape)}, not (B, K) = {tuple(pulls_BKC.shape[:2])}")
        u_BK = torch.where(self.train.coupled_K, (u_BK * self.train.finite_B[:, None]).sum(0), u_BK)
        step_BC = (u_BK[:, :, None] * pulls_BKC).sum(1)
        if self._kernel_BV is not None:
            logits_VC = self._logits_at_rest_VC - self._kernel_BV.T @ (step_BC / self._examples)
            moved_BC = self._kernel_BV @ (self.held_out.primary_pulls(logits_VC) / self._held_out_examples)
            how = "through the kernel of the two batches' features"
        else:
            steps = self._steps(self._layer_gradient(self.train, step_BC))
            logits_VC = self.held_out.logits_at({name: step.landed for name, step in steps.items()})
            outer = self._layer_gradient(self.held_out, self.held_out.primary_pulls(logits_VC))
            moved_BC = self.train.logits_at({name: step.slope * outer[name] for name, step in steps.items()})
            how = "through the layer's own gradient"
        D_BK = self.train.along(moved_BC)
        finite_B = torch.isfinite(D_BK).all(1)
        values_BK = torch.where(finite_B[:, None], D_BK / -self._examples, 0)
        return Derivatives(values_BK, "last_layer", f"closed form, {how}", int((~finite_B).sum()))

    def _steps(self, gradients: Parameters) -> dict[str, Step]:
        return next_steps(self._optimizer, self._objective, self.train.parameters, gradients)

    def _layer_gradient(self, seen: LastLayer, pulls_BC: Tensor) -> dict[str, Tensor]:
        """Return the mean gradient by W and b, over the examples of all processes."""
        sums = {seen.weight: pulls_BC.T @ seen.features_Bd, seen.bias: pulls_BC.sum(0)}
        sums = {name: sums[name] for name in seen.parameters}
        return mean_over_processes(sums, int(seen.finite_B.sum()), seen.parameters)[0]

    def _kernel(self, still: dict[str, Step]) -> Tensor | None:
        """Return S_W h_i . h_v + S_b, (B, V), where that is the cheaper way."""
        (batch, width), (held_out, classes) = self.train.features_Bd.shape, self.held_out.logits_BC.shape
        dearer = batch * held_out * (width + 2 * classes) > 2 * (batch + held_out) * classes * width
        if dearer or is_distributed() or any(isinstance(step.slope, Tensor) for step in still.values()):
            return None
        kernel_BV = still[self.train.weight].slope * (self.train.features_Bd @ self.held_out.features_Bd.T)
        return kernel_BV + still[self.train.bias].slope if self.train.bias in still else kernel_BV
