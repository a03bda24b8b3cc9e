"""Batches as dicts of tensors with `index`, from any map-style data set and from plain tensors."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import default_collate


class MapStyle(Protocol):
    """What PyTorch calls a map-style data set."""

    def __len__(self) -> int:
        """How many examples there are."""

    def __getitem__(self, row: int, /) -> Any:
        """One example."""


class Indexed:
    """Any map-style data set, with each example's place in it as `index` (int64).

    An example may be a dict, a pair `(input, label)` or a lone input; it becomes a dict. Batches come by
    `__getitems__`: in one call where the data set offers that, collated from single examples elsewhere.

    Args:
        dataset: a map-style data set.

    Raises:
        ValueError: an example is a tuple of another length, or already holds an `index`.
    """

    def __init__(self, dataset: MapStyle) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"index": torch.tensor(row), **_as_dict(self.dataset[row])}

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Any]:
        """A whole batch at once."""
        index = torch.as_tensor(rows, dtype=torch.int64)
        fetch = getattr(self.dataset, "__getitems__", None)  # PyTorch's own optional protocol
        batch = fetch(list(rows)) if fetch else [self.dataset[row] for row in rows]
        if not isinstance(batch, Mapping):
            batch = default_collate([_as_dict(example) for example in batch])
        return {"index": index, **_as_dict(batch)}


def _as_dict(example: Any) -> dict[str, Any]:
    if isinstance(example, Mapping):
        if "index" in example:
            raise ValueError("the data set's examples already hold an 'index': use it without Indexed().")
        return dict(example)
    if isinstance(example, (tuple, list)):
        if len(example) != 2:
            raise ValueError(
                f"the data set's examples are tuples of {len(example)}: give (input, label) or a dict by name."
            )
        return {"input": example[0], "label": example[1]}
    return {"input": example}


class TensorData:
    """Tensors by name as a map-style data set: row i of each, with `index` i.

    Args:
        tensors: such as `input=` (N, ...) and `label=` (N,); all with the same N.

    Raises:
        ValueError: no tensor, different lengths, or one named `index`.
    """

    def __init__(self, **tensors: Tensor) -> None:
        lengths = {name: len(tensor) for name, tensor in tensors.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"tensors must have one common length; given: {lengths}.")
        if "index" in tensors:
            raise ValueError("'index' is the place of a row and is added here: give that tensor another name.")
        self.tensors = tensors

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"index": torch.tensor(row), **{name: tensor[row] for name, tensor in self.tensors.items()}}

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """A whole batch at once."""
        index = torch.as_tensor(rows, dtype=torch.int64)
        return {"index": index, **{name: tensor[index] for name, tensor in self.tensors.items()}}
