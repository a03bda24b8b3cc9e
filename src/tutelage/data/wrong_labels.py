"""Images with wrong labels, for experiments: which kind of noise, where, and how much."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tutelage.checks import check
from tutelage.data.noise import class_conditional_noise, symmetric_noise
from tutelage.data.table import ImageTable


@dataclass(frozen=True)
class NoiseSettings:
    """Label noise, for experiments; the run reports how many labels are wrong.

    Args:
        kind: Kind of noise: symmetric (any other class), class_conditional (by a matrix), human (by annotators), or none.
        rate: Share of wrong labels; for class_conditional without a matrix, each class is mistaken for the next one.
        matrix: CSV file of C x C numbers, P(label | class), a row for each class.
        column: Column of the annotators' labels, such as worse_label of CIFAR-10N or noisy_label of CIFAR-100N.
        held_out: Add noise to the held-out and the validation part, too.
        seed: Random seed of the noise; null is the run's.
    """

    kind: Literal["none", "symmetric", "class_conditional", "human"] = "none"
    rate: float = 0.4
    matrix: Path | None = None
    column: str = "noisy_label"
    held_out: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "noise", rate="[0, 1]")


def with_wrong_labels(images: ImageTable, classes: int, noise: NoiseSettings, generator: torch.Generator) -> ImageTable:
    """Return images of which some have wrong labels; those of the test stay, and what is true stands in `true_label`.

    Raises:
        ValueError: a matrix that is none, or people's labels that the images do not have.
        FileNotFoundError: no such matrix.
    """
    if noise.kind == "none":
        return images
    table = images.table
    rows = images.rows("train", "held_out", "val") if noise.held_out else images.rows("train")
    labels = images.labels.clone()
    if noise.kind == "human":
        if noise.column not in table:
            known = sorted(set(table.columns) - {"id", "label", "split", "true_label"})
            raise ValueError(f"noise.column={noise.column!r}: people's labels here are {', '.join(known) or 'none'}")
        people = torch.from_numpy(table[noise.column].to_numpy(np.int64, copy=True))[rows]
        labels[rows] = torch.where(people >= 0, people, labels[rows])
    elif noise.kind == "symmetric":
        labels[rows] = symmetric_noise(labels[rows], noise.rate, classes, generator).labels
    else:
        labels[rows] = class_conditional_noise(labels[rows], _matrix(noise, classes), generator).labels
    true = table.get("true_label", table["label"])
    return images.with_table(table.assign(label=labels.numpy(), true_label=true))


def _matrix(noise: NoiseSettings, classes: int) -> Tensor:
    if noise.matrix is None:
        same = torch.eye(classes, dtype=torch.float64)
        return (1 - noise.rate) * same + noise.rate * same.roll(1, 1)
    if not noise.matrix.is_file():
        raise FileNotFoundError(f"noise.matrix={str(noise.matrix)!r}: there is no such file")
    try:
        matrix = torch.from_numpy(np.loadtxt(noise.matrix, delimiter=",", ndmin=2))
    except ValueError as error:
        raise ValueError(f"noise.matrix={str(noise.matrix)!r} is no CSV file of numbers: {error}") from error
    if matrix.shape != (classes, classes):
        raise ValueError(f"noise.matrix is {tuple(matrix.shape)}; give {classes} x {classes}, a row for each class")
    return matrix
