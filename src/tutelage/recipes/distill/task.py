"""What a student learns from: images, their given labels, and where it is known the truth."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tutelage.data.cars import stanford_cars
from tutelage.data.cifar import read_cifar
from tutelage.data.digits import CLASSES, handwritten_digits
from tutelage.data.drawn import PARTS, divide
from tutelage.data.duplicates import NO_DUPLICATES, drop_duplicates
from tutelage.data.fingerprint import fingerprint
from tutelage.data.manifest import Columns, read_classes
from tutelage.data.problems import Problems
from tutelage.data.table import ImageTable
from tutelage.data.wrong_labels import NoiseSettings, with_wrong_labels
from tutelage.models import load_model
from tutelage.recipes.distill.settings import DistillSettings, Shares
from tutelage.recipes.encoding import given_features
from tutelage.recipes.input import input_size
from tutelage.reports.wording import pluralise
from tutelage.training import seeds

LEAST = 8  # images in every part, under which nothing can be said


@dataclass
class DistillTask:
    """Images with their given labels, in the parts train, held_out, val and test.

    Attributes:
        title: a name for people.
        images: the image table; `true_label` stands beside `label` where it is known.
        classes: their names.
        problems: what was left out, and why.
        duplicates: the groups of near-duplicates that were found.
    """

    title: str
    images: ImageTable
    classes: tuple[str, ...]
    problems: Problems = field(default_factory=Problems)
    duplicates: pd.DataFrame = field(default_factory=NO_DUPLICATES.copy)

    @property
    def labels(self) -> Tensor:
        """The given labels, (N,)."""
        return self.images.labels

    @property
    def truth(self) -> Tensor | None:
        """The true labels, (N,), where they are known; for evaluation only."""
        table = self.images.table
        return torch.from_numpy(table["true_label"].to_numpy(np.int64, copy=True)) if "true_label" in table else None

    def rows(self, *splits: str) -> Tensor:
        """Return the rows of these splits, ascending."""
        return self.images.rows(*splits)

    def judged_by(self) -> Tensor:
        """Return the labels that the test is judged by, (N,): the true ones where they are known."""
        return self.labels if self.truth is None else self.truth

    def fingerprint(self) -> str:
        """Return a hash of what training sees: images, ids, labels and parts."""
        return fingerprint(self.images, self.classes)


def distill_task(
    data: str,
    settings: DistillSettings,
    *,
    folder: Path | None = None,
    columns: Columns = Columns(),
    train_images: int | None = None,
    test_images: int | None = None,
    classes: tuple[str, ...] | None = None,
    out: Path | None = None,
) -> DistillTask:
    """Read labelled images, drop duplicates, divide them, and add label noise where the settings ask for it.

    Args:
        data: digits (built in), cifar10, cifar100, cars (Stanford's), a CSV or Parquet table of image and label, or a folder
            with a subfolder for each class.
        settings: Image size, division and noise.
        folder: Folder of their files; by default inside TUTELAGE_DATA.
        columns: Names of a manifest's columns.
        train_images: For CIFAR: number of training images, a random sample; null takes all.
        test_images: For CIFAR: number of test images, a random sample; null takes all.
        classes: For CIFAR: names of the classes to use; null takes all.
        out: Folder in which problems.csv is written if the task cannot be worked on.

    Raises:
        FileNotFoundError, ValueError: the data cannot be read, or too little is left.
    """
    problems, duplicates = Problems(), NO_DUPLICATES
    for teacher in settings.teachers:
        if teacher.folder is not None:
            load_model(teacher.folder)  # which tells at once whether there is one
    names: Sequence[str]
    if data in ("cifar10", "cifar100", "cars"):
        if folder is None and "TUTELAGE_DATA" not in os.environ:
            raise FileNotFoundError(f"data={data!r} needs the folder of its files: give folder, or set TUTELAGE_DATA")
        folder = folder or Path(os.environ["TUTELAGE_DATA"]) / data
    if data == "digits":
        images, names = handwritten_digits(), CLASSES
        if settings.image_size != images.images[0].shape[-1]:
            raise ValueError(f"image_size={settings.image_size}: the digits have 8 pixels")
    elif data == "cars":
        images, names = stanford_cars(str(folder), input_size(settings))
    elif data in ("cifar10", "cifar100"):
        images, found = read_cifar(
            data,  # type: ignore[arg-type]  # one of the two names, to which `in` narrows nothing
            str(folder),
            train=train_images,
            test=test_images,
            classes=classes,
            size=input_size(settings),
        )
        count = int(images.labels.max()) + 1
        names = tuple(found.get("label", map(str, range(count))))
    else:
        images, names, problems = read_classes(
            Path(data),
            columns,
            size=input_size(settings),
            cache_bytes=settings.hardware.cache_bytes,
            features=given_features(settings),
        )
        if settings.radius >= 0:
            images, duplicates = drop_duplicates(images, problems, settings.radius)
            duplicates["label"] = [names[label] if label >= 0 else "" for label in duplicates["label"]]
    if data in ("digits", "cifar10", "cifar100", "cars"):
        images = ImageTable(images.images, images.table.assign(true_label=images.table["label"]))
    with problems.written_on_error(out):
        left = (images.labels >= 0).numpy() & (images.table["split"] != "left_out")
        problems.require(int(left.sum()), len(PARTS) * LEAST, "labelled images")
        images = divided(images, settings.shares)
    task = DistillTask(Path(data).stem, images, tuple(names), problems, duplicates)
    return with_noise(task, settings.noise, settings.seed)


def divided(images: ImageTable, shares: Shares) -> ImageTable:
    """Give every image its part, stratified by class; a part that the images have already is kept as it is.

    What has no part becomes training data and, where there is no test yet, test. The held-out and the validation part are split
    off the training data where they are missing. Unlabelled images stay apart: teachers alone teach them.

    Raises:
        ValueError: a part that distillation has not, or one with too few images.
    """
    split = images.table["split"].to_numpy(object, copy=True)
    labels = images.labels.numpy()
    if strange := sorted(set(split) - {*PARTS, "unassigned", "unlabelled", "left_out"}):
        raise ValueError(f"split {strange[0]!r} has no use here; allowed: {', '.join(PARTS)}, unlabelled")

    test = {} if (split == "test").any() else {"test": shares.test}
    divide(split, labels, "unassigned", {**test, "train": 1 - sum(test.values())}, seeds.derive(shares.seed, "test"))
    missing = {part: getattr(shares, part) for part in ("held_out", "val") if not (split == part).any()}
    if missing:
        left = {"train": 1 - sum(missing.values())}
        divide(split, labels, "train", missing | left, seeds.derive(shares.seed, "parts"))
    for part in PARTS:
        if (count := int((split == part).sum())) < LEAST:
            raise ValueError(
                f"part {part!r} has {pluralise(count, 'image')}; give at least {LEAST}, by more images or "
                + (
                    "smaller --shares"
                    if part == "train"
                    else f"a larger --shares.{part} than {getattr(shares, part):g}"
                )
            )
    return images.with_split(split)


def with_noise(task: DistillTask, noise: NoiseSettings, seed: int) -> DistillTask:
    """Return the task with some labels wrong, see `with_wrong_labels`; the seed is the noise's own where it has one."""
    generator = seeds.generator(seed if noise.seed is None else noise.seed, "noise")
    return replace(task, images=with_wrong_labels(task.images, len(task.classes), noise, generator))
