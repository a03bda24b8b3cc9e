"""A short hash of values and of data sets, by their whole content."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from datetime import date, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

CHUNK = 2**24  # bytes of a tensor that are hashed at once
LARGE = 2**20  # bytes from which a tensor's hash is worth keeping
_known: ContextVar[WeakTensorKeyDictionary | None] = ContextVar("known", default=None)


@runtime_checkable
class Identified(Protocol):
    """An object whose identity depends on only some of its attributes."""

    def identity(self) -> Any:
        """Return the values that identify it."""


def fingerprint(*values: Any) -> str:
    """Return a hash of the values, 16 digits, equal when and only when they are.

    Tensors, arrays and tables count with every number, so that a replaced image or a changed label is seen; a list is a tuple,
    and a dataclass the dict of its fields. A ``Path`` that is a file counts with its size and the time of its last change.
    Functions count with their code, defaults and what they enclose. Any other object counts with what its ``identity()`` or
    ``config()`` returns, else with its class and attributes.
    """
    digest = hashlib.blake2b(digest_size=8)
    _Feed(digest.update).add(values)
    return digest.hexdigest()


@contextmanager
def hashing_once() -> Iterator[None]:
    """Inside, the numbers of a large tensor are hashed once, and again only after an operation of PyTorch has changed them.

    What changes them otherwise, such as NumPy on the same memory, is not seen: this is for work that does nothing of the kind,
    such as trainings on the same images.
    """
    token = _known.set(WeakTensorKeyDictionary())
    try:
        yield
    finally:
        _known.reset(token)


def _hash_of(value: Tensor) -> bytes:
    """Return the hash of a tensor's numbers, a part of its rows at a time."""
    digest = hashlib.blake2b(digest_size=16)
    rows = value.detach().reshape(-1) if value.dim() < 2 else value.detach()
    step = max(1, CHUNK // max(1, value.element_size() * rows[:1].numel()))
    for part in rows.split(step):
        digest.update(part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.digest()


def file_facts(path: Path) -> tuple[int, int] | None:
    """Return the size of a file in bytes and the time of its last change in nanoseconds; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


class _Feed:
    """Values on their way into a hash, each with its kind and its length, so that no two spell the same."""

    def __init__(self, update: Callable[[Any], None]) -> None:
        self.update = update
        self.within: list[int] = []  # the objects around the one that is being added: some hold themselves

    def add(self, value: Any) -> None:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, Enum):
            value = (type(value).__qualname__, value.value)
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | date | timedelta):
            self.say(type(value).__name__, repr(value))
        elif isinstance(value, Tensor):
            self.tensor(value)
        elif isinstance(value, np.ndarray):
            self.array(value)
        elif id(value) in self.within:
            self.say("again", type(value).__qualname__)
        else:
            self.within.append(id(value))
            self.compound(value)
            self.within.pop()

    def say(self, kind: str, text: str) -> None:
        """Feed a text with its kind."""
        data = text.encode(errors="surrogatepass")
        self.update(f"{kind} {len(data)}:".encode())
        self.update(data)

    def tensor(self, value: Tensor) -> None:
        """Feed a tensor by the hash of its numbers, which one that was hashed inside `hashing_once` has already."""
        self.say("tensor", f"{value.dtype} {tuple(value.shape)}")
        known = _known.get()
        if known is None or value.nbytes < LARGE or value.is_inference():
            self.update(_hash_of(value))
            return
        version, digest = known.get(value, (None, b""))
        if version != value._version:
            digest = _hash_of(value)
            known[value] = value._version, digest
        self.update(digest)

    def array(self, value: np.ndarray) -> None:
        """Feed an array; one of objects by each of them, one of texts by their lengths and all of them at once."""
        if value.dtype.hasobject:
            listed = value.reshape(-1).tolist()
            if not all(type(each) is str for each in listed):
                self.add(value.tolist())
                return
            texts = [each.encode(errors="surrogatepass") for each in listed]
            self.say("texts", str(value.shape))
            self.update(np.array([len(text) for text in texts], dtype=np.int64).view(np.uint8))
            self.update(b"".join(texts))
            return
        self.say("array", f"{value.dtype} {value.shape}")
        self.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8))

    def compound(self, value: Any) -> None:
        """Feed what consists of other values."""
        room = type(value).__module__.partition(".")[0]
        if isinstance(value, Mapping):
            self.sequence("mapping", sorted(value.items(), key=lambda item: repr(item[0])))
        elif isinstance(value, list | tuple):
            self.sequence("sequence", value)
        elif isinstance(value, AbstractSet):
            self.sequence("set", sorted(map(fingerprint, value)))
        elif isinstance(value, Path):
            self.sequence("path", [str(value), file_facts(value) if value.is_file() else None])
        elif isinstance(value, type):
            self.say("class", f"{value.__module__}.{value.__qualname__}")
        elif isinstance(value, functools.partial):
            self.sequence("partial", [value.func, value.args, value.keywords])
        elif isinstance(value, types.FunctionType):
            self.function(value)
        elif isinstance(value, types.MethodType):
            self.sequence("method", [value.__func__.__qualname__, value.__self__])
        elif isinstance(value, types.BuiltinFunctionType):
            self.say("builtin", f"{value.__module__}.{value.__qualname__}")
        elif isinstance(value, Identified):
            self.sequence(type(value).__qualname__, [value.identity()])
        elif is_dataclass(value):
            self.add({field.name: getattr(value, field.name) for field in fields(value)})
        elif room == "pandas" and hasattr(value, "columns"):
            self.sequence("table", [(str(column), value[column].to_numpy()) for column in value])
        elif room == "pandas" and hasattr(value, "to_numpy"):
            self.array(value.to_numpy())
        elif room == "scipy" and hasattr(value, "tocsr"):
            rows = value.tocsr()
            self.sequence("sparse", [rows.shape, rows.data, rows.indices, rows.indptr])
        else:
            self.object(value)

    def sequence(self, kind: str, values: Sequence[Any]) -> None:
        """Feed values one after another."""
        self.say(kind, str(len(values)))
        for value in values:
            self.add(value)

    def function(self, value: types.FunctionType) -> None:
        """Feed a function: its name, code, defaults, and what it encloses."""
        self.say("function", f"{value.__module__}.{value.__qualname__}")
        self.code(value.__code__)
        self.add([value.__defaults__, value.__kwdefaults__])
        cells = value.__closure__ or ()
        self.sequence("closure", [_inside(cell) for cell in cells])

    def code(self, value: types.CodeType) -> None:
        """Feed what a function does, and not where it is written."""
        self.add([value.co_code, value.co_names])
        for constant in value.co_consts:
            if isinstance(constant, types.CodeType):
                self.code(constant)
            else:
                self.add(constant)

    def object(self, value: Any) -> None:
        """Feed an object by its class and attributes; of a module those that say how it works, and its state."""
        self.say("object", f"{type(value).__module__}.{type(value).__qualname__}")
        if callable(config := getattr(value, "config", None)):
            self.add(config())
            return
        attributes = dict(getattr(value, "__dict__", {}))
        if isinstance(value, nn.Module):
            attributes = {name: found for name, found in attributes.items() if name[0] != "_" and name != "training"}
            attributes |= dict(value.named_parameters(recurse=False)) | dict(value.named_buffers(recurse=False))
            attributes |= dict(value.named_children())
        slots = (name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()))
        self.add(attributes | {name: getattr(value, name) for name in slots if hasattr(value, name)})


def _inside(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not given a value yet
        return None
