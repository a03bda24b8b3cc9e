"""Digit posters: a small moderation task made of scikit-learn's handwritten digits, without any download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tutelage.data.images import resized
from tutelage.data.table import ImageArray, ImageTable

CELL = 8  # pixels along the side of a digit
GRID = 3  # cells along the side of a poster
# The file lists one writer after another, so contiguous blocks share no digit and (but for the writer at a border) no hand.
BLOCKS = {"train": (0.0, 0.6), "validation": (0.6, 0.75), "test": (0.75, 1.0)}
VALIDATION_PARTS = {"teacher_val": 0.2, "teacher_test": 0.2, "student_val": 0.6}  # the paper's Table 1


def digit_posters(
    seed: int = 0,
    noise: str = "uniform",
    noise_rate: float = 0.2,
    size: int = GRID * CELL,
    forbidden: Sequence[int] = (2, 3, 5, 7, 9),
    look_alike: int = 4,
    train: tuple[int, int] = (600, 3000),
    validation: tuple[int, int] = (400, 2000),
    test: tuple[int, int] = (800, 4000),
    unlabelled: int = 4000,
) -> ImageTable:
    """Return posters of handwritten digits in a 3 x 3 grid, some of which the policy forbids.

    A poster shows one digit two to five times, each drawn anew from the file, among up to two stray permitted ones.
    It is defective if that digit is forbidden: the digit is its hidden sub-task. Half of the acceptable posters show the
    permitted `look_alike`. The moderator's `label` is wrong for a share of the train and validation parts
    (see `annotated`) and right in the test part; `true_label` and `true_subtask` are for evaluation only. The images
    depend on the seed alone, so two kinds of noise differ in nothing but their labels. Unlabelled posters are near
    the domain: emptier or fuller, in stronger colours, one in ten defective, the look-alike no more frequent than others.

    Args:
        seed: of everything that is drawn.
        noise: "uniform" or "structured" (an annotator who takes the look-alike for a forbidden digit).
        noise_rate: share of the labels that are wrong.
        size: pixels along the side; 24 is the natural size.
        forbidden, look_alike: digits.
        train, validation, test: numbers of (defective, acceptable) posters.
        unlabelled: number of near-domain posters.

    Raises:
        ValueError: a look-alike that is forbidden, or noise that cannot be drawn.
    """
    _check_digits(forbidden, look_alike)
    rng = np.random.default_rng([seed, 1])
    others = _others(forbidden, look_alike)
    parts: list[tuple[np.ndarray, pd.DataFrame]] = []
    for block, (defective, acceptable) in {"train": train, "validation": validation, "test": test}.items():
        subtask = np.full(defective + acceptable, -1)
        subtask[:defective] = np.resize(np.asarray(forbidden), defective)
        rng.shuffle(subtask)
        theme = _themes(subtask, forbidden, look_alike, rng)
        digits_NG = _compose(theme, others, copies=(2, 5), strays=(0, 2), rng=rng)
        images = _draw(digits_NG, _digits(block), rng, tint=0.15)
        table = pd.DataFrame({"true_subtask": subtask, "theme": theme})
        table["split"] = block
        parts.append((images, table))
    subtask = np.where(rng.random(unlabelled) < 0.1, rng.choice(np.asarray(forbidden), unlabelled), -1)
    theme = np.where(subtask >= 0, subtask, rng.choice(np.setdiff1d(np.arange(10), forbidden), unlabelled))
    digits_NG = _compose(theme, others, copies=(1, 6), strays=(0, 3), rng=rng)
    table = pd.DataFrame({"true_subtask": subtask, "theme": theme, "split": "unlabelled"})
    parts.append((_draw(digits_NG, _digits("train"), rng, tint=0.4), table))
    table = pd.concat([table for _, table in parts], ignore_index=True)
    table["true_label"] = (table["true_subtask"] < 0).astype(int)
    table = annotated(table, table.pop("theme").to_numpy() == look_alike, noise, noise_rate, seed)
    table.insert(0, "id", [f"poster-{i}" for i in range(len(table))])
    images_NCHW = torch.from_numpy(np.concatenate([drawn for drawn, _ in parts]))
    return ImageTable(ImageArray(resized(images_NCHW, size)), table)


def permitted_digits(
    seed: int = 0,
    size: int = GRID * CELL,
    forbidden: Sequence[int] = (2, 3, 5, 7, 9),
    examples: int = 6000,
) -> tuple[Tensor, Tensor]:
    """Return posters without any forbidden digit, and the digit that each shows: a pre-training task, in place of ImageNet.

    It says nothing about what the policy forbids; its digits are those of the train block.

    Returns:
        uint8 images (N, 3, size, size), and int64 labels (N,), the digit's place among the permitted ones, ascending.
    """
    rng = np.random.default_rng([seed, 2])
    permitted = np.setdiff1d(np.arange(10), forbidden)
    labels = rng.integers(len(permitted), size=examples)
    digits_NG = _compose(permitted[labels], permitted, copies=(2, 5), strays=(0, 2), rng=rng)
    images = torch.from_numpy(_draw(digits_NG, _digits("train"), rng, tint=0.4))
    return resized(images, size), torch.from_numpy(labels)


def annotated(
    table: pd.DataFrame, looks_restricted: np.ndarray, noise: str, noise_rate: float, seed: int
) -> pd.DataFrame:
    """Return the table with a moderator's `label`, wrong in the train and validation parts, and the paper's validation parts.

    "uniform": `noise_rate` of the defective and of the acceptable examples of either part have the other label.
    "structured": as many labels are wrong, but all of them belong to acceptable examples that `looks_restricted` marks,
    which one of several annotators takes for restricted. The effective rates are in `result.attrs["noise"]`: by part,
    the share of wrong labels among all, among those labelled defective and among those labelled acceptable.

    Args:
        table: one row per example, with `split` (train, validation, test, unlabelled) and `true_label` (0 or 1).
        looks_restricted: (N,) bool.
        noise: "uniform", "structured" or "none".
        noise_rate: share of the labels that are wrong.
        seed: of the draw.

    Raises:
        ValueError: an unknown noise, a rate outside [0, 0.5), or fewer look-alikes than wrong labels.
    """
    if noise not in ("uniform", "structured", "none"):
        raise ValueError(f"noise={noise!r}: expected 'uniform', 'structured' or 'none'")
    if not 0 <= noise_rate < 0.5:
        raise ValueError(f"noise_rate={noise_rate}: expected a share in [0, 0.5)")
    rng = np.random.default_rng([seed, 3])
    table = table.copy()
    split, truth = table["split"].to_numpy(dtype=object), table["true_label"].to_numpy()
    label, rates = truth.copy(), {}
    for part in ("train", "validation"):
        rows = np.flatnonzero(split == part)
        if noise == "uniform":
            wrong = np.concatenate([_share(rows[truth[rows] == c], noise_rate, rng) for c in (0, 1)])
        elif noise == "structured":
            mistaken = rows[(truth[rows] == 1) & looks_restricted[rows]]
            count = round(noise_rate * len(rows))
            if count > len(mistaken):
                raise ValueError(
                    f"noise_rate={noise_rate} asks for {count} wrong labels in the {part} part, which holds only "
                    f"{len(mistaken)} acceptable look-alikes: lower the rate"
                )
            wrong = rng.permutation(mistaken)[:count]
        else:
            wrong = rows[:0]
        label[wrong] = 1 - label[wrong]
        is_wrong = label[rows] != truth[rows]
        rates[part] = {
            "all": float(is_wrong.mean()),
            "labelled_defective": float(is_wrong[label[rows] == 0].mean()),
            "labelled_acceptable": float(is_wrong[label[rows] == 1].mean()),
        }
    label[split == "unlabelled"] = -1
    rows = np.flatnonzero(split == "validation")
    for c in (0, 1):  # stratified by the label that a moderator would see
        of_class = rng.permutation(rows[label[rows] == c])
        ends = np.rint(np.cumsum(list(VALIDATION_PARTS.values())) * len(of_class)).astype(int)
        for name, some in zip(VALIDATION_PARTS, np.split(of_class, ends[:-1]), strict=True):
            split[some] = name
    table["label"], table["split"] = label, split
    table.attrs["noise"] = rates
    return table


def _share(rows: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(rows)[: round(share * len(rows))]


def _check_digits(forbidden: Sequence[int], look_alike: int) -> None:
    if not set(forbidden) <= set(range(10)) or not 1 <= len(set(forbidden)) == len(forbidden) <= 8:
        raise ValueError(f"forbidden={tuple(forbidden)}: expected one to eight different digits")
    if look_alike not in range(10) or look_alike in forbidden:
        raise ValueError(f"look_alike={look_alike}: expected a digit that is not forbidden")


def _digits(block: str) -> dict[int, np.ndarray]:
    """Return a block's handwritten digits by class: uint8 arrays (n, 8, 8)."""
    from sklearn.datasets import load_digits

    source = load_digits()
    start, end = (round(at * len(source.target)) for at in BLOCKS[block])
    images, target = source.images[start:end], source.target[start:end]
    return {digit: (images[target == digit] * (255 / 16)).astype(np.uint8) for digit in range(10)}


def _themes(subtask: np.ndarray, forbidden: Sequence[int], look_alike: int, rng: np.random.Generator) -> np.ndarray:
    """Each poster's digit: the forbidden one, or the look-alike in half of the acceptable posters, or another."""
    theme = np.where(subtask >= 0, subtask, rng.choice(_others(forbidden, look_alike), len(subtask)))
    acceptable = np.flatnonzero(subtask < 0)
    theme[rng.permutation(acceptable)[: len(acceptable) // 2]] = look_alike
    return theme


def _others(forbidden: Sequence[int], look_alike: int) -> np.ndarray:
    return np.setdiff1d(np.arange(10), [*forbidden, look_alike])


def _compose(
    theme: np.ndarray, clutter: np.ndarray, copies: tuple[int, int], strays: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Digits of each poster's cells (N, 9), -1 where empty: its theme, repeated, and stray digits out of `clutter`."""
    shape = len(theme), GRID * GRID
    n_theme = rng.integers(copies[0], copies[1] + 1, (len(theme), 1))
    n_stray = rng.integers(strays[0], strays[1] + 1, (len(theme), 1))
    order_NG = rng.random(shape).argsort(axis=1)
    digits_NG = np.where(order_NG < n_theme, theme[:, None], rng.choice(clutter, shape))
    return np.where(order_NG < n_theme + n_stray, digits_NG, -1)


def _draw(digits_NG: np.ndarray, source: dict[int, np.ndarray], rng: np.random.Generator, tint: float) -> np.ndarray:
    """Return posters (N, 3, 24, 24): a tinted, grainy ground, and each digit in its cell, moved sideways by up to a pixel."""
    examples = len(digits_NG)
    ink = np.zeros((examples, GRID * GRID, CELL, CELL), dtype=np.float32)
    for digit, images in source.items():
        at = np.nonzero(digits_NG == digit)
        drawn = images[rng.integers(len(images), size=len(at[0]))].astype(np.float32) / 255
        shift = rng.integers(-1, 2, len(drawn))
        padded = np.pad(drawn, ((0, 0), (0, 0), (1, 1)))
        columns = np.arange(CELL) + 1 + shift[:, None]
        ink[at] = np.take_along_axis(padded, columns[:, None, :].repeat(CELL, axis=1), axis=2)
    side = GRID * CELL
    ink = ink.reshape(examples, GRID, GRID, CELL, CELL).swapaxes(2, 3).reshape(examples, 1, side, side)
    ground = tint * rng.random((examples, 3, 1, 1), dtype=np.float32)
    colour = 1 - tint * rng.random((examples, 3, 1, 1), dtype=np.float32)
    grain = rng.normal(0, 0.06, (examples, 1, side, side)).astype(np.float32)
    return np.rint(255 * np.clip(ground + (colour - ground) * ink + grain, 0, 1)).astype(np.uint8)
