"""Batches as any loader yields them: what their rows are, however the tensors are nested.

A tensor, a list or a mapping entry belongs to the examples where its length is theirs; everything else (0-dim tensors, numbers,
text, None) speaks of the whole batch. A tuple, and a list of tensors with one row an example, is several such entries, as in
``input=(tokens, mask)``; any other list as long as the batch holds one item an example, such as file names.

What speaks of the whole batch, and may have as many rows as there are examples, such as an attention mask (T, T), is given a
first dimension of 1, which the model takes off: (1, T, T).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Batch = Mapping[str, Any]


def call(model: nn.Module, input: Any) -> Any:
    """Return ``model(**input)`` for a dict, ``model(*input)`` for a tuple or a list, and ``model(input)`` otherwise."""
    arguments, named = arguments_of(input)
    return model(*arguments, **named)


def arguments_of(input: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the named arguments with which a model takes an input."""
    if isinstance(input, Mapping):
        return (), dict(input)
    return (tuple(input), {}) if isinstance(input, tuple | list) else ((input,), {})


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Yield every tensor of a nested value."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | tuple | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_of(item)


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a nested value with each tensor changed, and all else as it is."""
    if isinstance(value, Tensor):
        return change(value)
    return _rebuilt(value, lambda item: map_tensors(item, change))


def require_named(batch: Any, what: str = "the batch") -> None:
    """Refuse what has no entries by name, as the batches of a plain loader.

    Raises:
        ValueError: it is no dict; ``what`` is what it is called there.
    """
    if not isinstance(batch, Mapping):
        raise ValueError(
            f"{what} is a {type(batch).__name__}; expected a dict by name: wrap the data set, "
            "DataLoader(tutelage.data.Indexed(dataset), ...), or write batch = "
            '{"index": index, "input": x, "label": y} with each example\'s place in the data set as index'
        )


def to_device(batch: Batch, device: torch.device, what: str = "the batch") -> dict[str, Any]:
    """Return a batch with every tensor on the device.

    Raises:
        ValueError: see `require_named`.
    """
    require_named(batch, what)
    return {key: map_tensors(value, lambda t: t.to(device, non_blocking=True)) for key, value in batch.items()}


def size_of(batch: Batch, what: str = "the batch") -> int:
    """Return the number of examples, B: the rows of ``input`` or, where that has no tensor with rows, of ``index``.

    Raises:
        ValueError: it is no dict (see `require_named`), neither has rows, or ``index`` has another number than ``input``.
    """
    require_named(batch, what)
    sizes = {
        key: next((len(tensor) for tensor in tensors_of(batch.get(key)) if tensor.dim()), None)
        for key in ("input", "index")
    }
    found = {size for size in sizes.values() if size is not None}
    if len(found) != 1:
        raise ValueError(
            f"batch['input'] has {sizes['input']} rows and batch['index'] {sizes['index']}; give one row an example"
        )
    return found.pop()


def rows_of(batch: Batch, rows_R: Tensor, size: int) -> dict[str, Any]:
    """Return some examples of a batch of ``size``."""
    return {key: _rows(value, rows_R, size) for key, value in batch.items()}


def examples_of(batch: Batch) -> list[dict[str, Any]]:
    """Return a batch as a list of its examples, which share its memory."""
    size = size_of(batch)
    items = {key: _items(value, size) for key, value in batch.items()}
    return [{key: each[row] for key, each in items.items()} for row in range(size)]


def finite_rows(value: Any, size: int) -> Tensor | None:
    """Return which examples are finite in all of the tensors with a row for each, (B,) bool; None where none is of floats."""
    return _in_all(torch.isfinite(tensor) for tensor in _floats(value, size))


def usable_rows(input: Any, size: int) -> Tensor | None:
    """Return which examples an input has nothing wrong with, (B,) bool; None where none of its tensors is of floats.

    As `finite_rows`, but for the -inf of a mask that is added to attention, as PyTorch has it: in an input of several tensors,
    one that holds nothing above 0.
    """
    masks = len(list(tensors_of(input))) > 1
    return _in_all(
        torch.isfinite(each) | _hidden(each) if masks else torch.isfinite(each) for each in _floats(input, size)
    )


def masked_rows(input: Any, size: int) -> Tensor | None:
    """Return which examples have such a mask's -inf in their input, (B,) bool; None where an input can have none."""
    if len(list(tensors_of(input))) < 2:
        return None
    plain_B = _in_all(~_hidden(each) for each in _floats(input, size))
    return None if plain_B is None else ~plain_B


def _hidden(tensor: Tensor) -> Tensor:
    """Return which numbers are the -inf of a mask."""
    if tensor.is_complex():
        return torch.zeros_like(tensor, dtype=torch.bool)
    return (tensor == -torch.inf) & ~(tensor > 0).any()


def _floats(value: Any, size: int) -> Iterator[Tensor]:
    """Yield the tensors of floats with a row for each example."""
    for tensor in tensors_of(value):
        if tensor.dim() and len(tensor) == size and (tensor.is_floating_point() or tensor.is_complex()):
            yield tensor.detach()


def _in_all(holds: Iterator[Tensor]) -> Tensor | None:
    """Return for which examples something holds everywhere in all tensors, (B,)."""
    all_B: Tensor | None = None
    for each in holds:
        each_B = each.reshape(len(each), -1).all(1)
        all_B = each_B if all_B is None else all_B & each_B.to(all_B.device)
    return all_B


@contextmanager
def asked_of_some(batch: Batch) -> Iterator[None]:
    """Say, where a model fails at some examples of a batch, which tensor may not have been one of rows of examples."""
    try:
        yield
    except Exception as error:
        size = size_of(batch)
        shapes = [tuple(each.shape) for each in tensors_of(batch["input"]) if each.shape == (size, size)]
        if shapes:
            error.add_note(
                f"the model was asked about some of {size} examples, and batch['input'] holds {shapes[0]}, of which rows were "
                f"taken as of every tensor with {size} rows; if it speaks of the whole batch, as an attention mask (T, T), "
                f"give it a first dimension of 1 that the model takes off: {(1, *shapes[0])}"
            )
        raise


def _rows(value: Any, rows_R: Tensor, size: int) -> Any:
    if isinstance(value, Tensor):
        return value[rows_R.to(value.device)] if _has_rows(value, size) else value
    if _is_items(value, size):
        return [value[row] for row in rows_R.tolist()]
    return _rebuilt(value, lambda item: _rows(item, rows_R, size))


def _items(value: Any, size: int) -> Sequence[Any]:
    if _has_rows(value, size):
        return value.unbind(0)
    if _is_items(value, size):
        return value
    if isinstance(value, Mapping):
        items = {key: _items(item, size) for key, item in value.items()}
        return [{key: each[row] for key, each in items.items()} for row in range(size)]
    if isinstance(value, tuple | list):
        return list(zip(*(_items(item, size) for item in value), strict=True))
    return [value] * size


def _has_rows(value: Any, size: int) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) == size


def _is_items(value: Any, size: int) -> bool:
    """Return whether a sequence holds one item an example, and not one tensor a part of the input."""
    if not isinstance(value, tuple | list) or len(value) != size:
        return False
    rows = [_has_rows(item, size) for item in value]
    return not (any(rows) if isinstance(value, tuple) else all(rows))


def _rebuilt(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a container of the same kind with each of its items changed; what is no container, as it is."""
    if isinstance(value, Mapping):
        return {key: change(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(change, value))
    return type(value)(list(map(change, value))) if isinstance(value, tuple | list) else value
