"""One row of numbers for each example of the data set, wherever its process may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.distributed import all_gather_rows, all_reduce_sum, rank_world
from tutelage.signals import Batch
from tutelage.signals.base import entry


def index_of(batch: Batch, weighting: str) -> Tensor:
    """Return ``batch["index"]``, (B,) whole numbers: the place of each example in the data set.

    Raises:
        ValueError: the batch has none, or something else under that name.
    """
    return entry(batch, "index", weighting)


def classes_of(batch: Batch, weighting: str) -> Tensor:
    """Return ``batch["label"]``, (B,) whole numbers: the class of each example, -1 for none.

    Raises:
        ValueError: the batch has none, or something else under that name.
    """
    label_B = entry(batch, "label", weighting)
    if label_B.dim() != 1 or label_B.is_floating_point() or label_B.is_complex():
        raise ValueError(
            f"{weighting} goes by class, and batch['label'] is {label_B.dtype} {tuple(label_B.shape)}; give whole numbers "
            "(B,), -1 for none"
        )
    return label_B.long()


class ExampleTable(nn.Module):
    """A table (N, K) by the examples' ``index``, of which each process holds the rows with ``index % processes == rank``.

    Nothing of its size is exchanged but in `whole` and in ``state_dict``, which hold all rows and fit any number of
    processes. Every method but `add` is a call that all processes make.

    Args:
        num_examples: N.
        initial_K: the first value of every row.

    Attributes:
        rows: this process's rows (a buffer).
    """

    rows: Tensor

    def __init__(self, num_examples: int, initial_K: Tensor) -> None:
        super().__init__()
        if num_examples < 1:
            raise ValueError(f"num_examples={num_examples} must be positive")
        self.num_examples = num_examples
        self._place = (0, 1)
        self._asked: Tensor | None = None  # the least and the greatest index since the last look at them
        self.register_buffer("rows", initial_K.repeat(num_examples, 1))

    def __len__(self) -> int:
        return self.num_examples

    def lookup(self, index_B: Tensor) -> Tensor:
        """Return the rows (B, K) of examples, whichever process holds them.

        Raises:
            ValueError: an index that is not in 0..N-1; of indices on an accelerator, which would have to be waited for, the
                next call of `add` or `whole` says so.
        """
        self._settle()
        self._note(index_B)
        if index_B.device.type == "cpu":
            self._check()
        index_B = index_B.clamp(0, self.num_examples - 1)
        rank, world = self._place
        if world == 1 or all_reduce_sum((index_B % world != rank).any().to(torch.int64)) == 0:
            return self._own(index_B)
        asked_A, sender_A = all_gather_rows(index_B, torch.full_like(index_B, rank))
        own_A = asked_A % world == rank
        answer_AK = self.rows.new_zeros(len(asked_A), self.rows.shape[1], device=index_B.device)
        answer_AK[own_A] = self._own(asked_A[own_A])
        return all_reduce_sum(answer_AK)[sender_A == rank]

    @torch.no_grad()
    def add(self, index_A: Tensor, change_AK: Tensor, bounds: tuple[float, float] | None = None) -> None:
        """Add to the rows of examples, and keep those within bounds; an example that occurs twice is added to twice.

        Args:
            index_A: examples of all processes; each process changes the rows that it holds.
            change_AK: what is added.
            bounds: the least and the greatest value.
        """
        self._settle()
        self._note(index_A)
        self._check()
        rank, world = self._place
        index_A, change_AK = index_A.to(self.rows.device), change_AK.to(self.rows)
        own_A = index_A % world == rank
        touched, where = torch.unique(index_A[own_A] // world, return_inverse=True)
        change = self.rows.new_zeros(len(touched), self.rows.shape[1])
        change.index_add_(0, where, change_AK[own_A])
        new = self.rows[touched] + change
        self.rows[touched] = new if bounds is None else new.clamp(*bounds)

    @torch.no_grad()
    def put(self, index_A: Tensor, values_AK: Tensor) -> None:
        """Set the rows of examples of all processes; of an example that occurs twice the first values stay."""
        order = index_A.argsort(stable=True)
        index_A = index_A[order]
        first = torch.ones_like(index_A, dtype=torch.bool)
        first[1:] = index_A[1:] != index_A[:-1]
        index_A, values_AK = index_A[first], values_AK[order][first]
        self.add(index_A, values_AK.to(self.rows) - self.lookup(index_A).to(self.rows))

    def whole(self) -> Tensor:
        """Return all rows, (N, K), in all processes."""
        self._settle()
        self._check()
        rank, world = self._place
        if world == 1:
            return self.rows.clone()
        index = torch.arange(rank, self.num_examples, world, device=self.rows.device)
        index_N, rows_NK = all_gather_rows(index, self.rows)
        return torch.empty_like(rows_NK).index_copy_(0, index_N, rows_NK)

    def _own(self, index: Tensor) -> Tensor:
        """Return rows that this process holds, where the asker has its examples."""
        return self.rows[index.to(self.rows.device) // self._place[1]].to(index.device)

    def _settle(self) -> None:
        """Keep this process's rows alone, once there are several: a table may be older than the processes' group."""
        if self._place == rank_world():
            return
        if self._place != (0, 1):
            raise ValueError(f"the table was made as part {self._place} of the processes, which are now {rank_world()}")
        self._place = rank, world = rank_world()
        self.rows = self.rows[rank::world].clone()

    def _note(self, index: Tensor) -> None:
        if index.numel():
            least, greatest = index.aminmax()
            if self._asked is not None:
                before = self._asked.to(index.device)
                least, greatest = torch.minimum(least, before[0]), torch.maximum(greatest, before[1])
            self._asked = torch.stack([least, greatest])

    def _check(self) -> None:
        asked, self._asked = self._asked, None
        least, greatest = (0, 0) if asked is None else asked.tolist()
        if not 0 <= least <= greatest < self.num_examples:
            raise ValueError(
                f"batch['index'] goes from {least} to {greatest}, but the table has rows 0 to "
                f"{self.num_examples - 1}: index is the example's place in the whole data set, and num_examples its size"
            )

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[prefix + "rows"] = self.whole()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        self._settle()
        saved = state_dict.get(prefix + "rows")
        if saved is not None and len(saved) == self.num_examples:
            rank, world = self._place
            state_dict = {**state_dict, prefix + "rows": saved[rank::world]}
        super()._load_from_state_dict(state_dict, prefix, *args)
