"""One per-example loss for each source of supervision, and the objective that evaluates them all."""

from tutelage.signals.base import Batch, Outputs, Signal
from tutelage.signals.binary_cross_entropy import BinaryCrossEntropy
from tutelage.signals.cross_entropy import CrossEntropy
from tutelage.signals.distillation import Distillation, Frozen
from tutelage.signals.objective import Objective

__all__ = [
    "Batch",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Distillation",
    "Frozen",
    "Objective",
    "Outputs",
    "Signal",
]
