"""The fields of a table as what a network reads: names by their codes, numbers standardised, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tutelage.data.problems import Problems
from tutelage.data.written import numbers as read_numbers

NAME, NUMBER = "name", "number"
LEAST_NUMBERS = 20
"""A field of numbers that has no more distinct values than this is read as names."""
REPEATED = 10
"""Whole numbers that come so often each, on the average, may be names as well, and are read as both."""
UNREADABLE = 0.05
"""So large a share of a number's cells may be none, such as ``n/a``; they count as empty."""
FARTHEST = 10.0
"""In standard deviations: a number beyond is read as this, since nothing was learned there."""
ABSENT = 1000.0
"""Stands for a number that is not known, as `AutoInt` reads it: NaN would make the example a broken one."""


def declared(fields: Sequence[str], columns: Sequence[str]) -> dict[str, str | None]:
    """Return each field's column with how it is read where that was said: ``age:number`` or ``code:name``."""
    found: dict[str, str | None] = {}
    for field in fields:
        name, _, kind = field.rpartition(":")
        known = field not in columns and kind in (NAME, NUMBER)
        found[name if known else field] = kind if known else None
    return found


@dataclass(frozen=True)
class FieldCodes:
    """How the fields of a table are read; a field of repeated whole numbers may be read both ways.

    Attributes:
        values: of each field that is read as names, these in their order; one code more is that of all others.
        numbers: of each field that is read as a number, mean and standard deviation.
    """

    values: dict[str, list[str]]
    numbers: dict[str, tuple[float, float]]

    @property
    def names(self) -> list[str]:
        """The table's columns, each once."""
        return list(dict.fromkeys([*self.values, *self.numbers]))

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many rows of an embedding each needs: a name's values and "another", a number's origin, slope and "none"."""
        return (*(len(values) + 1 for values in self.values.values()), *(3 for _ in self.numbers))

    @property
    def places(self) -> tuple[int, ...]:
        """Which of the inputs are numbers."""
        return tuple(range(len(self.values), len(self.values) + len(self.numbers)))

    @classmethod
    def of(cls, cells: pd.DataFrame, kinds: Mapping[str, str | None]) -> FieldCodes:
        """Return how the fields of a table are read, by what is said of them or else by their cells.

        Raises:
            ValueError: a field that is to be read as a number has none.
        """
        values: dict[str, list[str]] = {}
        numbers: dict[str, tuple[float, float]] = {}
        for name, kind in kinds.items():
            filled = cells[name][cells[name] != ""]
            told = read_numbers(filled)
            told = told[np.isfinite(told)]
            distinct, readable = told.nunique(), len(told) >= (1 - UNREADABLE) * len(filled)
            coded = filled.str.fullmatch(r"[+-]?0\d+").any()  # 01234 is a code
            numeric = kind == NUMBER or (kind is None and readable and distinct > LEAST_NUMBERS and not coded)
            if kind == NUMBER and not len(told):
                raise ValueError(
                    f"field {name!r} is to be read as a number, and no cell of it holds one; leave out ':number'"
                )
            if numeric:
                numbers[name] = float(told.mean()), float(told.std(ddof=0)) or 1.0
            if not numeric or (kind is None and (told % 1 == 0).all() and distinct * REPEATED <= len(told)):
                values[name] = sorted(set(cells[name]))
        return cls(values, numbers)

    def coded(
        self, cells: pd.DataFrame, ids: Sequence[Any], problems: Problems, *, closed: Sequence[str] = ()
    ) -> Tensor:
        """Return the network's input, (N, F): int64, or float32 where there are numbers, NaN for those that are none.

        What is not known is noted, and read as "another value" or "no number"; the code of the former is -1 in ``closed``
        fields, of models that have none for it.
        """
        columns = []
        for name, values in self.values.items():
            codes = pd.Index(values, dtype=object).get_indexer(pd.Index(cells[name]))
            for row in np.flatnonzero(codes < 0).tolist() if name not in self.numbers else ():
                note = problems.add if name in closed else problems.warn
                note(ids[row], "unknown_value", f"{name} is {cells[name].iloc[row]!r}, which the run has not seen")
            columns.append(codes if name in closed else np.where(codes < 0, len(values), codes))
        for name, (mean, deviation) in self.numbers.items():
            told = read_numbers(cells[name])
            told = told.where(np.isfinite(told))
            for row in np.flatnonzero(told.isna() & (cells[name] != "")).tolist():
                problems.warn(
                    ids[row], "bad_number", f"{name} is {cells[name].iloc[row]!r}, which is no number, and left out"
                )
            columns.append(((told - mean) / deviation).clip(-FARTHEST, FARTHEST).fillna(ABSENT).to_numpy())
        coded = np.stack(columns, 1)
        return torch.from_numpy(coded.astype(np.float32 if self.numbers else np.int64))

    def told(self) -> str:
        """Say how the fields are read."""
        both = [name for name in self.numbers if name in self.values]
        ways = {
            "as numbers": [name for name in self.numbers if name not in both],
            "as names": [name for name in self.values if name not in both],
            "as both": both,
        }
        return "fields read " + "; ".join(f"{way}: {', '.join(names)}" for way, names in ways.items() if names)


class Forgetful:
    """Some fields of a training batch, drawn at random, are not known, so that a network learns what to answer then.

    Args:
        sizes: of each field, as of `FieldCodes`.
        numbers: which of them are numbers.
        share: of the fields that are forgotten.
    """

    def __init__(self, sizes: Sequence[int], numbers: Sequence[int], share: float = 0.05) -> None:
        self.unknown = torch.tensor(sizes) - 1
        self.numbers = list(numbers)
        self.share = share

    def __call__(self, input: Tensor) -> Tensor:
        """Return (B, F) with fields forgotten."""
        unknown = self.unknown.to(input)
        if self.numbers:
            unknown[self.numbers] = ABSENT
        return torch.where(torch.rand(input.shape, device=input.device) < self.share, unknown, input)
