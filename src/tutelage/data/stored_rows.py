"""Tensors on the disk, a row for each thing that they were computed from, and found again by its hash."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tutelage.files import save_tensors, write_atomically

SEGMENT = 256  # rows in a file: what a kill may lose


class Rows(Protocol):
    """Tensors by row: those of a `RowStore`, or one tensor."""

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """Return these rows, (n, ...)."""


class StoredRows:
    """Rows of several memory-mapped files; what is not asked for is not read, and another process maps them anew.

    Args:
        paths: the files.
        name: of the tensor in each, (n, ...).
        segment, place: of each row the file and the row in it, (N,).
    """

    def __init__(self, paths: Sequence[Path], name: str, segment: Tensor, place: Tensor) -> None:
        self.paths = list(paths)
        self.name = name
        self.segment = segment
        self.place = place
        self.mapped: dict[int, Tensor] = {}
        for number in segment.unique().tolist():
            self.open(number)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "mapped": {}}

    def open(self, number: int) -> Tensor:
        """Return the tensor in a file."""
        if number not in self.mapped:
            with safe_open(self.paths[number], "pt") as file:
                self.mapped[number] = file.get_tensor(self.name)
        return self.mapped[number]

    def __getitem__(self, rows: Tensor) -> Tensor:
        segment, place = self.segment[rows], self.place[rows]
        numbers = segment.unique().tolist() or self.segment[:1].tolist()
        found = self.open(numbers[0]).new_empty(len(rows), *self.open(numbers[0]).shape[1:])
        for number in numbers:
            here = segment == number
            found[here] = self.open(number)[place[here]]
        return found


class RowStore:
    """Rows on the disk, found again by the hash of what they are of.

    They lie in files of at most `SEGMENT` rows that are written whole or not at all, so that a killed computation goes on
    where it was, and several processes may fill one store and read it. A file is checked before its first row is used: one
    whose checksum does not agree is removed, so that its rows are missing.

    Args:
        folder: of all rows that are of one kind; made where there is none.
        name: what the rows are, such as ``features``.

    Attributes:
        damaged: the files that were removed.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.damaged: list[Path] = []
        self.paths: list[Path] = []
        self.checked: set[int] = set()
        self.known: dict[int, tuple[int, int]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.read()

    def read(self) -> None:
        """Look at what the folder holds now, beyond what is known."""
        for path in sorted(set(self.folder.glob("*.safetensors")) - set(self.paths)):
            try:
                self._add(path)
            except (SafetensorError, OSError):
                self._remove(path)

    def _add(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            keys = file.get_tensor("keys").tolist()
        self.known |= {key: (len(self.paths), place) for place, key in enumerate(keys)}
        self.paths.append(path)

    def _remove(self, path: Path) -> None:
        self.damaged.append(path)
        path.unlink(missing_ok=True)

    def _check(self, segment: int) -> None:
        """Let a file that is damaged be as if it had not been."""
        self.checked.add(segment)
        path = self.paths[segment]
        try:
            with safe_open(path, "pt") as file:
                told = (file.metadata() or {}).get("checksum")
                whole = str(_checksum(file.get_tensor("keys"), file.get_tensor(self.name))) == told
            os.utime(path)  # it is in use
        except (SafetensorError, OSError):  # cut, or gone since
            whole = False
        if not whole:
            self._remove(path)
            self.known = {key: at for key, at in self.known.items() if at[0] != segment}

    def missing(self, keys: Sequence[int]) -> list[int]:
        """Return the places of the keys that have no row yet; of equal keys the first."""
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        for segment in {self.known[key][0] for key in first if key in self.known} - self.checked:
            self._check(segment)
        return sorted(place for key, place in first.items() if key not in self.known)

    def fill(self, keys: Sequence[int], places: Sequence[int], compute: Callable[[Sequence[int]], Tensor]) -> None:
        """Compute the rows of some places and keep them, a file at a time.

        Args:
            keys: of all places.
            places: those to compute.
            compute: from at most `SEGMENT` places to their rows, (n, ...).
        """
        for start in range(0, len(places), SEGMENT):
            part = places[start : start + SEGMENT]
            self.keep([keys[place] for place in part], compute(part))

    def keep(self, keys: Sequence[int], rows: Tensor) -> None:
        """Write rows into a file of their own.

        Raises:
            OSError: the disk is full or the folder cannot be written; what was there before still is.
        """
        own, rows = torch.tensor(keys, dtype=torch.int64), rows.cpu().contiguous()
        path = self.folder / f"{uuid4().hex}.safetensors"
        tensors, metadata = {"keys": own, self.name: rows}, {"checksum": str(_checksum(own, rows))}
        write_atomically(path, partial(save_tensors, tensors, metadata=metadata))
        self.checked.add(len(self.paths))
        self._add(path)

    def rows(self, keys: Sequence[int]) -> StoredRows:
        """Return the rows of these keys, all of which must be known."""
        found = torch.tensor([self.known[key] for key in keys], dtype=torch.int64).reshape(-1, 2)
        return StoredRows(self.paths, self.name, found[:, 0], found[:, 1])

    def nbytes(self) -> int:
        """Return how many bytes the folder and those beside it hold."""
        return sum(size for _, size, _ in self._files())

    def make_room(self, nbytes: int, limit: int) -> bool:
        """Remove the files that were used least lately, and not by this store, until there is room for more; say if there is.

        Args:
            nbytes: how much more.
            limit: how much the folder and those beside it may hold, in bytes.
        """
        files, used = self._files(), {self.paths[segment] for segment in self.checked}
        size = sum(each[1] for each in files)
        for _, freed, path in sorted(each for each in files if each[2] not in used):
            if size + nbytes <= limit:
                break
            path.unlink(missing_ok=True)
            size -= freed
        return size + nbytes <= limit

    def _files(self) -> list[tuple[float, int, Path]]:
        """Return when each file was last used, its size, and its path."""
        files = []
        for path in self.folder.parent.glob("*/*.safetensors"):
            with suppress(FileNotFoundError):  # another process makes room, too
                files.append((path.stat().st_mtime, path.stat().st_size, path))
        return files


def _checksum(*tensors: Tensor) -> int:
    value = 0
    for tensor in tensors:
        data: Any = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        value = zlib.crc32(data, value)
    return value
