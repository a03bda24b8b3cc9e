"""The problems on which MAOAL's tables compare methods, at two sizes, with the paper's figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from tutelage.recipes.auxiliary.settings import (
    REFIT,
    AuxiliarySettings,
    BodySettings,
    Shares,
    TaskSpec,
    by_modules,
    pocket,
)
from tutelage.recipes.auxiliary.sources import (
    digits_task,
    movielens_task,
    people_task,
    products_task,
    rooms_task,
)
from tutelage.recipes.auxiliary.task import AuxiliaryTask
from tutelage.recipes.base import Scale
from tutelage.training import Budget, Optimization
from tutelage.weighting.partition import Level
from tutelage.weighting.settings import AdaptSettings

ROWS: dict[str, str] = {
    "SLL": "single",
    "Equal": "equal",
    "HPO-tune": "hpo",
    "GCS": "gradient_cosine",
    "Uncert": "uncertainty",
    "AuxL": "auxilearn",
    "MAOAL": "maoal",
    "MAOAL, evidence": "maoal",
    "MAOAL, again on all labels": REFIT,
    "SLL, the mean of three": "single",
    "Equal, the mean of three": "equal",
    "what `tutelage auxiliary` serves": "served",
}
LEVELS: dict[str, Level] = {"MAOAL, whole model": "model", "MAOAL, by parameter": "parameter"}
*THRICE, SERVED = list(ROWS)[-3:]


@dataclass(frozen=True)
class Case:
    """A problem on which the methods are compared.

    Attributes:
        name: for people, and of its runs' folder.
        make: from (folder of the real data sets, settings) to the problem.
        settings: the same for all methods.
        data: the folder under the real data sets; None where nothing is read.
        minutes: about how many core-minutes a seed takes, on the processor named in the committed table.
        paper: the paper's figures by figure name and row, in the unit in which ours are shown.
        equal: the constant weights of the row Equal, where they are not 1.
        levels: whether MAOAL is measured with other modules, too (the paper's Table 4), and its importances are shown.
        held_out: the share of the examples on which our rows learn importances, where it is not that of the settings.
    """

    name: str
    make: Callable[[Path, AuxiliarySettings], AuxiliaryTask]
    settings: AuxiliarySettings
    data: str | None
    minutes: float
    paper: dict[str, dict[str, float]] = field(default_factory=dict)
    equal: tuple[float, ...] = ()
    levels: bool = False
    held_out: float | None = None


def _paper(*figures: float) -> dict[str, float]:
    return dict(zip(ROWS, figures, strict=False))  # the paper has none of our rows


MOVIELENS = {"rmse": _paper(0.9068, 2.2567, 0.9379, 0.9137, 0.9883, 0.9063, 0.9045)}
PEOPLE = {"accuracy": _paper(49.73, 51.27, 51.75, 51.80, 48.40, 51.53, 53.87)}
ROOMS = {
    "mean_iou": _paper(32.61, 33.15, 33.09, 32.18, 32.93, 33.06, 33.88),
    "pixel_accuracy": _paper(68.42, 68.11, 68.52, 67.58, 68.74, 68.36, 69.17),
}
MISTAKEN = (TaskSpec("mistaken", head="digit"), TaskSpec("parity"))


def cases(scale: Scale) -> list[Case]:
    """Return the cases of a scale whose models see pixels or fields."""
    return _pocket() if scale == "pocket" else _full()


def _pocket() -> list[Case]:
    base = pocket()
    small = replace(base.training, batch_size=64)
    digits = replace(
        base,
        image_size=8,
        augmentation="none",
        shares=Shares(labels=0.3),
        body=BodySettings(options={"widths": [8, 16, 32], "stem_stride": 1}),
        training=replace(small, lr=3e-3),
        budget=Budget(epochs=12),
        weighting_defaults=by_modules(constraint="relu", meta_optimizer={"lr": 0.1}),
        adapt=AdaptSettings(every=2),
    )
    movielens = replace(
        base,
        shares=Shares(test=0.1, val=0.1, held_out=0.02),
        body=BodySettings("autoint"),
        training=Optimization(optimizer="adam", lr=1e-3, weight_decay=0.0, batch_size=256),
        budget=Budget(epochs=4),
        adapt=AdaptSettings(every=20),
        bounds=(1e-3, 1e3),
    )
    people = replace(
        base,
        image_size=16,
        shares=Shares(val=0.15, held_out=0.05),
        body=BodySettings(options={"widths": [12, 24, 48], "stem_stride": 1}),
        training=replace(small, batch_size=128),
        budget=Budget(epochs=6),
        adapt=AdaptSettings(every=10),
        trials=2,
    )
    products = replace(
        base,
        shares=Shares(labels=0.2, held_out=0.05),
        training=replace(small, batch_size=128),
        budget=Budget(epochs=8),
        adapt=AdaptSettings(every=10),
        trials=2,
    )
    rooms = replace(
        base,
        augmentation="none",
        shares=Shares(val=0.1, held_out=0.1),
        training=replace(small, batch_size=16),
        budget=Budget(epochs=4),
        adapt=AdaptSettings(every=20),
        trials=2,
        body=BodySettings(options={"widths": [16, 32, 64], "width": 32}),
    )
    return [
        Case("digits with a mistaken annotator", lambda folder, s: digits_task(s, MISTAKEN), digits, None, 2.0, {}),
        Case(
            "MovieLens-1M, 400 users",
            lambda folder, s: movielens_task(folder, s, users=400),
            movielens,
            "ml-1m",
            5.0,
            MOVIELENS,
            equal=(1e3,),
        ),
        Case(
            "CIFAR-100 people, 10 side tasks, 16 pixels",
            lambda folder, s: people_task(folder, s, train=5500),
            people,
            "cifar100",
            6.0,
            PEOPLE,
        ),
        Case(
            "products, 20 % of the labels",
            lambda folder, s: products_task(folder, s, max_rows=4000),
            products,
            "fashion-products",
            7.0,
        ),
        Case("NYUv2, 72 x 96 pixels", rooms_task, rooms, "nyuv2", 9.0, ROOMS),
    ]


def _full() -> list[Case]:
    images = AuxiliarySettings(image_size=32, augmentation="crop_flip", body=BodySettings("resnet18"))
    weights = by_modules(constraint="relu", meta_optimizer={"lr": 1e-2, "weight_decay": 5e-4})
    shares = Shares(val=0.1, held_out=0.05)
    return [
        Case(
            "MovieLens-1M",
            movielens_task,
            AuxiliarySettings(
                shares=Shares(test=0.1, val=1 / 9, held_out=512 / 600_000),
                body=BodySettings("autoint"),
                training=Optimization(optimizer="adam", lr=1e-3, weight_decay=0.0, batch_size=256),
                budget=Budget(epochs=15),
                weighting_defaults={
                    **by_modules(
                        constraint="relu",
                        neumann_lr=1.0,
                        meta_optimizer={"kind": "sgd", "lr": 1e-3, "momentum": 0.9},
                    ),
                    "auxilearn": {"neumann_lr": 1.0},
                },
                adapt=AdaptSettings(every=20),
                bounds=(1e-3, 1e3),
            ),
            "ml-1m",
            600.0,
            MOVIELENS,
            equal=(1e3,),
        ),
        Case(
            "CIFAR-100 people, 10 side tasks",
            people_task,
            replace(images, shares=shares, weighting_defaults=weights),
            "cifar100",
            50_000.0,
            PEOPLE,
        ),
        Case(
            "products, 20 % of the labels",
            products_task,
            replace(
                images,
                image_size=48,
                shares=replace(shares, labels=0.2),
                weighting_defaults=weights,
                budget=Budget(epochs=60),
            ),
            "fashion-products",
            50_000.0,
        ),
        Case(
            "NYUv2, 72 x 96 pixels",
            rooms_task,
            replace(
                images,
                shares=shares,
                weighting_defaults=weights,
                augmentation="none",
                body=BodySettings("efficientnet_b0", "timm"),
                training=Optimization(optimizer="adam", lr=1e-3, weight_decay=0.0, batch_size=8),
                budget=Budget(epochs=100),
            ),
            "nyuv2",
            20_000.0,
            ROOMS,
        ),
    ]
