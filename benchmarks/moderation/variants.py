"""Models, budgets and numbers of sub-tasks of the moderation table's rows at each scale, and the paper's gains."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.models import ModelSettings
from tutelage.recipes.base import Scale


@dataclass(frozen=True)
class Variants:
    """What the rows of one scale are made of.

    Attributes:
        models: the models that are fine-tuned plainly.
        swin: the model of the self-label and filtered rows.
        swsl, noisy: the models of the semi-supervised rows.
        epochs, subtasks: the three budgets and the three numbers of sub-tasks of the discovery rows.
        classifier, student: what the rows call the models that learn sub-tasks as classes, and those that are taught.
    """

    models: dict[str, ModelSettings]
    swin: ModelSettings
    swsl: ModelSettings
    noisy: ModelSettings
    epochs: tuple[int, int, int]
    subtasks: tuple[int, int, int]
    classifier: str = "Swin"
    student: str = "DeiT"


PAPER = Variants(
    models={
        "ViT-Base/16": ModelSettings("vit_base_patch16_224", "timm", 0.1),
        "ResNeXt-101": ModelSettings("resnext101_64x4d", "timm", 0.1),
        "CoAtNet-2": ModelSettings("coatnet_2_rw_224.sw_in12k_ft_in1k", "timm", 0.1),
        "Swin-B/P4W7": ModelSettings("swin_base_patch4_window7_224", "timm", 0.1),
    },
    swin=ModelSettings("swin_base_patch4_window7_224", "timm", 0.1),
    swsl=ModelSettings("resnext101_32x8d", "timm", 0.1),
    noisy=ModelSettings("tf_efficientnet_l2", "timm", 0.5),
    epochs=(100, 300, 1000),
    subtasks=(20, 100, 500),
)
POCKET = Variants(
    models={
        "ViT-Base/16": ModelSettings("pocket_vit"),
        "ResNeXt-101": ModelSettings("pocket_resnext"),
        "CoAtNet-2": ModelSettings("pocket_coatnet"),
        "Swin-B/P4W7": ModelSettings("pocket_swin"),
    },
    swin=ModelSettings("pocket_swin"),
    swsl=ModelSettings("pocket_resnext"),
    noisy=ModelSettings("pocket_resnext", dropout=0.1),
    epochs=(3, 12, 18),
    subtasks=(8, 16, 32),
)
_LAYER = ModelSettings("feature_mlp", dropout=0.1, options={"widths": [256]})
ON_FEATURES = Variants(
    models={"two-token MLP": ModelSettings("feature_student", dropout=0.1, options={"widths": [256]})},
    swin=_LAYER,
    swsl=_LAYER,
    noisy=_LAYER,
    epochs=PAPER.epochs,
    subtasks=PAPER.subtasks,
    classifier="MLP",
    student="two-token MLP",
)
VARIANTS: dict[Scale, Variants | None] = {"pocket": POCKET, "laptop": None, "paper": PAPER}
# The paper's gains at (5 %, 1 %) FPR, in percent.
FINE_TUNING = {
    "ViT-Base/16": (0.0, 0.0),
    "ResNeXt-101": (-3.3, -3.9),
    "CoAtNet-2": (1.2, 1.3),
    "Swin-B/P4W7": (3.7, 4.1),
}
MULTI_CLASS = [
    (0.9, 1.4),
    (1.5, 2.2),
    (0.7, 1.6),
    (1.4, 1.9),
    (8.6, 10.8),
    (8.3, 10.1),
    (1.2, 1.8),
    (4.4, 6.3),
    (4.6, 6.3),
]
HARD = [
    (8.5, 9.1),
    (9.7, 9.6),
    (8.9, 9.2),
    (9.7, 12.6),
    (10.4, 15.1),
    (10.2, 13.0),
    (9.9, 12.5),
    (10.4, 14.7),
    (10.5, 15.0),
]
