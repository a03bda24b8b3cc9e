"""How far each signal counts, for each example and each module: one file a method."""

from tutelage.weighting.base import ModuleWeights, Weighting
from tutelage.weighting.fixed import Equal, Fixed

__all__ = ["Equal", "Fixed", "ModuleWeights", "Weighting"]
