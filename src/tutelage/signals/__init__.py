"""One per-example loss for each source of supervision, and the objective that evaluates them all."""

from tutelage.signals.base import Batch, Outputs, Signal
from tutelage.signals.binary_cross_entropy import BinaryCrossEntropy
from tutelage.signals.cross_entropy import CrossEntropy
from tutelage.signals.distillation import Distillation, Frozen
from tutelage.signals.early_learning import EarlyLearning
from tutelage.signals.implication import Implication, RuleReliability
from tutelage.signals.label_model import (
    Agreement,
    Entropy,
    FollowLabelModel,
    LabelledByBoth,
    LabelModelEvidence,
    LabelModelLabels,
    QualityGuides,
)
from tutelage.signals.objective import Objective
from tutelage.signals.own_answer import OwnAnswer
from tutelage.signals.pixels import PixelCrossEntropy, PixelError, SurfaceNormals
from tutelage.signals.pseudo_labels import PseudoLabels
from tutelage.signals.scaled import Scaled
from tutelage.signals.squared_error import SquaredError
from tutelage.signals.squared_norm import SquaredNorm

__all__ = [
    "Agreement",
    "Batch",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Distillation",
    "EarlyLearning",
    "Entropy",
    "FollowLabelModel",
    "Frozen",
    "Implication",
    "LabelModelEvidence",
    "LabelModelLabels",
    "LabelledByBoth",
    "Objective",
    "Outputs",
    "OwnAnswer",
    "PixelCrossEntropy",
    "PixelError",
    "PseudoLabels",
    "QualityGuides",
    "RuleReliability",
    "Scaled",
    "Signal",
    "SquaredError",
    "SquaredNorm",
    "SurfaceNormals",
]
