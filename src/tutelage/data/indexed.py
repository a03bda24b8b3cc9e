"""Batches as dicts of tensors with `index`: from any map-style data set, from plain tensors, and from parts of a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, default_collate

from tutelage.batches import examples_of


class MapStyle(Protocol):
    """What PyTorch calls a map-style data set."""

    def __len__(self) -> int:
        """Return how many examples there are."""

    def __getitem__(self, place: int, /) -> Any:
        """Return one example."""


class Batched(ABC):
    """A map-style data set that makes a whole batch at once, `batch(places)`, from which its single examples are taken.

    ``DataLoader``, ``Subset``, ``ConcatDataset`` and ``random_split`` take it as they take any data set.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Return how many examples there are."""

    @abstractmethod
    def batch(self, places: Sequence[int]) -> dict[str, Any]:
        """Return the examples at these places as one batch."""

    def __getitem__(self, place: int) -> dict[str, Any]:
        return examples_of(self.batch([range(len(self))[place]]))[0]

    def __getitems__(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Return the examples at these places, as PyTorch's loader asks for them."""
        return examples_of(self.batch(places))


class Derived(Batched):
    """A data set with as many examples as another one, whose batches it changes.

    Args:
        examples: a map-style data set of dicts.
    """

    def __init__(self, examples: MapStyle) -> None:
        self.examples = examples

    @property
    def index(self) -> Tensor | None:
        """Return the ``index`` of each place, where the data set underneath knows it."""
        return getattr(self.examples, "index", None)

    def __len__(self) -> int:
        return len(self.examples)


def batch_of(examples: MapStyle, places: Sequence[int]) -> Any:
    """Return the examples at these places as one batch: in one call where the data set offers that, else collated."""
    return examples.batch(places) if isinstance(examples, Batched) else default_collate(_listed(examples, places))


def _listed(examples: MapStyle, places: Sequence[int]) -> list[Any]:
    getitems = getattr(examples, "__getitems__", None)  # PyTorch's own optional protocol
    return getitems(list(places)) if getitems is not None else [examples[place] for place in places]


class Indexed(Batched):
    """Any map-style data set, with each example's place in it as `index` (int64).

    An example may be a dict, a pair `(input, label)` or a lone input; it becomes a dict.

    Args:
        dataset: a map-style data set.

    Raises:
        TypeError: the data set has no places, such as PyTorch's `IterableDataset`.
        ValueError: an example is a tuple of another length, or already holds an `index`.
    """

    def __init__(self, dataset: MapStyle) -> None:
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
            raise TypeError(
                f"{type(dataset).__name__} can only be iterated over, so that its examples have no place to be found by again: "
                "give a map-style data set, with __len__ and __getitem__, or let its own examples be dicts with an 'index'"
            )
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: int) -> dict[str, Any]:
        place = range(len(self))[place]
        return {"index": torch.tensor(place), **_as_dict(self.dataset[place])}

    def __getitems__(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Return the examples at these places."""
        examples = _listed(self.dataset, places)
        return [{"index": torch.tensor(i), **_as_dict(each)} for i, each in zip(places, examples, strict=True)]

    def batch(self, places: Sequence[int]) -> dict[str, Any]:
        """Return a whole batch at once."""
        return default_collate(self.__getitems__(places))


def _as_dict(example: Any) -> dict[str, Any]:
    if isinstance(example, Mapping):
        if "index" in example:
            raise ValueError("the data set's examples already hold an 'index': use it without Indexed()")
        return dict(example)
    if isinstance(example, (tuple, list)):
        if len(example) != 2:
            raise ValueError(
                f"the data set's examples are tuples of {len(example)}: give (input, label) or a dict by name"
            )
        return {"input": example[0], "label": example[1]}
    return {"input": example}


class TensorData(Batched):
    """Tensors by name as a map-style data set: row i of each, with `index` i.

    Args:
        tensors: such as `input=` (N, ...) and `label=` (N,); all with the same N.

    Raises:
        ValueError: no tensor, different lengths, or one named `index`.
    """

    def __init__(self, **tensors: Tensor) -> None:
        lengths = {name: len(tensor) for name, tensor in tensors.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"tensors must have one common length; given: {lengths}")
        if "index" in tensors:
            raise ValueError("'index' is the place of a row and is added here: give that tensor another name")
        self.tensors = tensors

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def batch(self, places: Sequence[int]) -> dict[str, Tensor]:
        """Return a whole batch at once."""
        index = torch.as_tensor(places, dtype=torch.int64)
        return {"index": index, **{name: tensor[index] for name, tensor in self.tensors.items()}}


class WithColumns(Derived):
    """A data set whose batches hold further tensors, looked up by ``index``.

    Args:
        examples: a map-style data set of dicts with ``index``, such as `Rows` or `TensorData`.
        columns: for each name, a tensor with one row for every ``index``; a name that exists is replaced.
    """

    def __init__(self, examples: MapStyle, **columns: Tensor) -> None:
        super().__init__(examples)
        self.columns = columns

    def batch(self, places: Sequence[int]) -> dict[str, Any]:
        """Return a whole batch at once."""
        batch = batch_of(self.examples, places)
        return {**batch, **{name: column[batch["index"]] for name, column in self.columns.items()}}


class Rows(Batched):
    """Some rows of a map-style data set, in a given order; an example keeps the ``index`` that it has in the whole.

    Args:
        examples: a map-style data set of dicts with ``index``, where row i has the index i.
        rows: (n,) int64.
    """

    def __init__(self, examples: Any, rows: Tensor) -> None:
        self.examples = examples
        self.index = rows

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, places: Sequence[int]) -> dict[str, Any]:
        """Return a whole batch at once."""
        return batch_of(self.examples, self.index[torch.as_tensor(places, dtype=torch.int64)].tolist())
