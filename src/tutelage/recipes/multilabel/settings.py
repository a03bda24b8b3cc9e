"""Everything that `tutelage multilabel` can be told, and the two sizes at which it comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tutelage.data.augment import AugmentationName
from tutelage.generations import IteratedSettings
from tutelage.recipes.base import ModelSettings
from tutelage.training import Budget, Hardware, Optimization

Method = Literal["mile", "sigmoid", "softmax", "elr", "hard", "soft"]
ONE_LABEL = ("softmax", "elr", "hard", "soft")
"""Methods of a softmax, which name one label an image."""


@dataclass(frozen=True)
class SearchSettings:
    """Which settings of iterated learning are tried, and judged on validation by the one label that each image was given.

    Args:
        rhos: Thresholds that are tried; none of them keeps iterated.rho.
        interactions: Steps k_t that are tried; none of them keeps iterated.interaction.
        imitations: Steps k_s that are tried; none of them keeps iterated.imitation.
    """

    rhos: tuple[float, ...] = ()
    interactions: tuple[int, ...] = ()
    imitations: tuple[int, ...] = ()


@dataclass(frozen=True)
class EarlyLearningSettings:
    """ELR, for method elr.

    Args:
        beta: How slowly the averages of the model's predictions move.
        weight: What the regulariser counts beside the cross-entropy.
    """

    beta: float = 0.7
    weight: float = 3.0


@dataclass(frozen=True)
class MultilabelSettings:
    """From one label an image to a multi-label model. The defaults are the paper's.

    Args:
        method: mile (iterated learning), sigmoid, softmax, elr, or self-distillation in the same generations as mile: hard
            (argmax and cross-entropy) or soft (softmax and KL divergence).
        seed: Of everything random.
        image_size: Height and width of the images in pixels.
        augmentation: randaugment, shift or light (for images of a few pixels), or none.
        radius: Images whose perceptual hashes differ in at most so many bits are duplicates; -1 looks for none.
        val: Share of the examples without a split that choose thresholds and settings.
        test: Share of the examples without a split that judge.
        share: Share of the training examples, class by class, that keep their part.
        rebalance: From 0 (examples as they are) to 1 (all classes equally often); MoPro's, for WebVision, is 0.5.
        model: The model.
        self_supervised: A checkpoint of MoCo-v2, SimCLR, SimCLR-v2, SwAV or BYOL from which the encoder starts.
        training: The optimisation.
        budget: Of all generations together.
        iterated: The generations.
        search: Settings of the generations that are tried on validation; none by default.
        early_learning: ELR's numbers.
        threshold: Above which a class belongs to an image's set; null chooses it on validation.
        hardware: Precision, compilation, workers, trackers.
    """

    method: Method = "mile"
    seed: int = 0
    image_size: int = 224
    augmentation: AugmentationName = "randaugment"
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
    threshold: float | None = None
    hardware: Hardware = Hardware()

    def __post_init__(self) -> None:
        """Check the values that would otherwise fail late."""
        if min(self.val, self.test) <= 0 or self.val + self.test >= 1:
            raise ValueError(f"val={self.val} and test={self.test} are shares above 0 that leave something to train on")
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share} must be in (0, 1]")
        if not 0 <= self.rebalance <= 1:
            raise ValueError(f"rebalance={self.rebalance} must be in [0, 1]")
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise ValueError(f"threshold={self.threshold} is a probability, in [0, 1), or null")
        if self.threshold is not None and self.method in ONE_LABEL:
            raise ValueError(
                f"threshold={self.threshold}: method={self.method!r} names the best class alone; leave threshold out, or take "
                "mile or sigmoid"
            )
        if self.early_learning.weight < 0:
            raise ValueError(f"early_learning.weight={self.early_learning.weight} must not be negative")


def pocket() -> MultilabelSettings:
    """Return the settings for images of 24 pixels on a CPU: a quarter of a minute.

    They were chosen on grids of digits of seeds below 300; the committed tables are of other seeds.
    """
    return MultilabelSettings(
        image_size=24,
        augmentation="none",
        model=ModelSettings("pocket_patches", options={"width": 48}),
        training=Optimization(lr=2e-3, weight_decay=0.01, batch_size=64),
        budget=Budget(steps=1500),
        iterated=IteratedSettings(interaction=100, imitation=50, rho=0.1),
    )
