"""Directional derivatives within the last linear layer: a closed form that never leaves its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from tutelage.batches import rows_of
from tutelage.distributed import all_reduce_sum
from tutelage.hypergradient.ending import Changed, cut, depends, find_last_layer, forget
from tutelage.hypergradient.probe import Parameters, Probe
from tutelage.signals import Signal
from tutelage.signals.base import unobserved


def last_layer(probe: Probe, direction: Parameters) -> Tensor:
    r"""Return D (B, K) for that part of the direction which lies within the last linear layer, :math:`z = Wh + b`.

    .. math:: D_{ik} = \Big\langle \frac{\partial \ell_k(x_i)}{\partial z_i},\; P_W h_i + p_b \Big\rangle

    Exact for that part, and blind to all else. Time: one forward pass without a graph, and O(B C d); nothing of size
    B x C x d is built.

    Raises:
        ValueError: the model does not end in one linear layer, a loss depends on its weight in another way, too, or a signal
            couples the examples and does not say so.
        Changed: the model ends in another layer than it did.
    """
    layer = LastLayer.once(probe)
    zeros = {name: torch.zeros_like(p) for name, p in layer.parameters.items()}
    return layer.along(layer.logits_at({name: direction.get(name, zero) for name, zero in zeros.items()}))


@dataclass(frozen=True)
class LastLayer:
    r"""What a batch looks like from the model's last linear layer, :math:`z = Wh + b`.

    The rows of an example that is not finite are 0.

    Attributes:
        weight: the name of W (C, d) in ``objective.model.named_parameters()``.
        bias: the name of b (C), whether or not the layer has one.
        parameters: W, and b where there is one, by these names.
        features_Bd: h, what goes into the layer.
        logits_BC: z, what comes out of it.
        pulls_BKC: :math:`\partial \ell_k(x_i) / \partial z_i`; of a loss that couples the examples, its pull on each z.
            (B, 0, C) where they were not wanted.
        coupled_K: which losses couple the examples.
        finite_B: which examples are finite.
        probe: where it was seen.
        shape: of z as the model returns it, for one example.
    """

    weight: str
    bias: str
    parameters: dict[str, Tensor]
    features_Bd: Tensor
    logits_BC: Tensor
    pulls_BKC: Tensor
    coupled_K: Tensor
    finite_B: Tensor
    probe: Probe
    shape: tuple[int, ...]

    @classmethod
    def of(cls, probe: Probe, *, pulled: bool = True) -> LastLayer:
        """Evaluate a probe's objective once, without a graph below the last layer; the pulls only where they are wanted.

        Raises:
            ValueError: the model does not end in one linear layer, a loss depends on its weight in another way, too, or a
                signal couples the examples and does not say so.
        """
        try:
            return cls.once(probe, pulled=pulled)
        except Changed:
            return cls.once(probe, pulled=pulled)

    @classmethod
    def once(cls, probe: Probe, *, pulled: bool = True) -> LastLayer:
        """Evaluate as `of`, at the layer that the model ended in before.

        Raises:
            ValueError: as `of`.
            Changed: the model ends in another layer now, which will be looked for at the next call.
        """
        name, reason, shape = find_last_layer(probe)
        if name is None:
            raise ValueError(f"strategy 'last_layer' is not applicable: {reason}; use 'auto'")
        if pulled and (coupling := coupling_signals(probe)):
            raise ValueError(
                f"strategy 'last_layer' is not applicable: the losses of {coupling} depend on other examples' outputs; use "
                "'auto', or set separable = False and return one loss for the batch"
            )
        owner = probe.prefix + (f"{name}." if name else "")
        weight, bias = owner + "weight", owner + "bias"
        parameters = {name: probe.parameters[name] for name in (weight, bias) if name in probe.parameters}
        leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()} if pulled else {}
        classes, width = parameters[weight].shape
        features, logits = parameters[weight].new_zeros(0, width), parameters[weight].new_zeros(0, classes)
        coupled_K = torch.tensor([not separable for separable in probe.objective.separable], device=probe.device)

        def see(inputs: Tensor, output: Tensor) -> None:
            nonlocal features, logits
            features, logits = inputs, output

        def pull(losses_BK: Tensor) -> tuple[Tensor, Tensor, bool]:
            finite_B = torch.isfinite(losses_BK.detach()).all(1)
            losses_RK = losses_BK if finite_B.all() else losses_BK[finite_B]
            totals_K = torch.where(coupled_K, losses_RK.nanmean(0), losses_RK.sum(0))
            pulls = [_gradient(total, logits) for total in totals_K] if pulled else []
            pulls_RKC = torch.stack(pulls, dim=1) if pulls else logits.new_zeros(len(logits), 0, classes)
            return pulls_RKC, finite_B, depends((losses_RK, features), leaves)

        with cut(probe, name, see, pulled) as is_last, torch.set_grad_enabled(pulled):
            pulls_RKC, finite_B, elsewhere = probe.run(leaves, pull)
        if elsewhere or not is_last():
            forget(probe)
            raise Changed(f"strategy 'last_layer' is not applicable: the model ends in {name!r} no more; use 'auto'")

        return cls(
            weight=weight,
            bias=bias,
            parameters=parameters,
            features_Bd=_placed(features, finite_B),
            logits_BC=_placed(logits, finite_B),
            pulls_BKC=_placed(pulls_RKC, finite_B),
            coupled_K=coupled_K,
            finite_B=finite_B,
            probe=probe,
            shape=shape,
        )

    def logits_at(self, parameters: Parameters) -> Tensor:
        """Return what would come out of a layer with other parameters, (B, C), in O(B C d)."""
        logits_BC = self.features_Bd @ parameters[self.weight].T
        return logits_BC + parameters[self.bias] if self.bias in parameters else logits_BC

    def along(self, moved_BC: Tensor) -> Tensor:
        """Return how the losses change, (B, K), when the logits move by ``moved_BC``."""
        D_BK = torch.linalg.vecdot(self.pulls_BKC, moved_BC[:, None])
        D_BK = torch.where(self.coupled_K, D_BK.sum(0), D_BK)
        return D_BK.masked_fill(~self.finite_B[:, None], torch.nan)

    def count_over_processes(self) -> int:
        """Return the number of finite examples in all processes."""
        return int(all_reduce_sum(self.finite_B.sum()))

    def primary_pulls(self, logits_BC: Tensor) -> Tensor:
        """Return the gradient (B, C), by other logits than those seen, of the sum of the primary signal's losses there."""
        signal: Signal = self.probe.objective.signals[0]
        batch, finite_B = self.probe.batch, self.finite_B
        if not finite_B.all():
            rows = finite_B.nonzero().squeeze(1)
            batch, logits_BC = rows_of(batch, rows, len(finite_B)), logits_BC[rows]
        with torch.enable_grad(), torch.autocast(self.probe.device.type, enabled=False):
            logits_RC = logits_BC.detach().requires_grad_()
            output = logits_RC.view(len(logits_RC), *self.shape)
            with unobserved():
                losses_R = signal(output if signal.head is None else {signal.head: output}, batch).expand(
                    len(logits_RC)
                )
            good_R = torch.isfinite(losses_R.detach())
            pulls_RC = _gradient(losses_R[good_R].sum(), logits_RC)
        return _placed(pulls_RC if good_R.all() else pulls_RC.masked_fill(~good_R[:, None], 0), finite_B)


_couples: WeakKeyDictionary[Signal, bool] = WeakKeyDictionary()


def coupling_signals(probe: Probe) -> list[str]:
    """Return the names of the signals that couple the examples of a batch and do not say so.

    Every second example's losses may have no derivative by the others' outputs. Tried once for each signal, on the first
    batch with two finite examples, of a model that ends in one linear layer.
    """
    signals: list[Signal] = [signal for signal in probe.objective.signals if signal.separable]
    if not all(signal in _couples for signal in signals):
        logits = torch.empty(0)

        def see(_: Tensor, output: Tensor) -> None:
            nonlocal logits
            logits = output

        def try_each(losses_BK: Tensor) -> dict[Signal, bool]:
            losses_RK = losses_BK[torch.isfinite(losses_BK.detach()).all(1)]
            pairs = zip(probe.objective.signals, losses_RK.unbind(1), strict=True) if len(losses_RK) > 1 else ()
            return {signal: bool(_gradient(own_R[::2].sum(), logits)[1::2].any()) for signal, own_R in pairs}

        with cut(probe, str(find_last_layer(probe).name), see) as is_last, torch.enable_grad():
            found = probe.run({}, try_each)
        if not is_last():
            forget(probe)
            raise Changed("the model ends in another layer now")
        _couples.update(found)
    return [signal.name for signal in signals if _couples.get(signal, False)]


def _placed(values_R: Tensor, finite_B: Tensor) -> Tensor:
    """Return the values of the finite examples in their places in the batch, and 0 elsewhere."""
    values_R = values_R.detach()
    if finite_B.all():
        return values_R
    rows = finite_B.nonzero().squeeze(1)
    values_B = values_R.new_zeros(len(finite_B), *values_R.shape[1:])
    return values_B.index_copy_(0, rows, values_R[: len(rows)])


def _gradient(total: Tensor, logits: Tensor) -> Tensor:
    found = torch.autograd.grad(total, logits, retain_graph=True, allow_unused=True)[0] if total.requires_grad else None
    return torch.zeros_like(logits) if found is None else found
