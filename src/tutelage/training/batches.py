"""From a data set and a sampler to batches, the same ones however many workers load them and wherever one starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tutelage.data.indexed import batch_of
from tutelage.training import seeds

Augmentation = Callable[[Tensor], Tensor]
"""A random change of a batch's ``input``, drawing from torch's global generator."""

Sampler = Callable[[int], Tensor]
"""``sampler(epoch)``: the places in the data set that an epoch visits, in order, (n,) int64; a function of the epoch alone."""


class Examples(Protocol):
    """A map-style data set of dicts; one that is `tutelage.data.Batched` is asked for whole batches."""

    def __len__(self) -> int: ...
    def __getitem__(self, place: int, /) -> dict[str, Any]: ...


def check_examples(argument: str, examples: Any) -> None:
    """Refuse, by its first example, what is no data set of examples as `fetch` wants them.

    Raises:
        TypeError: it has no places, such as a ``DataLoader``.
        ValueError: it is empty, or its examples are no dicts with ``index`` and ``input``.
    """
    if isinstance(examples, Mapping | Tensor) or not hasattr(type(examples), "__getitem__"):
        raise TypeError(
            f"{argument} is a {type(examples).__name__}; give a map-style data set, with __len__ and __getitem__: the one in a "
            "DataLoader, or tutelage.data.TensorData(input=..., label=...) of tensors"
        )
    if len(examples) == 0:
        raise ValueError(f"{argument} is empty; give at least one example")
    try:
        fetch(examples, [0])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument}: {error}") from error


class Shuffled:
    """Every example once an epoch, in a fresh random order."""

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed

    def __call__(self, epoch: int) -> Tensor:
        """Return a permutation of the places, (length,)."""
        return torch.randperm(self.length, generator=seeds.generator(self.seed, "order", epoch))


class Repeated:
    """A sampler's epochs several at a time: for a small data set whose epochs would be too short to evaluate after each."""

    def __init__(self, sampler: Sampler, passes: int) -> None:
        self.sampler = sampler
        self.passes = passes

    def __call__(self, epoch: int) -> Tensor:
        """Return the places of ``passes`` epochs of the sampler, one after another."""
        return torch.cat([self.sampler(epoch * self.passes + turn) for turn in range(self.passes)])


class Mixed:
    """Two groups, of which every full batch holds the same share; an epoch is one pass over the second.

    The first group, such as few labelled examples beside many that are not, is repeated as often as that needs, in a fresh
    order each time.

    Args:
        first, second: places in the data set.
        share: of the first group in a batch, in (0, 1).
        batch_size: examples in a batch, as the training has it.
        seed: of the orders.

    Raises:
        ValueError: an empty group, or a share that leaves one of them no place in a batch.
    """

    def __init__(self, first: Tensor, second: Tensor, *, share: float, batch_size: int, seed: int) -> None:
        self.firsts = round(share * batch_size)
        self.seconds = batch_size - self.firsts
        if min(self.firsts, self.seconds) < 1 or min(len(first), len(second)) < 1:
            raise ValueError(
                f"share={share} of {batch_size} must leave both groups a place in a batch, and neither may be empty; "
                f"they are of {len(first)} and {len(second)}"
            )
        self.first = first
        self.second = second
        self.seed = seed

    def __call__(self, epoch: int) -> Tensor:
        """Return the places of an epoch, batch after batch."""
        second = self.second[torch.randperm(len(self.second), generator=seeds.generator(self.seed, "second", epoch))]
        groups = second.split(self.seconds)
        passes = -(-len(groups) * self.firsts // len(self.first))
        draw = seeds.generator(self.seed, "first", epoch)
        first = torch.cat([self.first[torch.randperm(len(self.first), generator=draw)] for _ in range(passes)])
        parts = zip(first[: len(groups) * self.firsts].split(self.firsts), groups, strict=True)
        return torch.cat([torch.cat(pair) for pair in parts])


def indices_of(examples: Examples) -> Tensor:
    """Return the ``index`` of the example at each place, (len,): the attribute ``index`` of a subset, else the place."""
    index = getattr(examples, "index", None)
    return index if isinstance(index, Tensor) else torch.arange(len(examples))


def own_places(places: Tensor, examples: Examples, rank: int, world: int) -> Tensor:
    """Return those of the places that this process draws: the examples with ``index % world == rank``.

    The assignment never changes, so that per-example state has one owner and is never exchanged. Processes whose share of
    an epoch is longer stop with the shortest, so that all make the same number of equal batches.
    """
    if world == 1:
        return places
    owner = indices_of(examples)[places] % world
    return places[owner == rank][: int(torch.bincount(owner, minlength=world).min())]


def left_over(places: Tensor, examples: Examples, world: int, size: int, done: int) -> Tensor:
    """Return the places of an epoch that are left, in order, when each of ``world`` processes has done its first batches.

    Args:
        places: of the whole epoch.
        examples: the data set.
        world: the processes.
        size: examples in a batch of one process.
        done: batches of each.
    """
    left = torch.ones(len(places), dtype=torch.bool)
    owner = indices_of(examples)[places] % world
    for rank in range(world):
        own = (owner == rank).nonzero().squeeze(1)
        left[own[: done * size]] = False
    shortest = len(own_places(places, examples, 0, world))
    return (
        places[left] if shortest - done * size > (size > 1) else places[:0]
    )  # a lone last example joins the batch before it


class Batches(Dataset[dict[str, Tensor]]):
    """Whole batches as a map-style data set: item b is a pure function of (places, seed, b)."""

    def __init__(
        self,
        examples: Examples,
        places: Tensor,
        batch_size: int,
        augment: Augmentation | None,
        seed: tuple[int | str, ...],
    ) -> None:
        self.examples = examples
        self.places = places
        self.batch_size = batch_size
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        # A lone last example joins the batch before it: there is no batch normalisation over one.
        alone = len(self.places) % self.batch_size == 1 and 1 < self.batch_size < len(self.places)
        return -(-len(self.places) // self.batch_size) - alone

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        return _Maker(self.examples, self.augment)[self.recipe(number)]

    def recipe(self, number: int) -> _Recipe:
        """Return what a batch is made from: its places, and the seed of what is random."""
        end = (number + 1) * self.batch_size if number + 1 < len(self) else len(self.places)
        return self.places[number * self.batch_size : end].tolist(), (*self.seed, number)

    def iterate(self, start: int = 0, workers: int = 0, end: int | None = None) -> Iterator[dict[str, Tensor]]:
        """Yield the batches from number ``start`` on, to before number ``end``."""
        yield from Loader(self.examples, self.augment, workers).load(self, start, end)


_Recipe = tuple[list[int], tuple[int | str, ...]]


class _Maker(Dataset[dict[str, Tensor]]):
    """A data set of batches, by what they are made from."""

    def __init__(self, examples: Examples, augment: Augmentation | None) -> None:
        self.examples = examples
        self.augment = augment

    def __getitem__(self, recipe: _Recipe) -> dict[str, Tensor]:
        places, seed = recipe
        with seeds.fixed(*seed):
            batch = fetch(self.examples, places)
            if self.augment is not None:
                batch = {**batch, "input": self.augment(batch["input"])}
        return dict(batch)


class Loader:
    """Loads batches of one data set, one pass after another, in processes that stay from pass to pass.

    Where there is an accelerator, batches lie in pinned memory, from which they are copied while the accelerator works.

    Args:
        examples: the data set.
        augment: a random change of the input.
        workers: processes; 0 loads here.
    """

    def __init__(self, examples: Examples, augment: Augmentation | None, workers: int) -> None:
        self.recipes: list[_Recipe] = []
        self.loader: DataLoader[dict[str, Tensor]] = DataLoader(
            _Maker(examples, augment),
            batch_size=None,
            sampler=self.recipes,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.accelerator.is_available(),
            generator=seeds.generator("loader"),  # else it draws from the caller's
        )

    def load(self, batches: Batches, start: int = 0, end: int | None = None) -> Iterator[dict[str, Tensor]]:
        """Yield a pass's batches from number ``start`` on, to before number ``end``."""
        self.recipes[:] = [batches.recipe(number) for number in range(len(batches))[start:end]]
        yield from self.loader


def fetch(examples: Examples, places: Sequence[int]) -> dict[str, Tensor]:
    """Return the examples at these places as one batch.

    Raises:
        ValueError: the data set yields something else than dicts with ``index`` and ``input``.
    """
    batch = batch_of(examples, places)
    if not isinstance(batch, Mapping) or not {"index", "input"} <= batch.keys():
        found = sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise ValueError(
            f"the data set yields {found}; expected dicts with 'index' and 'input'. "
            "tutelage.data.Indexed(dataset) makes them from any map-style data set"
        )
    return dict(batch)
