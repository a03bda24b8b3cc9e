"""The settings of `tutelage moderate`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tutelage.checks import check
from tutelage.data.augment import AugmentationName
from tutelage.data.duplicates import DuplicateRule
from tutelage.data.splits import SplitSettings
from tutelage.models import ModelSettings
from tutelage.recipes.encoding import LAPTOP_ENCODER, EncoderSettings, check_unfreeze
from tutelage.recipes.input import Fits, any_heads, two_heads
from tutelage.subtasks.discovery import DiscoverySettings
from tutelage.subtasks.doubt import DoubtSettings
from tutelage.subtasks.lesson import LessonSettings
from tutelage.subtasks.selection import SelectionSettings
from tutelage.subtasks.specialists import SpecialistSettings
from tutelage.subtasks.student import StudentSettings
from tutelage.training import Budget, Hardware, Optimization
from tutelage.weighting import registry
from tutelage.weighting.settings import AdaptSettings, check_names, options_of


@dataclass(frozen=True)
class ModerationSettings:
    """Settings of moderation, from labelled images to a model. The defaults are the paper's.

    Args:
        seed: Random seed for everything except the splits, which have their own.
        fpr: False-positive rate, the share of defects that may pass, at which models are selected and decisions are made.
        image_size: Height and width of the images in pixels.
        augmentation: Data augmentation: randaugment (the paper's), shift or light (for images of a few pixels), or none.
        encoder: Frozen encoder, from whose features all models learn instead of pixels.
        unfreeze: Part of the encoder to train at the end: last trains its last block and the heads on the images, for a
            few passes with small steps, and keeps the result if it is better by held-out labels; null trains none of it.
        radius: Number of bits in which the perceptual hashes of near-duplicates may differ.
        duplicates: What makes two examples near-duplicates, of which one is kept: image (the same picture), headline_or_image
            (a repeated headline alone is enough, as in the paper), or none.
        splits: Division of the examples that have no split.
        student: Model of the student; it must have a distillation token.
        specialist: Model of the specialists and of the latent discriminator.
        training: Optimisation of the student and of plain fine-tuning.
        budget: Training budget of plain fine-tuning; the student's is learning.times as long.
        select_by: Metric that selects a checkpoint on student-val: npv at the false-positive rate, as in the paper, or auroc,
            which is less sensitive to wrong labels in the validation part.
        discovery: Discovery of the sub-tasks.
        discovery_training: Optimisation of the discriminator.
        specialists: Training of the specialists.
        specialist_training: Optimisation of the specialists.
        selection: Selection of the specialists that teach the student.
        doubt: Trust in each training label.
        lesson: Targets of the student.
        learning: Losses and curriculum of the student.
        weighting: Weighting of the sources that the student follows: label, specialists, the specialists in place of a missing
            label, and the plainly fine-tuned model; amal, maoal, joint or any other in docs/methods. null is the paper's:
            label and specialists, with constant weights.
        weighting_options: Options of the weighting, such as {lr: 0.3}.
        weighting_defaults: Default options of weightings, by name; weighting_options overrides them.
        adapt: Schedule of learned weights; they are learned on teacher-val and teacher-test.
        hardware: Precision, compilation, data-loading workers and trackers.
    """

    seed: int = 0
    fpr: float = 0.01
    image_size: int = 224
    augmentation: AugmentationName = "randaugment"
    encoder: EncoderSettings = EncoderSettings()
    unfreeze: Literal["last"] | None = None
    radius: int = 16
    duplicates: DuplicateRule = "image"
    splits: SplitSettings = SplitSettings()
    student: ModelSettings = ModelSettings("deit_base_distilled_patch16_224", "timm", 0.1)
    specialist: ModelSettings = ModelSettings("resnet50", "timm", 0.1)
    training: Optimization = Optimization(lr=3e-4, encoder_lr=8e-7, weight_decay=0.01, clip_norm=2.0)
    budget: Budget = Budget(epochs=20)
    select_by: Literal["npv", "auroc"] = "npv"
    discovery: DiscoverySettings = DiscoverySettings()
    discovery_training: Optimization = Optimization(
        optimizer="sgd", lr=0.03, momentum=0.9, weight_decay=0.1, schedule="quartiles"
    )
    specialists: SpecialistSettings = SpecialistSettings()
    specialist_training: Optimization = Optimization(lr=3e-4, encoder_lr=8e-7, weight_decay=0.01, clip_norm=2.0)
    selection: SelectionSettings = SelectionSettings()
    doubt: DoubtSettings = DoubtSettings()
    lesson: LessonSettings = LessonSettings()
    learning: StudentSettings = StudentSettings()
    weighting: str | None = None
    weighting_options: dict[str, Any] = field(default_factory=dict)
    weighting_defaults: dict[str, dict[str, Any]] = field(default_factory=dict)
    adapt: AdaptSettings = AdaptSettings()
    hardware: Hardware = Hardware()

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, fpr="(0, 1)", image_size="[1, 8192]", radius="[0, 127]")
        check_unfreeze(self)
        check_names(self)
        if self.weighting is not None:
            registry.check(self.weighting, 3 + self.lesson.substitute, options_of(self, self.weighting))
        elif self.weighting_options:
            raise ValueError(f"weighting_options={self.weighting_options} must be empty without a weighting; name one")

    @property
    def models(self) -> dict[str, tuple[ModelSettings, Fits]]:
        """The models that see images, each by its name, and what it must fit."""
        return {"specialist": (self.specialist, any_heads), "student": (self.student, two_heads)}


SMALL_TRAINING = Optimization(lr=1e-3, weight_decay=0.02, schedule="cosine", warmup=0.1, clip_norm=2.0, batch_size=128)
SMALL_LEARNING = StudentSettings(curriculum="random")
SMALL_LESSON = LessonSettings(unlabelled="all", unlabelled_share=0.25)


def _small(**changed: Any) -> ModerationSettings:
    """Return what both small sizes have in common, with the rest."""
    return ModerationSettings(
        discovery_training=SMALL_TRAINING,
        specialist_training=SMALL_TRAINING,
        select_by="auroc",
        selection=SelectionSettings(judged_on="both"),
        adapt=AdaptSettings(every=4),
        **changed,
    )


def laptop() -> ModerationSettings:
    """Return the settings for features of a frozen encoder: a minute on a CPU once the features are there.

    They were chosen on product photographs of seeds below 300, with both kinds of noise; the committed table is of other seeds.
    """
    return _small(
        encoder=LAPTOP_ENCODER,
        student=ModelSettings("feature_student", dropout=0.1, options={"widths": [256]}),
        specialist=ModelSettings("feature_mlp", options={"widths": [256]}),
        training=replace(SMALL_TRAINING, lr=3e-4),
        budget=Budget(steps=400, least_epochs=2, most_epochs=100),
        discovery=DiscoverySettings(subtasks=24, lam=25.0, epochs=30, start="kmeans", acceptable=True),
        specialists=SpecialistSettings(sharing="trunk", epochs=20, select=False, smoothing=0.0),
        doubt=DoubtSettings(used=True, discoveries=5),
        learning=replace(SMALL_LEARNING, times=2),
        lesson=SMALL_LESSON,
    )


def pocket() -> ModerationSettings:
    """Return the settings for images of 24 pixels on a CPU: minutes in all.

    They were chosen on digit posters and product photographs of seeds below 300, with both kinds of noise; the committed tables
    are of other seeds.
    """
    return _small(
        image_size=24,
        augmentation="light",
        student=ModelSettings("pocket_deit"),
        specialist=ModelSettings("pocket_resnet"),
        training=SMALL_TRAINING,
        budget=Budget(steps=200, least_epochs=2, most_epochs=100),
        discovery=DiscoverySettings(subtasks=16, lam=25.0, epochs=12, start="kmeans", acceptable=True),
        specialists=SpecialistSettings(sharing="trunk", epochs=5, select=False, smoothing=0.0),
        lesson=SMALL_LESSON,
        learning=SMALL_LEARNING,
    )
