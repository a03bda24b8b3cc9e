"""How good a moderation model is, and how sure we are of it: numpy only."""

from tutelage.metrics.clustering import normalised_mutual_information, purity
from tutelage.metrics.intervals import Interval, bootstrap, paired_bootstrap
from tutelage.metrics.moderation import (
    OperatingPoint,
    lift_at_fpr,
    local_precision,
    npv_at_fpr,
    npv_floor,
    operating_point,
    recall_at_fpr,
    threshold_at_fpr,
)
from tutelage.metrics.ranking import auroc, average_precision

__all__ = [
    "Interval",
    "OperatingPoint",
    "auroc",
    "average_precision",
    "bootstrap",
    "lift_at_fpr",
    "local_precision",
    "normalised_mutual_information",
    "npv_at_fpr",
    "npv_floor",
    "operating_point",
    "paired_bootstrap",
    "purity",
    "recall_at_fpr",
    "threshold_at_fpr",
]
