"""The one derivative: how each example's losses change when the parameters move along a direction."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from tutelage.batches import Batch, asked_of_some, size_of
from tutelage.hypergradient.double_backward import double_backward
from tutelage.hypergradient.ending import Changed, find_last_layer
from tutelage.hypergradient.field import weighted_totals
from tutelage.hypergradient.finite_difference import finite_difference
from tutelage.hypergradient.forward_mode import forward_mode
from tutelage.hypergradient.last_layer import coupling_signals, last_layer
from tutelage.hypergradient.passes import Pass, add_scaled
from tutelage.hypergradient.probe import Parameters, Probe, few_of, full_types, uncompiled
from tutelage.signals import Objective

Strategy = Literal["auto", "last_layer", "forward_mode", "finite_difference", "double_backward"]

STRATEGIES: dict[str, Callable[[Probe, Parameters], Tensor]] = {
    "last_layer": last_layer,
    "forward_mode": forward_mode,
    "finite_difference": finite_difference,
    "double_backward": double_backward,
}
AWAY = 0.1  # of a parameter's size: how far from where the model is strategies are tried
# How far from the backward pass a strategy may be (of the sum of the examples' sizes) before "auto" distrusts it.
TOLERANCES = {"forward_mode": 1e-2, "finite_difference": 3e-2, "double_backward": 1e-2}


@dataclass(frozen=True)
class Derivatives:
    """What `directional_derivatives` returns.

    Attributes:
        values: D (B, K); the row of an example that is not finite (in its input, a loss or a derivative) is 0.
        strategy: the strategy that computed it.
        why: why that one.
        skipped: how many rows are 0 because they were not finite.
    """

    values: Tensor
    strategy: str
    why: str
    skipped: int


@full_types()
def directional_derivatives(
    objective: Objective, batch: Batch, direction: Parameters, strategy: Strategy = "auto"
) -> Derivatives:
    r"""Return how each loss of each example changes when the parameters move along a direction.

    .. math:: D_{ik} = \langle p, \nabla_\theta \ell_k(x_i) \rangle

    without per-example gradients. The objective is left as it was: batch normalisation keeps its statistics, the random
    states their place, and gradients are not touched. Nothing is exchanged between processes: a direction that is equal in
    all of them gives each the rows of its own batch.

    Args:
        objective: the model and its signals.
        batch: the examples.
        direction: p, by name as in ``objective.model.named_parameters()``, of a signal's own parameters as
            ``objective.signals[K].NAME``; a name that is missing counts as 0.
        strategy: "last_layer" (closed form, for directions within the last linear layer), "forward_mode" (exact, one pass),
            "finite_difference" (approximate, two passes, any model), "double_backward" (exact, the most expensive), or
            "auto": the last layer where the direction lies within it and every loss depends on it through its output
            alone, and otherwise the first of the others that agrees with a backward pass of this objective.

    Raises:
        ValueError: the direction does not fit the model, or the strategy is unknown or not applicable to it.
        RuntimeError: the model has an operator that the given strategy can not differentiate.
    """
    if strategy not in get_args(Strategy):
        raise ValueError(f"strategy={strategy!r} is not one of {', '.join(get_args(Strategy))}")
    objective = uncompiled(objective)
    probe = Probe(objective, batch)
    direction = probe.direction(direction)

    def derive() -> tuple[Tensor, str, str]:
        chosen, why = (strategy, "as asked") if strategy != "auto" else choose(objective, probe, direction)
        if direction:
            return STRATEGIES[chosen](probe, direction), chosen, why
        like = next(iter(probe.parameters.values()))
        return like.new_zeros(size_of(batch), len(objective.signals)), chosen, why

    try:
        values_BK, chosen, why = derive()
    except Changed:  # the model ends in another layer than it did
        values_BK, chosen, why = derive()
    finite_B = torch.isfinite(values_BK).all(1)
    return Derivatives(torch.where(finite_B[:, None], values_BK, 0), chosen, why, int((~finite_B).sum()))


_choices: WeakKeyDictionary[Objective, dict[bool, tuple[str, str]]] = WeakKeyDictionary()


def choose(objective: Objective, probe: Probe, direction: Parameters) -> tuple[str, str]:
    """Return the cheapest strategy that is right for an objective, and why; tried once for each objective and mode."""
    if len(direction) <= 2:
        layer, reason, _ = find_last_layer(probe)
        within = all(name.removeprefix(probe.prefix).rpartition(".")[0] == layer for name in direction)
        if layer is not None and within and not coupling_signals(probe):
            return "last_layer", f"closed form: {reason}, and the direction lies within it"
    known = _choices.setdefault(objective, {})
    mode = probe.model.training
    if mode not in known:
        with asked_of_some(probe.batch):
            known[mode] = _try(Probe(objective, few_of(probe.batch)))
    return known[mode]


def _try(probe: Probe) -> tuple[str, str]:
    """Compare each strategy with backward passes: the derivatives of each signal's sum, along the gradient of all.

    They are taken a little away from where the model is: at its beginning, a derivative that is wrong may be 0.
    """
    probe = _elsewhere(probe)
    by_signal = _gradients(probe)
    along: dict[str, Tensor] = {}
    for own in by_signal:
        add_scaled(along, own, dict.fromkeys(own, 1.0))
    expected_K = [float(sum((own[name] * along[name]).sum() for name in own)) for own in by_signal]
    reasons = []
    for strategy, tolerance in TOLERANCES.items():
        try:
            found_BK = STRATEGIES[strategy](probe, along)
        except RuntimeError as error:
            reasons.append(f"{strategy} failed ({type(error).__name__}: {str(error).splitlines()[0][:120]})")
            continue
        found_K, size_K = found_BK.nansum(0).tolist(), found_BK.abs().nansum(0).tolist()
        far = [
            (name, found, expected)
            for name, found, expected, size in zip(probe.objective.names, found_K, expected_K, size_K, strict=True)
            if abs(found - expected) > tolerance * max(size, abs(expected))
        ]
        if not far:
            reasons.append(f"{strategy} agrees with a backward pass")
            return strategy, "; ".join(reasons)
        name, found, expected = far[0]
        reasons.append(f"{strategy} gives {found:.4g} of signal {name!r} where a backward pass gives {expected:.4g}")
    raise RuntimeError(f"no strategy derives this model as a backward pass does: {'; '.join(reasons)}")


def _elsewhere(probe: Probe) -> Probe:
    """Return the probe at parameters that are moved by a tenth of their size, the same way for the same model."""
    drawn = torch.Generator().manual_seed(0)
    moved = copy.copy(probe)
    moved.parameters = dict(probe.parameters)
    for name in probe.trainable:
        value = probe.parameters[name]
        size = float(value.square().mean().sqrt()) if value.numel() else 0.0
        noise = torch.randn(value.shape, generator=drawn, dtype=value.dtype).to(value.device)
        moved.parameters[name] = value + AWAY * (size or value.shape[-1:].numel() ** -0.5) * noise
    return moved


def _gradients(probe: Probe) -> list[dict[str, Tensor]]:
    """Return the gradient of each signal's sum over the finite examples, by name."""
    leaves, signals = probe.leaves(), len(probe.objective.signals)

    def derive(losses_BK: Tensor) -> list[dict[str, Tensor]]:
        totals_K, _ = weighted_totals(losses_BK, None)
        return [Pass.of_one(k, signals, leaves).gradients(totals_K, leaves) for k in range(signals)]

    with torch.enable_grad():
        return probe.run(leaves, derive)
