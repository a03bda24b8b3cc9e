"""Ratings of items by users as categorical fields: MovieLens-1M, and any table of user, item and rating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

MOVIELENS_FIELDS = ("movie", "genre", "user", "gender", "age", "occupation")


@dataclass(frozen=True)
class Ratings:
    """Ratings, one row each.

    Attributes:
        fields: (N, F) int64, the value of each field, from 0.
        rating: (N,) float32.
        names: of the fields.
        sizes: number of values of each field.
    """

    fields: Tensor
    rating: Tensor
    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rating)


def movielens(folder: str | Path, *, without: float | None = 3.0, users: int | None = None, seed: int = 0) -> Ratings:
    """Read MovieLens-1M in GroupLens' own files (``ratings.dat``, ``users.dat``, ``movies.dat``).

    ``ratings.parquet`` (columns user, movie, rating) is read in the place of ``ratings.dat`` where that is missing. The fields
    are those that MAOAL's authors take: movie, its first genre, user, gender, age, occupation.

    Args:
        folder: holds the files.
        without: a rating that is left out; the authors leave out 3, the middle one. None keeps all.
        users: a random sample of so many users with all of their ratings; None takes all 6,040.
        seed: of the sample.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a rating of an unknown user or movie, or fewer users than asked for.
    """
    folder = Path(folder)
    people = _dat(folder / "users.dat", ["user", "gender", "age", "occupation", "zip"])
    movies = _dat(folder / "movies.dat", ["movie", "title", "genres"])
    if (folder / "ratings.dat").is_file():
        ratings = _dat(folder / "ratings.dat", ["user", "movie", "rating", "time"])
    elif (folder / "ratings.parquet").is_file():
        ratings = pd.read_parquet(folder / "ratings.parquet")
    else:
        raise FileNotFoundError(f"folder={str(folder)!r} holds neither ratings.dat nor ratings.parquet")
    ratings = ratings[["user", "movie", "rating"]].astype({"user": np.int64, "movie": np.int64})
    if users is not None:
        known = np.sort(people["user"].astype(np.int64).unique())
        if not 1 <= users <= len(known):
            raise ValueError(f"users={users}: there are {len(known)}")
        chosen = np.random.default_rng([seed, 7]).permutation(known)[:users]
        ratings = ratings[ratings["user"].isin(chosen)]
    people["user"], movies["movie"] = people["user"].astype(np.int64), movies["movie"].astype(np.int64)
    movies["genre"] = movies["genres"].str.split("|").str[0]
    table = ratings.merge(people, on="user", how="left").merge(movies, on="movie", how="left")
    if table[["gender", "genre"]].isna().to_numpy().any():
        lost = table[table[["gender", "genre"]].isna().any(axis=1)].iloc[0]
        raise ValueError(f"user {lost['user']} or movie {lost['movie']} has a rating and no entry of its own")
    table["rating"] = table["rating"].astype(np.float32)
    if without is not None:
        table = table[table["rating"] != without]
    return _coded(table, MOVIELENS_FIELDS)


def ratings_csv(path: str | Path) -> Ratings:
    """Read a table of user, item, rating and perhaps more, with or without a header: the layout of the Amazon ratings.

    Args:
        path: a CSV file. Without a header the first three columns are user, item and rating; a header must name them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a column is missing, or a rating is no number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} of ratings")
    first = pd.read_csv(path, header=None, nrows=1, dtype=str).iloc[0].tolist()
    if len(first) < 3:
        raise ValueError(f"{path} has {len(first)} columns; user, item and rating are needed")
    headed = pd.isna(pd.to_numeric(pd.Series(first[2:3]), errors="coerce")).any()
    table = pd.read_csv(path, header=0 if headed else None, dtype=str)
    if not headed:
        table.columns = pd.Index(["user", "item", "rating", *(f"column {i}" for i in range(3, table.shape[1]))])
    for name in ("user", "item", "rating"):
        if name not in table:
            raise ValueError(f"{path} has no column {name!r}; it has: {', '.join(map(str, table))}")
    numbers = pd.to_numeric(table["rating"], errors="coerce")
    if numbers.isna().any():
        row = int(np.flatnonzero(numbers.isna())[0])
        raise ValueError(f"{path}: rating {table['rating'].iloc[row]!r} of row {row} is no number")
    table["rating"] = numbers.astype(np.float32)
    return _coded(table, ("item", "user"))


def _dat(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """GroupLens' format: no header, columns divided by two colons, latin-1."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}")
    lines = path.read_text(encoding="latin-1").splitlines()
    cells = [line.split("::") for line in lines if line]
    if bad := next((line for line, row in zip(lines, cells, strict=False) if len(row) != len(names)), None):
        raise ValueError(f"{path}: the line {bad!r} does not have {len(names)} columns divided by '::'")
    return pd.DataFrame(cells, columns=list(names))


def _coded(table: pd.DataFrame, names: Sequence[str]) -> Ratings:
    coded = [pd.factorize(table[name], sort=True) for name in names]
    fields = torch.from_numpy(np.stack([code for code, _ in coded], axis=1).astype(np.int64))
    rating = torch.from_numpy(table["rating"].to_numpy(np.float32, copy=True))
    return Ratings(fields, rating, tuple(names), tuple(len(values) for _, values in coded))
