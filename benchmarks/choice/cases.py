"""The tasks of the table: those of the moderation table, and handwritten digits on which nothing here was ever tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from benchmarks.moderation.tasks import products_task
from tutelage.data.table import ImageArray, ImageTable
from tutelage.recipes.moderation.task import ModerationTask, posters_task

FORBIDDEN = (2, 3, 5, 7)
DIGITS = "handwritten digits, four of ten forbidden"


def digits_task(
    folder: Path, seed: int, noise: float = 0.2, train: int = 2000, val: int = 500, test: int = 2000
) -> ModerationTask:
    """Return MNIST as a user's data: ten kinds, four forbidden, no encoder to start from, wrong labels but in the test.

    Raises:
        FileNotFoundError: there is no ``mnist/mnist.npz`` in the folder.
    """
    path = folder / "mnist" / "mnist.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    with np.load(path) as stored:
        rng = np.random.default_rng([seed, 9])
        rows = rng.permutation(len(stored["y_train"]))[: train + val + test]
        pixels, digit = torch.from_numpy(stored["x_train"][rows]), stored["y_train"][rows].astype(np.int64)
    images = F.interpolate(pixels[:, None].float(), size=(24, 24), mode="bilinear", antialias=True)
    forbidden = np.isin(digit, FORBIDDEN)
    parts = {"train": train, "teacher_val": val // 5, "teacher_test": val // 5, "student_val": val - 2 * (val // 5)}
    split = np.repeat([*parts, "test"], [*parts.values(), test]).astype(object)
    truth = (~forbidden).astype(np.int64)
    wrong = (rng.random(len(truth)) < noise) & (split != "test")
    table = pd.DataFrame(
        {
            "id": [str(number) for number in range(len(truth))],
            "split": split,
            "label": np.where(wrong, 1 - truth, truth),
            "true_label": truth,
            "true_subtask": np.where(forbidden, digit, -1),
        }
    )
    shown = images.round().clamp(0, 255).to(torch.uint8).repeat(1, 3, 1, 1)
    return ModerationTask(DIGITS, "digits", ImageTable(ImageArray(shown), table), "uniform")


def cases(data: Path | None) -> Iterator[tuple[str, Callable[[int], ModerationTask]]]:
    """Yield each case's name, and what makes it of a seed; without a folder of data the posters alone."""
    if data is not None:
        yield DIGITS, lambda seed: digits_task(data, seed)
    for noise in ("uniform", "structured"):
        yield f"digit posters, {noise} noise", partial(posters_task, noise=noise)
    if data is not None:
        for noise in ("uniform", "structured"):
            yield (
                f"product photographs, {noise} noise",
                partial(products_task, data / "fashion-products", noise=noise),
            )
