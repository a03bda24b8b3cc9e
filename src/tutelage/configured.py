"""What an object was made with, in plain values: they tell it from another of its kind."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from tutelage.checks import check_arguments


class Configured:
    """An object that remembers the arguments of its constructor, those that were left out too.

    Attributes:
        not_identifying: names of arguments that do not tell it from another, and are not remembered.
    """

    not_identifying: ClassVar[tuple[str, ...]] = ()
    _arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Remember the arguments; `copy.deepcopy` and `pickle` give none and restore them."""
        made = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind_partial(made, *args, **kwargs)
        bound.apply_defaults()
        own = list(bound.arguments.items())[1:]
        check_arguments(cls.__init__, dict(own))
        made.__dict__["_arguments"] = {name: value for name, value in own if name not in cls.not_identifying}
        return made

    def config(self) -> dict[str, Any]:
        """Return the class and the arguments as values that JSON holds."""
        return {"class": f"{type(self).__module__}.{type(self).__qualname__}", **plain(self._arguments)}

    def __repr__(self) -> str:
        """Return the class and the arguments, as one would write them."""
        told = ", ".join(f"{name}={_short(_told(value))}" for name, value in self._arguments.items())
        return f"{type(self).__name__}({told})"


def named(value: Any) -> Any:
    """Return the name of a function or a class, and anything else as it is."""
    return f"{value.__module__}.{value.__qualname__}" if callable(value) and hasattr(value, "__qualname__") else value


def plain(value: Any, other: Callable[[Any], Any] = named) -> Any:
    """Return a value as JSON holds it: dataclasses by field, tensors and models that have no ``config`` by a hash.

    Args:
        value: the value.
        other: what becomes of what is neither that nor plain.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Real):  # of numpy
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, Configured):
        return plain(value.config(), other)
    if isinstance(value, nn.Module):
        state = {name: plain(tensor) for name, tensor in value.state_dict().items()}
        return {"class": f"{type(value).__module__}.{type(value).__qualname__}", "state": _hash(repr(state).encode())}
    if isinstance(value, Tensor):
        data = value.detach().cpu().contiguous()
        return {
            "shape": list(data.shape),
            "type": str(data.dtype),
            "hash": _hash(data.flatten().view(torch.uint8).numpy()),
        }
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), other) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item, other) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, other) for item in value]
    return str(value) if isinstance(value, Path) else other(value)


def differences(then: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each key at which plain values differ, as ``weighting.weights.0``, with both values; None is one that is absent."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        pairs = [(name, then.get(name), now.get(name)) for name in dict.fromkeys([*now, *then])]
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = [(str(place), *pair) for place, pair in enumerate(zip(then, now, strict=True))]
    else:
        if then != now or type(then) is not type(now):
            yield key, then, now
        return
    for name, one, other in pairs:
        yield from differences(one, other, f"{key}.{name}" if key else str(name))


def _hash(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _told(value: Any) -> str:
    """Return what to show of an argument; a model is not read through for it."""
    if isinstance(value, Configured):
        return repr(value)
    return f"{type(value).__name__}(...)" if isinstance(value, nn.Module) else repr(plain(value))


def _short(text: str, length: int = 100) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
