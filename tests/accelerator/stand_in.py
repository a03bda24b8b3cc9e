"""A device that is none: its tensors hold numbers of the CPU, and refuse to meet the CPU's.

As a plugin of pytest (``-p stand_in``) it makes torch believe that there is an accelerator, so that what is marked `gpu`
runs on any machine. It has what torch asks of a device: a generator of its own, no float64 where `NARROW` says so, and an
error where an operation is given tensors of two devices (but for numbers, and for indices on the CPU, which CUDA takes, too).
"""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate import PartialState
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "ward"
NARROW = bool(os.environ.get("STAND_IN_NARROW"))  # as MPS: no float64
CROSSING = {"aten::_to_copy", "aten::copy_", "aten::_copy_from"}
INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


class Module(_DummyBackendModule):
    """What torch asks a kind of device for."""

    def __init__(self) -> None:
        self.generator = torch.Generator()

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return self.generator.get_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        self.generator.set_state(state)

    def manual_seed_all(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def synchronize(self, device: Any = None) -> None:
        pass


class Held(torch.Tensor):
    """A tensor of the device; ``raw`` holds its numbers."""

    raw: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> Held:
        if NARROW and raw.dtype in (torch.float64, torch.complex128):
            raise TypeError(f"the device {NAME} has no {raw.dtype}")
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=f"{NAME}:0",
        )
        made.raw = raw
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    def new_tensor(self, data: Any, **kwargs: Any) -> torch.Tensor:  # torch makes it past the dispatcher
        return torch.tensor(data, dtype=kwargs.get("dtype", self.dtype)).to(kwargs.get("device", self.device))

    def untyped_storage(self) -> Any:
        return self.raw.untyped_storage()

    def tolist(self) -> Any:
        return self.raw.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"a tensor on {NAME} is no array: copy it to the CPU first")

    def __repr__(self) -> str:
        return f"{self.raw!r} on {NAME}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.raw.detach().clone().__reduce_ex__(protocol)  # as with map_location="cpu"


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute an operation on the CPU, and give what it returns to the device that it belongs to."""
    name = func._schema.name
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    asked = kwargs.get("device")
    if name == "aten::_efficientzerotensor":  # zeros without memory, which no tensor can hold
        func = torch.ops.aten.zeros.default
    _check(name, given)
    here = any(isinstance(each, Held) for each in given) if asked is None else torch.device(asked).type == NAME
    raw_args, raw_kwargs = tree_map(lambda leaf: leaf.raw if isinstance(leaf, Held) else leaf, (args, kwargs))
    raw_kwargs.pop("pin_memory", None)
    if asked is not None:
        raw_kwargs["device"] = torch.device("cpu")
    if here and any(argument.name == "generator" for argument in func._schema.arguments):
        raw_kwargs["generator"] = raw_kwargs.get("generator") or MODULE.generator
    found = func(*raw_args, **raw_kwargs)
    own = {id(leaf.raw): leaf for leaf in given if isinstance(leaf, Held)}
    own |= {id(leaf): leaf for leaf in given if not isinstance(leaf, Held)}

    def placed(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or id(value) in own:
            return own.get(id(value), value)
        return Held(value) if here else value

    return tree_map(placed, found)


def _check(name: str, given: list[torch.Tensor]) -> None:
    held = [isinstance(each, Held) for each in given]
    if not any(held) or all(held) or name in CROSSING:
        return
    apart = [each for each, here in zip(given, held, strict=True) if not here and each.dim() > 0]
    if name in INDEXED:
        apart = [] if held[0] else [given[0]]
    if apart:
        shapes = [tuple(each.shape) for each in apart]
        raise RuntimeError(f"{name}: tensors on two devices, {NAME} and cpu {shapes}")


MODULE = Module()
_setup_privateuseone_for_python_backend(NAME, backend_module=MODULE)
_factories = torch.library.Library("_", "IMPL")
_factories.fallback(lambda func, *args, **kwargs: run(func, args, kwargs), "PrivateUse1")
_factories.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
PartialState.default_device = property(lambda self: torch.device(NAME, 0))  # type: ignore[method-assign, assignment]


def _tensor(data: Any, *, device: Any = None, **kwargs: Any) -> torch.Tensor:
    """Return what torch.tensor does, which does not come by the dispatcher."""
    if device is None or torch.device(device).type != NAME:
        return _own_tensor(data, device=device, **kwargs)
    return _own_tensor(data, **kwargs).to(device)


torch.__future__.set_swap_module_params_on_conversion(True)  # else a parameter is given other numbers behind our back
_own_tensor, torch.tensor = torch.tensor, _tensor
torch.Tensor.pin_memory = lambda self, device=None: self.clone()  # type: ignore[assignment, method-assign]
