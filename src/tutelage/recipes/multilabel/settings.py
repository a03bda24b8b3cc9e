"""The settings of `tutelage multilabel`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tutelage.checks import check
from tutelage.data.augment import AugmentationName
from tutelage.generations import IteratedSettings, NoisyStudentSettings
from tutelage.models import ModelSettings
from tutelage.recipes.encoding import LAPTOP_ENCODER, EncoderSettings, check_unfreeze
from tutelage.recipes.input import Fits, any_heads
from tutelage.training import Budget, Hardware, Optimization

Method = Literal["mile", "sigmoid", "softmax", "elr", "hard", "soft", "distilled", "noisy_student"]
ONE_LABEL = ("softmax", "elr", "hard", "soft", "distilled", "noisy_student")
"""Methods with a softmax, which predict one label an image."""


def plain_of(method: Method) -> Method:
    """Return plain training of the kind of a method: of label sets, or of the best class alone."""
    return "softmax" if method in ONE_LABEL else "sigmoid"


@dataclass(frozen=True)
class SearchSettings:
    """Values of the settings of iterated learning that are compared on validation, by the one label that each image was given.

    Args:
        rhos: Thresholds to try; an empty list uses iterated.rho.
        interactions: Interaction steps k_t to try; an empty list uses iterated.interaction.
        imitations: Imitation steps k_s to try; an empty list uses iterated.imitation.
    """

    rhos: tuple[float, ...] = ()
    interactions: tuple[int, ...] = ()
    imitations: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "search", rhos="[0, 1)", interactions="[1, inf)", imitations="[1, inf)")


@dataclass(frozen=True)
class EarlyLearningSettings:
    """Early-learning regularisation (ELR), for method elr.

    Args:
        beta: Decay of the moving averages of the model's predictions; larger is slower.
        weight: Weight of the regulariser relative to the cross-entropy.
    """

    beta: float = 0.7
    weight: float = 3.0

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "early_learning", beta="[0, 1)", weight="[0, inf)")


@dataclass(frozen=True)
class DistilledSettings:
    """Distillation from one trained teacher, for method distilled.

    Args:
        teacher: Model of the teacher; null takes the student's (self-distillation).
        self_supervised: Checkpoint to initialise a teacher of its own model with, as self_supervised.
        temperature: Temperature of the teacher's answers.
    """

    teacher: ModelSettings | None = None
    self_supervised: str | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "distilled", temperature="(0, inf)")
        if self.self_supervised is not None and self.teacher is None:
            raise ValueError(
                f"distilled.self_supervised={self.self_supervised!r} is for a teacher of its own model; give "
                "distilled.teacher, or self_supervised for both"
            )


@dataclass(frozen=True)
class MultilabelSettings:
    """Settings of multi-label learning from one label per image. The defaults are the paper's.

    Args:
        method: Training method: mile (iterated learning), sigmoid, softmax, elr, or self-distillation in the same generations
            as mile: hard (argmax and cross-entropy) or soft (softmax and KL divergence); distilled learns a trained
            teacher's answers for all images; in noisy_student each student learns from the previous one and from the labels.
            Sigmoid (for mile) or softmax (for the others) is also trained, and is served unless the method is better on
            validation with 90 % confidence.
        seed: Random seed for everything.
        image_size: Height and width of the images in pixels.
        augmentation: Data augmentation: randaugment, shift or light (for images of a few pixels), or none.
        encoder: Frozen encoder, from whose features the model learns instead of pixels.
        unfreeze: Part of the encoder to train at the end: last trains its last block and the heads on the images, for a
            few passes with small steps, and keeps the result if it is better by held-out labels; null trains none of it.
        radius: Number of bits in which the perceptual hashes of near-duplicates may differ; -1 disables the search.
        val: Share of the examples without a split on which thresholds and settings are chosen.
        test: Share of the examples without a split that are the test set.
        share: Share of the training examples to use, drawn class by class.
        rebalance: Class re-balancing, from 0 (none) to 1 (all classes equally often); MoPro uses 0.5 for WebVision.
        model: Model and its initial weights.
        self_supervised: Checkpoint of MoCo-v2, SimCLR, SimCLR-v2, SwAV or BYOL to initialise the encoder with.
        training: Optimisation.
        budget: Training budget of all generations together.
        iterated: Iterated learning.
        search: Settings of iterated learning to compare on validation; none by default.
        early_learning: Early-learning regularisation.
        distilled: Distillation from one teacher.
        noisy_student: Students one after another; their noise is the augmentation, and model.dropout.
        threshold: Probability above which a class is predicted; null chooses it on validation.
        choose_by: Labels of the validation images to choose by: given (one per image is enough), or truth (all of them, by F1).
        hardware: Precision, compilation, data-loading workers and trackers.
    """

    method: Method = "mile"
    seed: int = 0
    image_size: int = 224
    augmentation: AugmentationName = "randaugment"
    encoder: EncoderSettings = EncoderSettings()
    unfreeze: Literal["last"] | None = None
    radius: int = 16
    val: float = 0.1
    test: float = 0.2
    share: float = 1.0
    rebalance: float = 0.0
    model: ModelSettings = ModelSettings("resnet50")
    self_supervised: str | None = None
    training: Optimization = Optimization(
        optimizer="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4, schedule="cosine", batch_size=256
    )
    budget: Budget = Budget(epochs=100)
    iterated: IteratedSettings = IteratedSettings()
    search: SearchSettings = SearchSettings()
    early_learning: EarlyLearningSettings = EarlyLearningSettings()
    distilled: DistilledSettings = DistilledSettings()
    noisy_student: NoisyStudentSettings = NoisyStudentSettings()
    threshold: float | None = None
    choose_by: Literal["given", "truth"] = "given"
    hardware: Hardware = Hardware()

    def __post_init__(self) -> None:
        """Check the values that would otherwise fail late."""
        shares = {"val": "(0, 1)", "test": "(0, 1)", "share": "(0, 1]", "rebalance": "[0, 1]", "threshold": "[0, 1)"}
        check(self, **shares, image_size="[1, 8192]", radius="[-1, 127]")
        check_unfreeze(self)
        if self.val + self.test >= 1:
            raise ValueError(f"val={self.val} and test={self.test} are shares above 0 that leave something to train on")
        if self.threshold is not None and self.method in ONE_LABEL:
            raise ValueError(
                f"threshold={self.threshold}: method={self.method!r} names the best class alone; leave threshold out, or take "
                "mile or sigmoid"
            )

    @property
    def models(self) -> dict[str, tuple[ModelSettings, Fits]]:
        """The models that see images, each by its name, and what it must fit."""
        asked = {"model": self.model}
        if self.method == "distilled" and self.distilled.teacher is not None:
            asked["distilled.teacher"] = self.distilled.teacher
        return {name: (model, any_heads) for name, model in asked.items()}


def laptop() -> MultilabelSettings:
    """Return the settings for features of a frozen encoder: a minute on a CPU once the features are there."""
    return MultilabelSettings(
        encoder=LAPTOP_ENCODER,
        model=ModelSettings("feature_mlp", options={"widths": [512]}),
        training=Optimization(lr=1e-3, weight_decay=0.01, batch_size=64),
        budget=Budget(steps=1500, least_epochs=2),
        iterated=IteratedSettings(interaction=100, imitation=50, rho=0.1),
    )


def pocket() -> MultilabelSettings:
    """Return the settings for images of 24 pixels on a CPU: a quarter of a minute.

    They were chosen on grids of digits of seeds below 300; the committed tables are of other seeds.
    """
    return MultilabelSettings(
        image_size=24,
        augmentation="none",
        model=ModelSettings("pocket_patches", options={"width": 48}),
        training=Optimization(lr=2e-3, weight_decay=0.01, batch_size=64),
        budget=Budget(steps=1500, least_epochs=2),
        iterated=IteratedSettings(interaction=100, imitation=50, rho=0.1),
    )
