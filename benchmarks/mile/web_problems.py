"""Problems of MILe's Table 2 at the laptop size: people's wrong labels, and labels as the web gives them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.laptop.described import described
from tutelage.data import TensorData
from tutelage.data.fingerprint import fingerprint

SIZES = {"train": 5_000, "held_out": 500, "val": 500}
TUNED_ON = 4_000
LIKE, FOREIGN, RAREST = 0.2, 0.2, 0.2


@dataclass(frozen=True)
class Problem:
    """Features with given labels, by part, and what the test is judged by.

    Attributes:
        classes: C.
        parts: of each part the features (n, D), standardised over the training part, and the labels; right ones but in train.
        rows: of the data set, in each part.
    """

    classes: int
    parts: dict[str, TensorData]
    rows: dict[str, NDArray[np.int64]]

    @cached_property
    def content(self) -> str:
        """A hash of all parts."""
        return fingerprint({part: examples.tensors for part, examples in self.parts.items()})


def people(column: str, seed: int, data: Path, runs: Path, tuning: bool) -> Problem:
    """Return CIFAR-10 whose training labels are people's, from one column of CIFAR-10N."""
    features, facts = described("cifar10", data, runs)
    known = (facts["split"] == "unassigned").to_numpy()
    rng = np.random.default_rng([seed, 15])
    rows = _divided(rng.permutation(np.flatnonzero(known)), np.flatnonzero(~known), tuning)
    right, given = facts["label"].to_numpy(np.int64), facts[column].to_numpy()
    return _problem(features, rows, {name: (given if name == "train" else right) for name in rows}, 10)


def like_the_web(seed: int, data: Path, runs: Path, tuning: bool) -> Problem:
    """Return half of CIFAR-100's super-classes with labels as a search engine gives them.

    Classes are of unequal size, the rarest a fifth of the most frequent. A fifth of the training images has the label of
    another class of its super-class, and a fifth is of classes that are none here, with the label of one of the three classes
    whose mean features are nearest to theirs.
    """
    features, facts = described("cifar100", data, runs)
    rng = np.random.default_rng([seed, 16])
    right, coarse = facts["label"].to_numpy(np.int64), facts["coarse"].to_numpy(np.int64)
    known = (facts["split"] == "unassigned").to_numpy()
    inside = np.isin(coarse, rng.permutation(20)[:10])
    classes = np.unique(right[inside])
    number = np.full(100, -1)
    number[classes] = np.arange(len(classes))
    share = RAREST ** (rng.permutation(len(classes)) / (len(classes) - 1))  # of each class that may be drawn
    order = rng.permutation(np.flatnonzero(known & inside))
    even = order[: SIZES["held_out"] + SIZES["val"] + (TUNED_ON if tuning else 0)]
    rest = order[len(even) :]
    rest = rest[rng.random(len(rest)) < share[number[right[rest]]]]
    foreign = rng.permutation(np.flatnonzero(known & ~inside))[: round(FOREIGN * SIZES["train"])]
    train = np.concatenate([rest[: SIZES["train"] - len(foreign)], foreign])
    rows = _divided(np.concatenate([train, even]), np.flatnonzero(~known & inside), tuning)
    means = torch.stack([features[torch.from_numpy(known & (right == c)), 0].mean(0) for c in range(100)]).numpy()
    given = number[right]
    for row in foreign:
        distances = np.linalg.norm(means[classes] - means[right[row]], axis=1)
        given[row] = rng.choice(np.argsort(distances)[:3])
    own = train[: len(train) - len(foreign)]
    for row in rng.permutation(own)[: round(LIKE * len(train))]:
        siblings = classes[(coarse_of(coarse, right, classes) == coarse[row]) & (classes != right[row])]
        given[row] = number[rng.choice(siblings)]
    return _problem(
        features, rows, {name: (given if name == "train" else number[right]) for name in rows}, len(classes)
    )


def coarse_of(coarse: NDArray[np.int64], right: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the super-class of each class."""
    return np.array([coarse[np.argmax(right == c)] for c in classes])


def _divided(order: NDArray[np.int64], test: NDArray[np.int64], tuning: bool) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each part; for tuning, the test is of training images."""
    counts = [*SIZES.values(), TUNED_ON]
    drawn = np.split(order[: sum(counts)], np.cumsum(counts)[:-1])
    parts = dict(zip((*SIZES, "test"), drawn, strict=True))
    return parts if tuning else {**parts, "test": test}


def _problem(
    features: Tensor, rows: dict[str, NDArray[np.int64]], labels: dict[str, NDArray[np.int64]], classes: int
) -> Problem:
    train = features[torch.from_numpy(rows["train"]), 0]
    mean, std = train.mean(0), train.std(0).clamp_min(1e-6)
    parts = {
        name: TensorData(
            input=(features[torch.from_numpy(own), 0] - mean) / std, label=torch.from_numpy(labels[name][own].copy())
        )
        for name, own in rows.items()
    }
    return Problem(classes, parts, rows)
