"""Everything that `tutelage moderate` can be told, and the two sizes at which it comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tutelage.data.augment import AugmentationName
from tutelage.data.splits import SplitSettings
from tutelage.recipes.base import ModelSettings
from tutelage.subtasks.discovery import DiscoverySettings
from tutelage.subtasks.lesson import LessonSettings
from tutelage.subtasks.selection import SelectionSettings
from tutelage.subtasks.specialists import SpecialistSettings
from tutelage.subtasks.student import StudentSettings
from tutelage.training import Budget, Hardware, Optimization


@dataclass(frozen=True)
class ModerationSettings:
    """The main job, from labelled images to a moderation model. The defaults are the paper's.

    Args:
        seed: Of everything random but the splits, which have their own.
        fpr: Share of defects that may pass; the rate at which models are selected and decisions are made.
        image_size: Height and width of the images in pixels.
        augmentation: randaugment (the paper's), shift or light (for images of a few pixels), or none.
        radius: Images whose perceptual hashes differ in at most so many bits are duplicates.
        splits: How examples without a split are divided.
        student: The student's model, which has a distillation token.
        specialist: The specialists' model, and the latent discriminator's.
        training: The student's optimisation, and the plain fine-tuning's.
        budget: The student's budget, and the plain fine-tuning's.
        select_by: What selects a checkpoint on student-val: npv at the false-positive rate, as the paper does, or auroc, which
            wrong labels in the validation part disturb less.
        discovery: How sub-tasks are found.
        discovery_training: The discriminator's optimisation.
        specialists: How specialists are trained.
        specialist_training: The specialists' optimisation.
        selection: Which specialists are listened to.
        lesson: What the student is taught.
        learning: How the student learns it.
        hardware: Precision, compilation, workers, trackers.
    """

    seed: int = 0
    fpr: float = 0.01
    image_size: int = 224
    augmentation: AugmentationName = "randaugment"
    radius: int = 16
    splits: SplitSettings = SplitSettings()
    student: ModelSettings = ModelSettings("deit_base_distilled_patch16_224", "timm", 0.1)
    specialist: ModelSettings = ModelSettings("resnet50", "timm")
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
    lesson: LessonSettings = LessonSettings()
    learning: StudentSettings = StudentSettings()
    hardware: Hardware = Hardware()


def pocket() -> ModerationSettings:
    """Return the settings for images of 24 pixels on a CPU: minutes in all.

    They were chosen on digit posters and product photographs of seeds below 300, with both kinds of noise; the committed tables
    are of other seeds.
    """
    training = Optimization(lr=1e-3, weight_decay=0.02, schedule="cosine", warmup=0.1, clip_norm=2.0, batch_size=128)
    return ModerationSettings(
        image_size=24,
        augmentation="light",
        student=ModelSettings("pocket_deit"),
        specialist=ModelSettings("pocket_resnet"),
        training=training,
        budget=Budget(steps=200),
        select_by="auroc",
        discovery=DiscoverySettings(subtasks=16, lam=25.0, epochs=12, start="kmeans", acceptable=True),
        discovery_training=training,
        specialists=SpecialistSettings(sharing="trunk", epochs=5, select=False),
        specialist_training=training,
        selection=SelectionSettings(judged_on="both"),
        lesson=LessonSettings(unlabelled="all", unlabelled_share=0.25),
        learning=StudentSettings(curriculum="random"),
    )
