"""The linear layer that a model ends in: how it is found, and how a pass is watched that begins its graph there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tutelage.hypergradient.probe import Parameters, Probe
from tutelage.signals import Outputs


class Changed(ValueError):
    """The model ends in another layer than the one that it was found to end in."""


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
    several. No loss may depend on its weight in another way than through that output. It is remembered for each model, mode,
    head and set of signals; whoever uses it sees in the same pass whether it still holds, and calls `forget` if not.
    """
    known = _found.setdefault(probe.model, {})
    found = known.get(_key(probe))
    if found is None or not isinstance(dict(probe.model.named_modules()).get(str(found.name)), nn.Linear):
        found = _find(probe)
        if found.name is not None:
            known[_key(probe)] = found
    return found


def forget(probe: Probe) -> None:
    """Look for the layer anew at the next call."""
    _found.pop(probe.model, None)


def _key(probe: Probe) -> object:
    return probe.model.training, probe.objective.signals[0].head, tuple(map(id, probe.objective.signals))


def _find(probe: Probe) -> Found:
    """Watch a forward pass for the layer, and another one for other ways from its weight to a loss."""
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
    same = [name for name, outputs in calls.items() if any(_same(each, output) for each in outputs)]
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
    if _used_elsewhere(probe, name):
        return Found(None, f"the weight of {name!r} reaches a loss in another way than through the layer's output")
    return Found(name, f"{name!r} is the layer that {type(probe.model).__name__} ends in", tuple(output.shape[1:]))


def _used_elsewhere(probe: Probe, name: str) -> bool:
    """Return whether a loss, or what goes into the layer, depends on its parameters past its output."""
    owner = probe.prefix + (f"{name}." if name else "")
    own = {owner + each: probe.parameters.get(owner + each) for each in ("weight", "bias")}
    leaves = {each: value.detach().requires_grad_() for each, value in own.items() if value is not None}
    seen: list[Tensor] = []
    with cut(probe, name, lambda inputs, _: seen.append(inputs)), torch.enable_grad():
        return probe.run(leaves, lambda losses_BK: depends((losses_BK, *seen), leaves))


@contextmanager
def cut(
    probe: Probe, name: str, see: Callable[[Tensor, Tensor], None], graph: bool = True
) -> Iterator[Callable[[], bool]]:
    """Begin the graph at a layer's output, if there is to be one; ``see(input, output)`` is told what passes the layer.

    Yields what says, after a pass, whether the layer was asked once and its output is what the model returned.
    """
    passed: list[Tensor] = []
    returned: list[Outputs] = []

    def begin(*_: object) -> None:
        passed.clear()
        returned.clear()

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        logits = output.detach().requires_grad_(graph)
        passed.append(logits)
        see(inputs[0], logits)
        return logits

    def is_last() -> bool:
        if len(passed) != 1 or not returned:
            return False
        return _same(passed[0], probe.objective.signals[0].own_output(returned[0]))

    handles = [
        probe.model.register_forward_pre_hook(begin),
        probe.model.get_submodule(name).register_forward_hook(hook),
        probe.model.register_forward_hook(lambda _m, _i, outputs: returned.append(outputs)),
    ]
    try:
        yield is_last
    finally:
        for handle in handles:
            handle.remove()


def depends(values: Iterable[Tensor], leaves: Parameters) -> bool:
    """Return whether a value has a gradient by one of some leaves."""
    return any(
        gradient is not None
        for value in values
        if leaves and value.requires_grad
        for gradient in torch.autograd.grad(value.sum(), list(leaves.values()), retain_graph=True, allow_unused=True)
    )


def _same(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.numel() == other.numel()
