"""The settings of `tutelage distill`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from tutelage.checks import check
from tutelage.data.augment import AugmentationName
from tutelage.data.wrong_labels import NoiseSettings
from tutelage.models import ModelSettings
from tutelage.recipes.encoding import LAPTOP_ENCODER, EncoderSettings, check_unfreeze
from tutelage.recipes.input import Fits, one_head
from tutelage.training import Budget, Hardware, Optimization
from tutelage.weighting import registry
from tutelage.weighting.settings import AdaptSettings, check_names, options_of

Method = Literal["ce", "kd", "hpo", "coreset"]
CoresetRule = Literal["random", "sum_of_squares", "difference", "ratio"]


@dataclass(frozen=True)
class TeacherSettings:
    """A teacher, trained before the student or read from a folder.

    Args:
        model: Model and its initial weights.
        folder: Folder of a trained model (model.safetensors and config.json), which is used as it is.
        budget: Training budget; null is the student's. A short budget gives an early-stopped teacher.
        select: Keep the weights that are best on the validation part, instead of the last ones.
    """

    model: ModelSettings = ModelSettings("cifar_resnet110")
    folder: Path | None = None
    budget: Budget | None = None
    select: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "teacher")


@dataclass(frozen=True)
class Shares:
    """Division of the images that have no split; shares of what is not the test.

    Args:
        held_out: Share of the held-out part, on which weights are learned.
        val: Share of the validation part, which selects checkpoints.
        test: Share of the test part, of all images; used if the data have no test part.
        seed: Random seed of the division.
    """

    held_out: float = 0.05
    val: float = 0.05
    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the shares."""
        check(self, "shares", **dict.fromkeys(("held_out", "val", "test"), "(0, 1)"))
        if self.held_out + self.val >= 1:
            raise ValueError(f"shares.held_out={self.held_out} and shares.val={self.val} leave nothing for training")


@dataclass(frozen=True)
class CoresetSettings:
    """Training on a part of the examples, drawn by AMAL's weights (section 5.2 of the paper).

    Args:
        rule: Weight that the probability of an example is proportional to: sum_of_squares of its weights, difference of the
            label's and the teacher's, ratio of the teacher's to the label's (which prefers wrong labels), or random (uniform).
        share: Share of the training examples to draw.
    """

    rule: CoresetRule = "sum_of_squares"
    share: float = 0.2

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "coreset", share="(0, 1]")


@dataclass(frozen=True)
class DistillSettings:
    """Settings of distillation, from labelled images and teachers to a small model. The defaults are AMAL's.

    Args:
        seed: Random seed for everything except the division into parts.
        weighting: How far the label and the teachers count: amal, maoal, joint, fixed, superloss, uncertainty or another of
            docs/methods.
        weighting_options: Its options, such as {lr: 0.3}.
        weighting_defaults: Default options of weightings, by name; weighting_options overrides them.
        method: Instead of a weighting: ce (the label alone), kd (constant weights), hpo (constant weights, tuned) or coreset
            (the label alone, on examples that the weighting draws).
        image_size: Height and width of the images in pixels.
        augmentation: Data augmentation: crop_flip (CIFAR's), randaugment, shift, light, or none (teachers then predict once).
        encoder: Frozen encoder, from whose features all models learn instead of pixels.
        unfreeze: Part of the encoder to train at the end: last trains its last block and the heads on the images, for a
            few passes with small steps, and keeps the result if it is better by held-out labels; null trains none of it.
        radius: Number of bits in which the perceptual hashes of near-duplicates may differ; -1 disables the search.
        noise: Label noise, for experiments.
        shares: Division of the images that have no split.
        student: Model of the student.
        teachers: Teachers, at least one.
        temperature: Temperature of distillation.
        kd_weight: Weight of the teachers together in kd (the label has the rest), and before a weighting of examples, such as
            superloss, crust or learning_to_reweight; of each teacher in dropped_teachers.
        smoothing: Label smoothing.
        adapt: When weights are learned.
        refit: Train a second student with the final weights of the first, and on the held-out examples too, if the weighting
            learns a weight for each example. It takes twice as long.
        trials: Trainings of hpo.
        coreset: Coreset of method coreset.
        training: Optimisation of teachers and student.
        budget: Training budget of the student.
        select: Keep the student's weights that are best on the validation part, instead of the last ones.
        train_on_held_out: Train methods that learn no weights on the held-out examples too.
        baselines: Methods to compare with: ce, kd, hpo, or names of weightings. Of these and the method's student, the best
            one that is better than ce on validation with 90 % confidence is served, or else ce, which is always among them.
        hardware: Precision, compilation, data-loading workers and trackers.
    """

    seed: int = 0
    weighting: str = "amal"
    weighting_options: dict[str, Any] = field(default_factory=dict)
    weighting_defaults: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"superloss": {"regularisation": 0.25}, "crust": {"radius": None}}
    )
    method: Method | None = None
    image_size: int = 32
    augmentation: AugmentationName = "crop_flip"
    encoder: EncoderSettings = EncoderSettings()
    unfreeze: Literal["last"] | None = None
    radius: int = 16
    noise: NoiseSettings = NoiseSettings()
    shares: Shares = Shares()
    student: ModelSettings = ModelSettings("cifar_resnet8")
    teachers: tuple[TeacherSettings, ...] = (TeacherSettings(),)
    temperature: float = 4.0
    kd_weight: float = 0.9
    smoothing: float = 0.0
    adapt: AdaptSettings = AdaptSettings(every=10, batch_size=1000)
    refit: bool = False
    trials: int = 10
    coreset: CoresetSettings = CoresetSettings()
    training: Optimization = Optimization(
        optimizer="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4, schedule="milestones", batch_size=128
    )
    budget: Budget = Budget(epochs=240)
    select: bool = True
    train_on_held_out: bool = True
    baselines: tuple[str, ...] = ("ce", "kd")
    hardware: Hardware = Hardware()

    def __post_init__(self) -> None:
        """Check the values that would otherwise fail late."""
        check(
            self,
            image_size="[1, 8192]",
            temperature="(0, inf)",
            kd_weight="(0, 1)",
            smoothing="[0, 1)",
            trials="[1, inf)",
            radius="[-1, 127]",
        )
        check_unfreeze(self)
        if not self.teachers:
            raise ValueError("teachers is empty: give at least one, an architecture to train or the folder of a model")
        if self.method not in (None, "coreset") and self.weighting_options:
            raise ValueError(f"weighting_options={self.weighting_options} are of no use with method={self.method!r}")
        weightings = [name for name in self.baselines if name not in get_args(Method)]
        check_names(self, weightings)
        for name in dict.fromkeys((self.weighting, *weightings)):
            registry.check(name, 1 + len(self.teachers), self.options_of(name))

    @property
    def models(self) -> dict[str, tuple[ModelSettings, Fits]]:
        """The models that see images, each by its name, and what it must fit."""
        own = {f"teachers.{place}.model": each.model for place, each in enumerate(self.teachers) if each.folder is None}
        return {name: (model, one_head) for name, model in {**own, "student": self.student}.items()}

    @property
    def chosen(self) -> str:
        """The name of what the student is taught by: the method, or else the weighting."""
        return self.method or self.weighting

    @property
    def trained(self) -> tuple[str, ...]:
        """What students are taught by: what was asked for, the baselines, and always the labels alone."""
        return tuple(dict.fromkeys((self.chosen, *self.baselines, "ce")))

    def options_of(self, weighting: str) -> dict[str, Any]:
        """Return the options of a weighting; constant weights are those of kd where no others are given."""
        teachers, share = len(self.teachers), self.kd_weight
        constant = {"fixed": kd_weights(share, teachers), "dropped_teachers": [1 - share, *[share] * teachers]}
        return options_of(self, weighting, **({"weights": constant[weighting]} if weighting in constant else {}))


def kd_weights(share: float, teachers: int) -> list[float]:
    """Return the weights of the label and of each teacher when the teachers together have this share."""
    return [1 - share, *([share / teachers] * teachers)]


def laptop() -> DistillSettings:
    """Return the settings for features of a frozen encoder: minutes on a CPU once the features are there."""
    teacher = ModelSettings("feature_mlp", dropout=0.3, options={"widths": [1024]})
    slow = {"lr": 0.1}  # where weights move far, a linear student learns the held-out labels by heart
    return DistillSettings(
        weighting_defaults={**DistillSettings().weighting_defaults, "amal": slow, "joint": slow},
        image_size=224,
        augmentation="randaugment",
        encoder=LAPTOP_ENCODER,
        student=ModelSettings("feature_mlp"),
        teachers=(TeacherSettings(teacher, budget=Budget(epochs=10, least_steps=50)),),
        adapt=AdaptSettings(every=4, batch_size=200),
        training=Optimization(lr=1e-3, weight_decay=0.02, schedule="cosine", warmup=0.05, batch_size=128),
        budget=Budget(epochs=30, least_steps=100),
    )


def pocket() -> DistillSettings:
    """Return the settings for digits of 8 pixels and perceptrons: seconds on a CPU."""
    training = Optimization(
        optimizer="sgd", lr=0.02, momentum=0.9, weight_decay=5e-4, schedule="milestones", warmup=0.05, batch_size=50
    )
    return DistillSettings(
        image_size=8,
        augmentation="none",
        shares=Shares(held_out=0.15, val=0.1),
        student=ModelSettings("pocket_mlp"),
        teachers=(
            TeacherSettings(
                ModelSettings("pocket_mlp", options={"widths": [128, 128]}), budget=Budget(epochs=6, least_steps=50)
            ),
        ),
        adapt=AdaptSettings(every=4, batch_size=200),
        training=training,
        budget=Budget(epochs=40, least_steps=100),
    )
