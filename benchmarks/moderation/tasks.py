"""The tasks of the moderation table: digit posters, a shop's photographs, what people called CIFAR-100's images, and pets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.laptop.encoder import cifar_encoder, shop_encoder
from benchmarks.moderation.products import (
    OTHER_RESTRICTED,
    RESTRICTED,
    article_types,
    copy_groups,
    groups_of_photographs,
    product_photographs,
    without_copies,
)
from tutelage.data.cifar import read_cifar
from tutelage.data.pets import oxford_pets
from tutelage.data.posters import annotated
from tutelage.data.table import ImageArray, ImageTable
from tutelage.recipes.base import Scale
from tutelage.recipes.moderation.task import ModerationTask, posters_task

NOISES = ("uniform noise", "structured noise")
PRODUCTS, OTHERS, ALL = "product photographs", "other products", "all product photographs"
PEOPLE, DRAWN, PETS = "CIFAR-100N, people's labels", "CIFAR-10N, people's labels, four kinds drawn", "pets"
EVERY = 10**9  # more photographs than there are
# All that the shop has of the restricted types, of look-alikes and of other categories.
ALL_PARTS: dict[str, Any] = {
    "train": (2_900, 7_000),
    "validation": (850, 2_000),
    "test": (1_800, 5_100),
    "unlabelled": 11_700,
}
FEW: dict[str, dict[str, Any]] = {
    "products, 150 labels": {"train": (30, 70), "validation": (15, 35), "unlabelled": 1_000},
    "products, 500 labels": {"train": (100, 230), "validation": (50, 120), "unlabelled": 1_000},
}
DANGEROUS = ("bear", "crocodile", "mushroom", "rocket", "shark", "snake", "spider", "tank", "tiger", "wolf")
PEOPLE_PARTS = {"train": 12_000, "validation": 6_000, "unlabelled": 4_000}
DRAWN_PARTS = {"train": 3_000, "validation": 1_500, "unlabelled": 2_000}
DOGS_AND_CATS = {"train": 240, "validation": 160, "test": 200}
FORBIDDEN_BREEDS = [0, 2]  # a cat's and a dog's: two sub-tasks


@dataclass(frozen=True)
class TaskOf:
    """A task of the laptop scale.

    Attributes:
        name: for people.
        make: from the folder of the data sets, a seed and the images' side in pixels to the task.
        encoder: from the folders of the data sets and of runs to that of an encoder, which has not seen the task's classes.
        noise: one of `NOISES`, or None for labels that people gave.
    """

    name: str
    make: Callable[[Path, int, int], ModerationTask]
    encoder: Callable[[Path, Path], Path]
    noise: str | None

    @property
    def title(self) -> str:
        """The task's name in the table."""
        return self.name if self.noise is None else f"{self.name}, {self.noise}"


def products_task(
    folder: Path,
    seed: int,
    noise: str = "uniform",
    image_size: int = 24,
    max_rows: int | None = None,
    others: bool = False,
    name: str | None = None,
    **parts: Any,
) -> ModerationTask:
    """Return product photographs, and the article types of no split for encoders to start on.

    The test has no near-copy of what is learned from. ``others`` restricts other types of article: a second task. ``parts`` are
    the numbers of photographs, as `product_photographs` takes them.
    """
    size = (image_size, image_size)
    types = OTHER_RESTRICTED if others else RESTRICTED
    images = product_photographs(folder, seed, noise, size=size, max_rows=max_rows, restricted=types, **parts)
    images = without_copies(images, groups_of_photographs(str(folder), tuple(images.table["id"]), size))
    return ModerationTask(
        f"{name or (OTHERS if others else PRODUCTS)}, {noise} noise",
        "products",
        images,
        noise,
        pretraining=lambda: article_types(folder, 0, size=size, examples=12_000),
    )


def people_task(folder: Path, seed: int, image_size: int = 32) -> ModerationTask:
    """Return CIFAR-100 with ten of its classes forbidden, and the labels that people gave (CIFAR-100N).

    A training image is labelled defective if the one person who looked at it named a forbidden class: nobody drew these errors.
    Images of training, validation and unlabelled ones are drawn by the seed, the test is CIFAR's own.

    Args:
        folder: of CIFAR-100; see `read_cifar`.
        seed: of what is drawn.
        image_size: side in pixels.
    """
    images, names = read_cifar("cifar100", folder, size=image_size)
    forbidden = [names["label"].index(name) for name in DANGEROUS]
    parts = _drawn_of_cifar(images, PEOPLE_PARTS, np.random.default_rng([seed, 21]))
    return _task(PEOPLE, images, parts, forbidden, seed, people="noisy_label")


def drawn_task(folder: Path, seed: int, image_size: int = 32) -> ModerationTask:
    """Return CIFAR-10 with four kinds forbidden that the seed draws, and labels of the worst of three people (CIFAR-10N).

    Every seed is another policy, so that no choice can have been made for it. Arguments as in `people_task`.
    """
    images, names = read_cifar("cifar10", folder, size=image_size)
    rng = np.random.default_rng([seed, 24])
    forbidden = rng.permutation(len(names["label"]))[:4].tolist()
    parts = _drawn_of_cifar(images, DRAWN_PARTS, rng)
    return _task(DRAWN, images, parts, forbidden, seed, people="worse_label")


def pets_task(folder: Path, seed: int, image_size: int = 48) -> ModerationTask:
    """Return the photographs of three breeds, a cat's and a dog's of which are forbidden: 240 to learn from, 200 for the test.

    A fifth of the labels is wrong.
    """
    images = oxford_pets(folder, image_size)
    parts = _drawn(np.random.default_rng([seed, 22]).permutation(len(images)), DOGS_AND_CATS)
    return _task(f"{PETS}, uniform noise", images, parts, FORBIDDEN_BREEDS, seed)


def _drawn_of_cifar(images: ImageTable, counts: dict[str, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
    known = (images.table["split"] == "unassigned").to_numpy()
    return _drawn(rng.permutation(np.flatnonzero(known)), counts) | {"test": np.flatnonzero(~known)}


def _drawn(rows: np.ndarray, counts: dict[str, int]) -> dict[str, np.ndarray]:
    ends = np.cumsum(list(counts.values()))
    return dict(zip(counts, np.split(rows[: ends[-1]], ends[:-1]), strict=True))


def _task(
    title: str,
    images: ImageTable,
    parts: dict[str, np.ndarray],
    forbidden: list[int],
    seed: int,
    *,
    people: str | None = None,
) -> ModerationTask:
    """Return these images as a moderation task: labels by the classes in a column of people's, or a fifth wrong at random."""
    noise = "uniform" if people is None else "none"
    rows = np.concatenate(list(parts.values()))
    classes = images.labels.numpy()[rows]
    table = pd.DataFrame({"id": images.table["id"].to_numpy()[rows]})
    table["split"] = np.repeat(list(parts), [len(part) for part in parts.values()])
    table["true_subtask"] = [forbidden.index(each) if each in forbidden else -1 for each in classes]
    table["true_label"] = (table["true_subtask"] < 0).astype(int)
    table = annotated(table, (table["true_label"] == 1).to_numpy(), noise, 0.2, seed)
    if people is not None:
        learned = ~table["split"].isin(["test", "unlabelled"]).to_numpy()
        named = images.table[people].to_numpy()[rows[learned]]
        table.loc[learned, "label"] = (~np.isin(named, forbidden)).astype(int)
    drawn = ImageTable(ImageArray(images.images.gather(rows.tolist())), table)
    return ModerationTask(title, title, without_copies(drawn, copy_groups(drawn.images)), noise)


def tasks(scale: Scale, data: Path | None, seed: int, size: int) -> list[ModerationTask]:
    """Return the tasks of one seed: posters, and products where their folder is given, each with both kinds of noise."""
    noises = ("uniform", "structured")
    made = [posters_task(seed, noise, size) for noise in noises]
    if data is not None:
        most = EVERY if scale == "paper" else None
        made += [products_task(data / "fashion-products", seed, noise, size, most) for noise in noises]
    return made


def _products(noise: str, **how: Any) -> Callable[[Path, int, int], ModerationTask]:
    return lambda data, seed, size: products_task(data / "fashion-products", seed, noise, size, **how)


LAPTOP_TASKS = (
    *(
        TaskOf(name, _products(noise.split()[0], **how), shop_encoder, noise)
        for name, how in ((PRODUCTS, {}), (OTHERS, {"others": True}), (ALL, {"name": ALL, **ALL_PARTS}))
        for noise in NOISES
    ),
    *(TaskOf(name, _products("uniform", name=name, **parts), shop_encoder, NOISES[0]) for name, parts in FEW.items()),
    TaskOf(
        PEOPLE,
        lambda data, seed, size: people_task(data / "cifar100", seed, size),
        partial(cifar_encoder, name="cifar10"),
        None,
    ),
    TaskOf(DRAWN, lambda data, seed, size: drawn_task(data / "cifar10", seed, size), cifar_encoder, None),
    TaskOf(PETS, lambda data, seed, size: pets_task(data / "pets", seed, size), cifar_encoder, NOISES[0]),
)
