"""Directional derivatives within the last linear layer: a closed form that never leaves its inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tutelage.batches import rows_of
from tutelage.distributed import all_reduce_sum
from tutelage.hypergradient.probe import Parameters, Probe
from tutelage.signals import Outputs, Signal
from tutelage.signals.base import unobserved


def last_layer(probe: Probe, direction: Parameters) -> Tensor:
    r"""Return D (B, K) for that part of the direction which lies within the last linear layer, :math:`z = Wh + b`.

    .. math:: D_{ik} = \Big\langle \frac{\partial \ell_k(x_i)}{\partial z_i},\; P_W h_i + p_b \Big\rangle

    Exact for that part, and blind to all else. Time: one forward pass without a graph, and O(B C d); nothing of size
    B x C x d is built.

    Raises:
        ValueError: the model does not end in one linear layer, or a signal couples the examples and does not say so.
    """
    layer = LastLayer.of(probe)
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

    @classmethod
    def of(cls, probe: Probe, *, pulled: bool = True) -> LastLayer:
        """Evaluate a probe's objective once, without a graph below the last layer; the pulls only where they are wanted.

        Raises:
            ValueError: the model does not end in one linear layer, or a signal couples the examples and does not say so.
        """
        name, reason, _ = find_last_layer(probe)
        if name is None:
            raise ValueError(f"strategy 'last_layer' is not applicable: {reason}; use 'auto'")
        if pulled and (coupling := coupling_signals(probe)):
            raise ValueError(
                f"strategy 'last_layer' is not applicable: the losses of {coupling} depend on other examples' outputs; use "
                "'auto', or set separable = False and return one loss for the batch"
            )
        layer = probe.model.get_submodule(name)
        owner = probe.prefix + (f"{name}." if name else "")
        weight, bias = owner + "weight", owner + "bias"
        parameters = {name: probe.parameters[name] for name in (weight, bias) if name in probe.parameters}
        classes, width = parameters[weight].shape
        features, logits = parameters[weight].new_zeros(0, width), parameters[weight].new_zeros(0, classes)
        coupled_K = torch.tensor([not separable for separable in probe.objective.separable], device=probe.device)

        def cut(inputs: Tensor, output: Tensor) -> None:
            nonlocal features, logits
            features, logits = inputs, output

        def pull(losses_BK: Tensor) -> tuple[Tensor, Tensor]:
            finite_B = torch.isfinite(losses_BK.detach()).all(1)
            losses_RK = losses_BK if finite_B.all() else losses_BK[finite_B]
            totals_K = torch.where(coupled_K, losses_RK.nanmean(0), losses_RK.sum(0))
            pulls = [_gradient(total, logits) for total in totals_K] if pulled else []
            return torch.stack(pulls, dim=1) if pulls else logits.new_zeros(len(logits), 0, classes), finite_B

        with _cut(layer, cut, pulled), torch.set_grad_enabled(pulled):
            pulls_RKC, finite_B = probe.run({}, pull)

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
            output = logits_RC.view(len(logits_RC), *find_last_layer(self.probe).shape)
            with unobserved():
                losses_R = signal(output if signal.head is None else {signal.head: output}, batch).expand(
                    len(logits_RC)
                )
            good_R = torch.isfinite(losses_R.detach())
            pulls_RC = _gradient(losses_R[good_R].sum(), logits_RC)
        return _placed(pulls_RC if good_R.all() else pulls_RC.masked_fill(~good_R[:, None], 0), finite_B)


@contextmanager
def _cut(layer: nn.Module, see: Callable[[Tensor, Tensor], None], graph: bool = True) -> Iterator[None]:
    """Begin the graph at a layer's output, if there is to be one; ``see(input, output)`` is told what passes the layer."""

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        logits = output.detach().requires_grad_(graph)
        see(inputs[0].detach(), logits)
        return logits

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


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

        def try_each(losses_BK: Tensor) -> None:
            losses_RK = losses_BK[torch.isfinite(losses_BK.detach()).all(1)]
            if len(losses_RK) > 1:
                for signal, losses_R in zip(probe.objective.signals, losses_RK.unbind(1), strict=True):
                    _couples[signal] = bool(_gradient(losses_R[::2].sum(), logits)[1::2].any())

        with _cut(probe.model.get_submodule(str(find_last_layer(probe).name)), see), torch.enable_grad():
            probe.run({}, try_each)
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


class Found(NamedTuple):
    """The linear layer that a model ends in.

    Attributes:
        name: in the probe's model; None where there is no such layer.
        reason: what it is, or why there is none.
        shape: of its output as the model returns it, for one example.
    """

    name: str | None
    reason: str
    shape: tuple[int, ...] = ()


_found: WeakKeyDictionary[nn.Module, dict[object, Found]] = WeakKeyDictionary()


def find_last_layer(probe: Probe) -> Found:
    """Return the linear layer that the model ends in.

    It is the one `torch.nn.Linear` whose output is what the model returns: for the primary signal's head, where there are
    several. Looked for once for each model, mode and head.
    """
    known = _found.setdefault(probe.model, {})
    key = (probe.model.training, probe.objective.signals[0].head)
    if key not in known:
        known[key] = _find(probe)
    return known[key]


def _find(probe: Probe) -> Found:
    """Watch one forward pass."""
    calls: dict[str, list[Tensor]] = {}
    returned: list[Outputs] = []

    def begin(*_: object) -> None:
        calls.clear()
        returned.clear()

    hooks = [
        probe.model.register_forward_pre_hook(begin),
        *(
            module.register_forward_hook(lambda _m, _i, output, name=name: calls.setdefault(name, []).append(output))
            for name, module in probe.model.named_modules()
            if isinstance(module, nn.Linear)
        ),
        probe.model.register_forward_hook(lambda _m, _i, outputs: returned.append(outputs)),
    ]
    try:
        with torch.no_grad():
            probe.run({}, lambda _: None)
    finally:
        for hook in hooks:
            hook.remove()
    output = probe.objective.signals[0].own_output(returned[0])
    same = [
        name
        for name, outputs in calls.items()
        if any(each.data_ptr() == output.data_ptr() and each.numel() == output.numel() for each in outputs)
    ]
    if not same:
        return Found(None, f"no torch.nn.Linear's output is what {type(probe.model).__name__} returns")
    name = same[0]
    layer = probe.model.get_submodule(name)
    shared = [
        n for n, p in probe.model.named_parameters(remove_duplicate=False) if p is layer._parameters.get("weight")
    ]
    if len(calls[name]) > 1 or len(shared) > 1:
        return Found(None, f"the linear layer {name!r} is used more than once")
    if not shared:
        return Found(None, f"the weight of {name!r} is computed from other parameters")
    if calls[name][0].dim() != 2:
        return Found(None, f"{name!r} returns {calls[name][0].dim()} dimensions, not (examples, classes)")
    return Found(name, f"{name!r} is the layer that {type(probe.model).__name__} ends in", tuple(output.shape[1:]))
