"""The problems of MAOAL's table at the laptop scale: on features of small encoders that have not seen the task's images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.laptop.encoder import cifar_encoder
from benchmarks.maoal.cases import PEOPLE, Case
from tutelage.data.cifar import read_cifar
from tutelage.data.drawn import draw_parts
from tutelage.recipes.auxiliary.settings import AuxiliarySettings, Shares, TaskSpec, laptop
from tutelage.recipes.auxiliary.sources import images_task, parted, people_task, products_task, turnable
from tutelage.recipes.auxiliary.task import AuxiliaryTask, present
from tutelage.recipes.encoding import EncoderSettings, encoded
from tutelage.training import Budget
from tutelage.weighting.settings import AdaptSettings

OURS = laptop().shares.held_out
Make = Callable[[Path, AuxiliarySettings], AuxiliaryTask]


def laptop_cases(runs: Path) -> list[Case]:
    """Return the cases, whose encoders are made, and features kept, where the runs lie."""
    behind = partial(_behind, runs)
    base = replace(
        laptop(),
        augmentation="crop_flip",
        image_size=32,
        budget=Budget(epochs=10),
        shares=Shares(val=0.15, held_out=0.05),  # the paper's, for all rows but ours
        adapt=AdaptSettings(every=5),
        trials=2,
    )
    upright = replace(base, augmentation="shift")
    few = replace(base, shares=replace(base.shares, labels=0.1))
    return [
        Case(
            "CIFAR-100 people, 10 side tasks",
            behind(partial(cifar_encoder, name="cifar10"), lambda folder, s: people_task(folder, s, train=5500)),
            base,
            "cifar100",
            1.0,
            PEOPLE,
            held_out=OURS,
        ),
        Case(
            "CIFAR-100, 20 super-classes, 10 % of the labels",
            behind(partial(cifar_encoder, name="cifar10"), super_classes),
            few,
            "cifar100",
            1.0,
            levels=True,
            held_out=OURS,
        ),
        Case(
            "products, 20 % of the labels",
            behind(cifar_encoder, lambda folder, s: products_task(folder, s, max_rows=6000)),
            replace(upright, shares=replace(base.shares, labels=0.2)),
            "fashion-products",
            1.0,
            held_out=OURS,
        ),
        Case(
            "CIFAR-10 and rotation, 10 % of the labels",
            behind(cifar_encoder, rotated),
            replace(few, encoder=EncoderSettings(views=0), turned=0.5),
            "cifar10",
            1.0,
            held_out=OURS,
        ),
    ]


def _behind(runs: Path, encoder: Callable[[Path, Path], Path], make: Make) -> Make:
    """Return what makes a problem of features, of an encoder that is made where it is not there yet.

    The images are the same for all seeds, which draw parts, labels and first weights: so they are encoded once.
    """

    def made(folder: Path, settings: AuxiliarySettings) -> AuxiliaryTask:
        frozen = replace(
            settings.encoder,
            name=None,
            pretrained=str(encoder(folder.parent, runs)),
            cache=runs / "maoal-laptop" / "features",
        )
        settings = replace(settings, encoder=frozen)
        problem = turnable(make(folder, replace(settings, seed=0)), settings)
        assert problem.images is not None
        return redrawn(replace(problem, images=encoded(problem.images, settings)), settings.shares, settings.seed)

    return made


def redrawn(problem: AuxiliaryTask, shares: Shares, seed: int) -> AuxiliaryTask:
    """Return the same examples and test part with the other parts drawn by a seed."""
    labels = problem.labels[problem.primary.target or ""]
    split = np.where(np.isin(problem.split, ("val", "held_out")), "train", problem.split)
    split = draw_parts(split, shares.parts, seed, present(problem.primary, labels))
    split[problem.split == "unused"] = "unused"
    assert problem.images is not None
    images = parted(problem.images, np.resize(split, len(problem.images)))  # whose turns follow one another
    return replace(problem, split=split, images=images)


def super_classes(folder: Path, settings: AuxiliarySettings) -> AuxiliaryTask:
    """Return CIFAR-100's 20 super-classes, beside them people's noisy labels of the 100 classes, and labels drawn at random."""
    table, _ = read_cifar("cifar100", folder, train=6000, test=4000, seed=settings.seed)
    arbitrary = np.random.default_rng(settings.seed).integers(0, 10, len(table))
    table.table = table.table.assign(arbitrary=arbitrary)
    sides = (TaskSpec("person", column="noisy_label"), TaskSpec("arbitrary"))
    return images_task("CIFAR-100's super-classes", table, TaskSpec("super", column="coarse"), sides, settings)


def rotated(folder: Path, settings: AuxiliarySettings) -> AuxiliaryTask:
    """Return CIFAR-10 with the prediction of rotations."""
    table, _ = read_cifar("cifar10", folder, train=5000, test=3000, seed=settings.seed)
    sides = (TaskSpec("rotation", "rotation"),)
    return images_task("CIFAR-10", table, TaskSpec("kind", column="label"), sides, settings)
