"""Where problems come from: built-in digits, sets in their own layouts, and any table."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from tutelage.data import TensorData
from tutelage.data.cifar import PEOPLE_AND_OTHERS, read_groups
from tutelage.data.cub import cub_200
from tutelage.data.drawn import PARTS, draw_parts
from tutelage.data.label_columns import read_label_columns
from tutelage.data.nyuv2 import nyuv2_rooms
from tutelage.data.pets import oxford_pets
from tutelage.data.problems import Problems
from tutelage.data.products import product_attributes
from tutelage.data.quarters import in_quarters
from tutelage.data.ratings import Ratings, movielens, ratings_csv
from tutelage.data.read_once import MEMORY, read_once
from tutelage.data.table import ImageArray, ImageFiles, ImageTable
from tutelage.recipes.auxiliary.settings import AuxiliarySettings, TaskSpec, declared
from tutelage.recipes.auxiliary.task import LEAST, AuxiliaryTask, present
from tutelage.recipes.encoding import given_features
from tutelage.recipes.input import input_size

L2 = TaskSpec("l2", "l2", weight=1e-3)  # the factor of MAOAL's released program
Source = Callable[[Path, AuxiliarySettings], AuxiliaryTask]


def digits_task(settings: AuxiliarySettings, sides: Sequence[TaskSpec] | None = None) -> AuxiliaryTask:
    """Return scikit-learn's handwritten digits: which digit, beside it its parity, whether it is 5 or more, and two more.

    The further side tasks are the rotation, and ``arbitrary``: ten classes drawn at random, from which nothing can be learned
    but by heart. The file lists one writer after another, so that its last quarter, the test part, has other hands.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    gray = torch.from_numpy(found.images).float()[:, None] * (255 / 16)
    size = (input_size(settings),) * 2
    images = (
        F.interpolate(gray, size=size, mode="bilinear", align_corners=False)
        .round()
        .to(torch.uint8)
        .expand(-1, 3, -1, -1)
    )
    digit = torch.from_numpy(found.target.astype(np.int64))
    arbitrary = torch.randint(0, 10, (len(digit),), generator=torch.Generator().manual_seed(settings.seed))
    labels = {"digit": digit, "parity": digit % 2, "high": (digit >= 5).long(), "arbitrary": arbitrary}
    labels["mistaken"] = (digit + 1) % 10
    split = np.where(np.arange(len(digit)) < 3 * len(digit) // 4, "train", "test")
    ids = [f"digit-{row:04d}" for row in range(len(digit))]
    split = draw_parts(split, settings.shares.parts, settings.seed)
    table = pd.DataFrame({"id": ids, "label": digit.numpy(), "split": split})
    declared = (TaskSpec("parity"), TaskSpec("high"), TaskSpec("rotation", "rotation"), TaskSpec("arbitrary"))
    return AuxiliaryTask(
        "handwritten digits",
        TaskSpec("digit"),
        declared if sides is None else tuple(sides),
        None,
        labels,
        split,
        ids=ids,
        images=ImageTable(ImageArray(images.contiguous()), table),
    )


def ratings_task(ratings: Ratings, settings: AuxiliarySettings, title: str = "ratings") -> AuxiliaryTask:
    """Return the prediction of ratings, with L2 regularisation as the auxiliary loss."""
    return AuxiliaryTask(
        title,
        TaskSpec("rating", "regression"),
        (L2,),
        TensorData(input=ratings.fields),
        {"rating": ratings.rating},
        draw_parts([""] * len(ratings), settings.shares.parts, settings.seed),
        fields=ratings.sizes,
    )


def movielens_task(folder: Path, settings: AuxiliarySettings, users: int | None = None) -> AuxiliaryTask:
    """Return MovieLens-1M without the threes, as MAOAL's authors run it, or the ratings of some of its users."""
    title = "MovieLens-1M" if users is None else f"MovieLens-1M, {users} users"
    return ratings_task(movielens(folder, users=users, seed=settings.seed), settings, title)


def images_task(
    title: str, table: ImageTable, primary: TaskSpec, sides: Sequence[TaskSpec], settings: AuxiliarySettings
) -> AuxiliaryTask:
    """Return a problem of an image table whose columns are classes, -1 where absent; unreadable images are left out."""
    problems = Problems()
    if isinstance(table.images, ImageFiles):
        images, readable, _ = read_once(
            table.images, table.table["id"], MEMORY, problems, settings.hardware.cache_bytes
        )
        table = ImageTable(images, table.table[readable])
    columns = [task.target for task in (primary, *sides) if task.kind == "classification" and task.target]
    labels = {name: torch.from_numpy(table.table[name].to_numpy(np.int64, copy=True)) for name in columns}
    split = draw_parts(
        table.table["split"].to_numpy(), settings.shares.parts, settings.seed, labels[primary.target or ""] >= 0
    )
    ids = table.table["id"].astype(str).tolist()
    return AuxiliaryTask(
        title,
        primary,
        tuple(sides),
        None,
        labels,
        split,
        ids=ids,
        problems=problems,
        images=parted(table, split),
    )


def parted(table: ImageTable, split: np.ndarray) -> ImageTable:
    """Return a table with the parts of a problem, over whose training part an encoder's features are standardised."""
    return table.with_split(np.where(np.isin(split, PARTS), split, "left_out"))


def turnable(problem: AuxiliaryTask, settings: AuxiliarySettings) -> AuxiliaryTask:
    """Return a problem whose images are there in all four turns where a rotation is predicted from an encoder's features."""
    rotates = any(task.kind == "rotation" for task in problem.sides)
    if not rotates or not settings.encoder.used or problem.images is None:
        return problem
    if settings.encoder.features is not None:
        raise ValueError("a side task of kind 'rotation' turns images, and the features are given; leave it out")
    return replace(problem, images=in_quarters(problem.images))


def products_task(folder: Path, settings: AuxiliarySettings, max_rows: int | None = None) -> AuxiliaryTask:
    """Return product photographs: the article type, beside it colour, season and gender."""
    size = (input_size(settings),) * 2
    table = product_attributes(folder, settings.seed, size, max_rows=max_rows)
    sides = (TaskSpec("colour"), TaskSpec("season"), TaskSpec("gender"))
    return images_task("product photographs", table, TaskSpec("article", column="label"), sides, settings)


def pets_task(folder: Path, settings: AuxiliarySettings) -> AuxiliaryTask:
    """Return breeds of pets, with rotation prediction."""
    table = oxford_pets(folder, input_size(settings))
    return images_task("pets", table, TaskSpec("breed", column="label"), (TaskSpec("rotation", "rotation"),), settings)


def birds_task(folder: Path, settings: AuxiliarySettings) -> AuxiliaryTask:
    """Return species of birds, with the colour of the wing and the shape of the bill."""
    sides = (TaskSpec("wing", column="has_wing_color"), TaskSpec("bill", column="has_bill_shape"))
    table = cub_200(folder, input_size(settings))
    return images_task("CUB-200-2011", table, TaskSpec("species", column="label"), sides, settings)


def people_task(folder: Path, settings: AuxiliarySettings, train: int | None = None) -> AuxiliaryTask:
    """Return MAOAL's CIFAR-100/20: which person, beside it the five classes of each of ten other super-classes.

    An image has the label of its own super-class's task and of no other's.

    Args:
        folder: holds CIFAR-100, see `tutelage.data.cifar.read_cifar`.
        settings: image size, parts and seed.
        train: a random sample of so many training images of the 55 classes; all by default.
    """
    table, labels = read_groups(folder, train=train, size=input_size(settings), seed=settings.seed)
    split = draw_parts(table.table["split"].to_numpy(), settings.shares.parts, settings.seed, labels["people"] >= 0)
    split[(split == "test") & (labels["people"] < 0).numpy()] = "unused"  # they could judge nothing
    people, *sides = (TaskSpec(group) for group in PEOPLE_AND_OTHERS)
    return AuxiliaryTask(
        "CIFAR-100 people",
        people,
        tuple(sides),
        None,
        labels,
        split,
        classes={"people": list(PEOPLE_AND_OTHERS["people"])},
        images=parted(table, split),
    )


def rooms_task(folder: Path, settings: AuxiliarySettings) -> AuxiliaryTask:
    """Return rooms: the class of each pixel, beside it depth and normals; 72 x 96 pixels whatever ``image_size`` says."""
    rooms = nyuv2_rooms(folder)
    return AuxiliaryTask(
        "NYUv2",
        TaskSpec("segmentation", "segmentation"),
        (TaskSpec("depth", "map"), TaskSpec("normals", "normals")),
        TensorData(input=rooms.images),
        {"segmentation": rooms.segmentation, "depth": rooms.depth, "normals": rooms.normals},
        draw_parts(rooms.split, settings.shares.parts, settings.seed),
    )


def table_task(
    path: Path,
    primary: TaskSpec,
    sides: Sequence[TaskSpec],
    settings: AuxiliarySettings,
    fields: Sequence[str] = (),
    out: Path | None = None,
) -> AuxiliaryTask:
    """Return a problem of one's own table: images by their paths, or fields.

    Raises:
        ValueError: a task whose labels a table cannot hold, a column that is missing, or too few examples left; then
            ``problems.csv`` is in the folder ``out``, where that is given.
    """
    tasks = (primary, *sides)
    for task in tasks:
        if task.kind in ("segmentation", "map", "normals"):
            raise ValueError(
                f"task {task.name!r} of kind {task.kind!r} needs a map for each example, which no table holds"
            )

    def columns(kind: str) -> list[str]:
        return sorted({task.target for task in tasks if task.kind == kind and task.target})

    found = read_label_columns(
        path,
        classes=columns("classification"),
        numbers=columns("regression"),
        fields=fields,
        size=0 if fields else input_size(settings),
        cache_bytes=settings.hardware.cache_bytes,
        features=given_features(settings),
    )
    with found.problems.written_on_error(out):
        found.problems.require(len(found.id), len(PARTS) * LEAST)
    known = present(primary, found.labels[primary.target or ""])
    split = draw_parts(found.split, settings.shares.parts, settings.seed, known)
    images = found.images
    return AuxiliaryTask(
        path.stem,
        primary,
        tuple(sides),
        found.examples() if images is None else None,
        found.labels,
        split,
        fields=() if found.codes is None else found.codes.sizes,
        classes=found.classes,
        codes=found.codes,
        ids=found.id,
        standardised=True,
        problems=found.problems,
        images=None if images is None else parted(images, split),
    )


SOURCES: dict[str, Source] = {
    "people": people_task,
    "movielens": movielens_task,
    "products": products_task,
    "pets": pets_task,
    "birds": birds_task,
    "rooms": rooms_task,
    "ratings": lambda path, settings: replace(ratings_task(ratings_csv(path), settings, path.stem), standardised=True),
}
"""Problems in a layout of their own, by name."""


FOLDERS = {"movielens": "ml-1m", "people": "cifar100", "pets": "pets", "products": "fashion-products", "rooms": "nyuv2"}
"""Where a named set lies in the folder that TUTELAGE_DATA names."""


def auxiliary_task(
    data: str,
    settings: AuxiliarySettings,
    *,
    folder: Path | None = None,
    primary: dict[str, Any] | None = None,
    sides: tuple[dict[str, Any], ...] | None = None,
    fields: tuple[str, ...] = (),
    out: Path | None = None,
) -> AuxiliaryTask:
    """Read a named data set or a table, with the tasks that are declared.

    Args:
        data: digits (built in), movielens, ratings, products, people (of CIFAR-100), pets, birds, rooms, or a table's path.
        settings: Image size, parts and seed.
        folder: Folder of a named set; by default its folder inside TUTELAGE_DATA.
        primary: Primary task: name, kind (classification, regression, segmentation), column. A named set has its own.
        sides: Auxiliary tasks, a list such as [{name: colour}, {name: turned, kind: rotation}]; the keys are name, kind,
            column, weight and head; further kinds are map, normals, rotation and l2. A named set has its own.
        fields: For a table: columns to use as input; by default the images in its column image. A column with more than 20
            different numbers is read as a number (whole numbers that occur ten times each also as names), any other as names;
            names not seen in training are answered as unknown. NAME:number or NAME:name says how to read one.
        out: Folder in which problems.csv is written if the table cannot be worked on.

    Raises:
        ValueError: what is missing or too much.
    """
    known = None if primary is None else declared(primary)
    others = None if sides is None else tuple(declared(side) for side in sides)
    if folder is None and data in FOLDERS and "TUTELAGE_DATA" in os.environ:
        folder = Path(os.environ["TUTELAGE_DATA"]) / FOLDERS[data]
    if data == "digits":
        problem = digits_task(settings)
    elif data in SOURCES:
        if folder is None:
            raise ValueError(f"data={data!r} is read from files; give folder, where they lie")
        problem = SOURCES[data](folder, settings)
    elif Path(data).suffix.lower() in (".csv", ".tsv", ".parquet", ".pq"):
        if known is None or others is None:
            raise ValueError(f"data={data!r} is a table of your own; declare its primary task and its sides")
        return turnable(table_task(Path(data), known, others, settings, fields, out), settings)
    else:
        raise ValueError(f"data={data!r} is no table and no known set; known: digits, {', '.join(SOURCES)}")
    problem = replace(problem, primary=known or problem.primary, sides=problem.sides if others is None else others)
    return turnable(problem, settings)
