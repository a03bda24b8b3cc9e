"""One step of the actual optimiser ahead: how the held-out loss there depends on the weights of the step."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from tutelage.hypergradient.derivatives import Derivatives, Strategy, directional_derivatives
from tutelage.hypergradient.field import Field
from tutelage.hypergradient.last_layer_look_ahead import LastLayerLookAhead
from tutelage.hypergradient.optimizers import Optimizers, next_steps
from tutelage.hypergradient.passes import ModuleWeights
from tutelage.hypergradient.probe import Probe, full_types, held_out_probe
from tutelage.signals import Batch, Objective


def look_ahead_direction(
    objective: Objective,
    batch: Batch,
    held_out: Batch,
    optimizer: Optimizers,
    weights_BK: Tensor | None = None,
    module_weights: ModuleWeights | None = None,
) -> dict[str, Tensor]:
    r"""Return p, of which every weight's derivative by one step of look-ahead is a directional derivative.

    .. math:: p = S * \nabla L_V(\hat\theta), \qquad \frac{\partial L_V(\hat\theta)}{\partial c_{ikm}} =
        -\frac1n \langle p_m, \nabla_{\theta_m} \ell_k(x_i) \rangle

    where :math:`\hat\theta` is where the optimiser's next step would land (AMAL, eq. 4), S the derivative of that step by the
    gradient, and :math:`L_V` the mean loss of the primary signal on the held-out examples. Two forward and backward passes.
    Equal in all processes, whose batches count as one.

    Args:
        objective: the model and its signals, whose own parameters are looked ahead, too, where the optimiser holds them.
        batch: the training examples of the step.
        held_out: the examples whose loss is to fall; the primary signal alone is asked about them.
        optimizer: `torch.optim.SGD`, `Adam` or `AdamW`, or several of them; they are read and stay as they are. Clipping of
            gradients between the backward pass and the step is not looked through.
        weights_BK: u, how far each loss of each example counts in the step; None for all ones.
        module_weights: a, how far each signal counts in each module; None for all ones.

    Raises:
        ValueError: another optimiser or one of another model, no held-out example, or weights of another shape than (B, K).

    Source: Sivasubramanian et al., *Adaptive Mixing of Auxiliary Losses in Supervised Learning*, AAAI 2023, eq. 4 and 5.
    """
    return _direction(objective, batch, held_out, optimizer, weights_BK, module_weights)[0]


@full_types()
def look_ahead_gradient(
    objective: Objective,
    batch: Batch,
    held_out: Batch,
    optimizer: Optimizers,
    weights_BK: Tensor | None = None,
    strategy: Strategy = "auto",
) -> Derivatives:
    r"""Return the derivative of the held-out loss after one step by each weight :math:`u_{ik}` of that step, (B, K),

    .. math:: \frac{\partial L_V(\hat\theta)}{\partial u_{ik}} = -\frac1n \langle p, \nabla_\theta \ell_k(x_i) \rangle

    with p of `look_ahead_direction` and n the finite examples of all processes. The strategy "last_layer" looks at the last
    linear layer alone, in the step and in the derivative, as AMAL's authors do: cheaper, and another estimate.

    Raises:
        ValueError: as `look_ahead_direction` and `directional_derivatives`.
    """
    if strategy == "last_layer":
        return LastLayerLookAhead(objective, batch, held_out, optimizer).gradient(weights_BK)
    direction, examples = _direction(objective, batch, held_out, optimizer, weights_BK, None)
    D = directional_derivatives(objective, batch, direction, strategy)
    return replace(D, values=D.values / -examples)


@full_types()
def _direction(
    objective: Objective,
    batch: Batch,
    held_out: Batch,
    optimizer: Optimizers,
    weights_BK: Tensor | None,
    module_weights: ModuleWeights | None,
) -> tuple[dict[str, Tensor], int]:
    """Return p, and n."""
    field = Field(Probe(objective, batch), weights_BK, module_weights)
    outer = Field(held_out_probe(objective, held_out))
    steps = next_steps(optimizer, objective, field.probe.parameters, field.at())
    gradient = outer.at({name: step.landed for name, step in steps.items()})
    return {name: steps[name].slope * g for name, g in gradient.items() if name in steps}, max(field.examples, 1)
