"""Features that were computed elsewhere: a file with a row of numbers for each example, found by id or in order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.checks import TOO_LARGE, too_large
from tutelage.data.cells import as_text, read_table
from tutelage.data.problems import Problems

ID = "id"
FILES = "a .npy file, or a .parquet or .csv table with a column id"
_AT_ONCE = 4096  # rows


@dataclass(frozen=True)
class GivenFeatures:
    """The rows of a file of features.

    Attributes:
        path: the file's.
        rows: of numbers, (M, V, D): V views of each example, of which the first is the example as it is.
        ids: of each row; None where rows are in the order of the data.
    """

    path: Path
    rows: NDArray[Any]
    ids: list[str] | None = None

    @property
    def num_features(self) -> int:
        """How many numbers describe a view."""
        return int(self.rows.shape[2])

    def places(self, ids: pd.Series, count: int, problems: Problems) -> NDArray[np.int64]:
        """Return the row of each example, -1 where there is none; those examples are left out and listed.

        Args:
            ids: of the examples; their index is the place in the data, from 0.
            count: of examples in the data, with those that were left out before.
            problems: where it is noted who has no features, and whose nobody asks for.

        Raises:
            ValueError: the file has no ids, and not as many rows as the data.
        """
        if self.ids is None:
            if len(self.rows) != count:
                raise ValueError(
                    f"{self.path} holds {len(self.rows):,} rows and the data {count:,}; without ids they must be as many, in "
                    "the same order. Give the features as .parquet or .csv with a column id instead"
                )
            return ids.index.to_numpy(np.int64)
        row_of = {id: row for row, id in enumerate(self.ids)}
        found = np.array([row_of.get(id, -1) for id in ids], dtype=np.int64)
        for id in ids[found < 0]:
            problems.add(id, "no_features", f"{self.path.name} has no row of this id")
        if len(found) and not (found >= 0).any():
            raise ValueError(
                f"{self.path} has no row of any of the {count:,} examples: its ids are such as {self.ids[0]!r}, theirs such as "
                f"{ids.iloc[0]!r}"
            )
        if unused := len(row_of.keys() - set(ids)):
            problems.warn(
                "", "unused_features", f"{unused:,} rows of {self.path.name} belong to no example that is used"
            )
        return found

    def first(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the first view of these rows, (N, D)."""
        return np.ascontiguousarray(self.rows[places, 0], dtype=np.float32)

    def hashes(self, places: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return 256 bits of each row, (N, 4), which are those of another row where all numbers are equal."""
        digests = [blake2b(self.rows[place].tobytes(), digest_size=32).digest() for place in places]
        return np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 4)

    def key(self, places: NDArray[np.int64]) -> str:
        """Return a hash of these rows."""
        told = blake2b(repr((self.rows.shape[1:], str(self.rows.dtype))).encode(), digest_size=16)
        for start in range(0, len(places), _AT_ONCE):
            told.update(self.rows[places[start : start + _AT_ONCE]].tobytes())
        return told.hexdigest()


class GivenRows:
    """Some rows of given features, read from the file when they are asked for.

    Args:
        given: the file's.
        places: of each example its row, (N,).
    """

    def __init__(self, given: GivenFeatures, places: NDArray[np.int64]) -> None:
        self.given = given
        self.places = places

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.given.rows[self.places[rows.numpy()]].astype(np.float32))


def read_given_features(path: Path) -> GivenFeatures:
    """Read a file of features.

    Args:
        path: .npy with numbers (N, D), or (N, V, D) for several views of each example; .npz with one such array, or one that is
            named ``features``; or .parquet, .csv or .tsv with a column id, and either one column of lists or a column for each
            number.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, an id twice, or a number that is not finite or too large to compute with.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of features {path}; give {FILES}")
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        rows, ids = _of_arrays(path), None
    elif suffix in (".parquet", ".pq", ".csv", ".tsv"):
        rows, ids = _of_table(path)
    else:
        raise ValueError(f"{path} ends in {suffix!r}, which holds no features; give {FILES}")
    if rows.ndim not in (2, 3) or rows.dtype.kind not in "fiu" or 0 in rows.shape:
        raise ValueError(
            f"{path} holds {rows.dtype} {rows.shape}; features are numbers (N, D), or (N, V, D) for several views of each "
            "example"
        )
    for start in range(0, len(rows), _AT_ONCE):
        part = np.asarray(rows[start : start + _AT_ONCE], dtype=np.float32).reshape(-1, rows[0].size)
        if not (good := np.isfinite(part).all(1)).all():
            row = start + int(np.flatnonzero(~good)[0])
            name = f"row {row}" if ids is None else f"the row of id {ids[row]!r}"
            raise ValueError(f"{path}: {name} holds a number that is not finite; leave the row out or mend it")
        if (wrong := too_large(part)).any():
            row = start + int(wrong.argmax())
            name = f"row {row}" if ids is None else f"the row of id {ids[row]!r}"
            largest = float(np.abs(part[row - start]).max())
            raise ValueError(
                f"{path}: {name} holds a number as large as {largest:g}: {TOO_LARGE}, or leave the row out"
            )
    return GivenFeatures(path, rows if rows.ndim == 3 else rows[:, None], ids)


def _of_arrays(path: Path) -> NDArray[Any]:
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            names = found.files
            if "features" in names or len(names) == 1:
                return found["features" if "features" in names else names[0]]
    except (ValueError, EOFError, OSError, BadZipFile) as error:
        raise ValueError(f"{path} is no {path.suffix} file of numbers: {error}") from error
    raise ValueError(f"{path} holds the arrays {', '.join(names)}; name one of them 'features'")


def _of_table(path: Path) -> tuple[NDArray[Any], list[str]]:
    """Return the numbers (N, D) and the ids of a table."""
    problems = Problems()
    table = read_table(path, problems)
    if table.index.name == ID:
        table = table.reset_index()
    if ID not in table:
        raise ValueError(f"{path} has no column {ID!r}, by which its rows are told; it has {_listed(table.columns)}")
    if len(problems):
        raise ValueError(f"{path}: {problems.summary()}; the first is the row of {next(iter(problems)).id!r}")
    ids = as_text(table[ID]).tolist()
    if (again := pd.Series(ids).duplicated()).any():
        raise ValueError(f"{path}: id {ids[int(again.argmax())]!r} comes twice; give each example one row")
    table = table.drop(columns=ID)
    lists = [name for name in table if len(table) and isinstance(table[name].iloc[0], (np.ndarray, list, tuple))]
    if len(lists) == 1:
        try:
            return np.stack([np.asarray(row, dtype=np.float32) for row in table[lists[0]]]), ids
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: the lists in column {lists[0]!r} are not all as long, or no numbers") from error
    try:
        numbers = table if path.suffix.lower() in (".parquet", ".pq") else table.apply(pd.to_numeric)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; but for {ID}, each column must hold one number of the features") from error
    if strange := [name for name in numbers if not pd.api.types.is_numeric_dtype(numbers[name])]:
        raise ValueError(
            f"{path}: {_listed(strange)} hold no numbers; keep {ID} and the features, or put the features into one column of "
            "lists"
        )
    return numbers.to_numpy(np.float32, na_value=np.nan), ids


def _listed(names: Iterable[Any]) -> str:
    names = list(names)
    shown = ", ".join(repr(str(name)) for name in names[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown
