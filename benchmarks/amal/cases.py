"""The problems on which AMAL's figures compare methods, at two sizes, and the students that are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from benchmarks.amal.rivals import over_assistant, self_supervised
from tutelage.models import ModelSettings
from tutelage.recipes.base import Scale
from tutelage.recipes.distill.pipeline import Pipeline, Taught
from tutelage.recipes.distill.settings import (
    CoresetRule,
    CoresetSettings,
    DistillSettings,
    NoiseSettings,
    TeacherSettings,
    pocket,
)
from tutelage.training import Budget
from tutelage.weighting.settings import AdaptSettings

Student = Callable[[Pipeline], Taught]
TWENTY = (
    *(
        "aquarium_fish",
        "bee",
        "bottle",
        "bridge",
        "can",
        "castle",
        "chair",
        "clock",
        "dolphin",
        "lamp",
        "lion",
        "maple",
    ),
    *("motorcycle", "mushroom", "orchid", "pear", "rose", "shark", "tank", "wolf"),
)  # classes of CIFAR-100, one or two of a super-class


@dataclass(frozen=True)
class Case:
    """A problem, and the students that are compared on it.

    Attributes:
        name: for people, and of its runs' folder.
        settings: what the students have in common.
        students: by row.
        data: digits or cifar100.
        images: of CIFAR: how many images to train and to test on; None is all.
        classes: of CIFAR: only these.
        paper: the paper's accuracy in percent, by row.
    """

    name: str
    settings: DistillSettings
    students: dict[str, Student]
    data: str = "digits"
    images: tuple[int | None, int | None] = (None, None)
    classes: tuple[str, ...] | None = None
    paper: dict[str, float] = field(default_factory=dict)


def by(method: str, name: str | None = None, teachers: tuple[TeacherSettings, ...] = (), **options: Any) -> Student:
    """Return how a student is taught by a method, with options of the weighting or other teachers under a name."""

    def teach(pipeline: Pipeline) -> Taught:
        settings = pipeline.settings
        recommended = settings.weighting_defaults
        if options:
            recommended = {**recommended, method: {**recommended.get(method, {}), **options}}
        changed = replace(settings, weighting_defaults=recommended, teachers=teachers or settings.teachers)
        folder = pipeline.stages.folder
        if teachers:
            folder = folder / f"of-{len(teachers)}"  # stages of other teachers lie apart
        return Pipeline(pipeline.task, changed, folder, pipeline.log).student(method, name)

    return teach


def _coreset(rule: CoresetRule) -> Student:
    return lambda pipeline: pipeline.coreset(CoresetSettings(rule, 0.2))


def _over(heard: Any, assistant: ModelSettings) -> Student:
    return lambda pipeline: over_assistant(pipeline, assistant, heard)


def apart(method: str) -> Student:
    """Return how a student is taught that never sees the held-out labels, as AMAL's rivals in its paper."""

    def teach(pipeline: Pipeline) -> Taught:
        settings = replace(pipeline.settings, train_on_held_out=False)
        changed = Pipeline(pipeline.task, settings, pipeline.stages.folder, pipeline.log)
        return changed.student(method, f"student-{method}-apart")

    return teach


RELEASED: dict[str, Any] = {
    "strategy": "last_layer",
    "lr": 1500.0,
    "normalise": False,
    "num_updates": 5,
    "init": (0.1, 0.9),
}
NOISY: dict[str, Student] = {
    "CE": by("ce"),
    "KD": by("kd"),
    "CE, without the held-out labels": apart("ce"),
    "KD, without the held-out labels": apart("kd"),
    "Equal": by("equal"),
    "SuperLoss": by("superloss"),
    "CRUST": by("crust"),
    "AMAL": by("amal"),
    "AMAL, the released step": by("amal", "student-amal-released", **RELEASED),
}
ALL: dict[str, Student] = {
    **NOISY,
    "HPO-tune": by("hpo"),
    "Uncertainty": by("uncertainty"),
    "GCS": by("gradient_cosine"),
    "Learning to Reweight": by("learning_to_reweight"),
    "Meta-Weight-Net": by("meta_weight_net"),
    "AuxiLearn": by("auxilearn"),
    "MAOAL": by("maoal"),
    "Joint": by("joint"),
}
CORESETS: dict[str, Student] = {
    "Complete data": by("ce"),
    "Random": _coreset("random"),
    "lambda_p^2 + lambda_a^2": _coreset("sum_of_squares"),
    "|lambda_p - lambda_a|": _coreset("difference"),
    "lambda_a / lambda_p": _coreset("ratio"),
}
TABLE_1 = dict(zip(CORESETS, (66.43, 44.92, 45.5, 46.28, 46.31), strict=True))


def cases(scale: Scale) -> list[Case]:
    """Return the cases of a scale."""
    return _pocket() if scale == "pocket" else _full()


def _noise(rate: float) -> NoiseSettings:
    return NoiseSettings("symmetric", rate)


def _distillation(assistant: ModelSettings) -> dict[str, Student]:
    """The rows of Figure 3."""
    return {
        "CE": by("ce"),
        "KD": by("kd"),
        "TAKD": _over("takd", assistant),
        "DGKD": _over("dgkd", assistant),
        "SSKD": self_supervised,
        "AMAL": by("amal"),
    }


def _pocket() -> list[Case]:
    base = pocket()
    large = base.teachers[0]
    final = replace(large, budget=None)
    four = tuple(replace(large, budget=Budget(epochs=epochs)) for epochs in (3, 6, 12, 40))
    middle = ModelSettings("pocket_mlp", options={"widths": [80, 80]})
    cifar = DistillSettings(
        image_size=16,
        shares=replace(base.shares, held_out=0.1, val=0.1),
        student=ModelSettings("cifar_resnet8"),
        teachers=(TeacherSettings(ModelSettings("cifar_resnet20")),),
        weighting_defaults={**base.weighting_defaults, "crust": {"radius": None, "start": 3}},
        adapt=AdaptSettings(every=5, batch_size=128),
        training=replace(DistillSettings().training, batch_size=64),
        budget=Budget(epochs=12),
    )
    figure_3 = _distillation(ModelSettings("cifar_resnet14"))
    cifar_case = partial(Case, data="cifar100", images=(3000, 2000), classes=TWENTY)
    return [
        Case("digits, 40 % of the labels wrong", replace(base, noise=_noise(0.4)), ALL),
        Case("digits, 60 % of the labels wrong", replace(base, noise=_noise(0.6)), NOISY),
        Case(
            "digits, teachers",
            replace(base, noise=_noise(0.4)),
            {
                "KD, stopped early": by("kd"),
                "AMAL, stopped early": by("amal"),
                "KD, trained to the end": by("kd", teachers=(final,)),
                "AMAL, trained to the end": by("amal", teachers=(final,)),
                "KD, four teachers": by("kd", teachers=four),
                "DGKD, four teachers": by("dropped_teachers", teachers=four),
                "AMAL, four teachers": by("amal", teachers=four),
            },
        ),
        Case("digits, distillation", replace(base, teachers=(final,)), _distillation(middle)),
        Case("digits, coresets of 20 %", replace(base, teachers=(final,)), CORESETS, paper=TABLE_1),
        cifar_case("CIFAR-100, 20 classes at 16 pixels, distillation", cifar, figure_3),
        cifar_case(
            "CIFAR-100, 20 classes at 16 pixels, 40 % of the labels wrong",
            replace(cifar, noise=_noise(0.4)),
            {row: NOISY[row] for row in ("CE", "KD", "SuperLoss", "CRUST", "AMAL")},
        ),
    ]


def _full() -> list[Case]:
    base, assistant = DistillSettings(), ModelSettings("cifar_resnet14")
    found = []
    for depth in (20, 32, 56, 110):
        taught = replace(base, teachers=(TeacherSettings(ModelSettings(f"cifar_resnet{depth}")),))
        name = f"CIFAR-100, ResNet-{depth} teaches ResNet-8"
        found.append(Case(f"{name}, distillation", taught, _distillation(assistant), "cifar100"))
        for rate in (0.4, 0.6):
            noisy = replace(taught, noise=_noise(rate))
            found.append(Case(f"{name}, {100 * rate:g} % of the labels wrong", noisy, NOISY, "cifar100"))
    wide = replace(base, student=ModelSettings("wrn_16_1"), teachers=(TeacherSettings(ModelSettings("wrn_16_8")),))
    found.append(Case("CIFAR-100, coresets of 20 %", wide, CORESETS, "cifar100", paper=TABLE_1))
    return found
