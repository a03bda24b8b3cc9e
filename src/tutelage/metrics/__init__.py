"""How good a model is, and how sure we are of it: numpy only."""

from tutelage.metrics.calibration import Calibration, calibrate, calibration_error, label_errors, right_labels
from tutelage.metrics.chance import beyond_chance
from tutelage.metrics.classification import accuracy, f1, macro_f1
from tutelage.metrics.clustering import normalised_mutual_information, purity
from tutelage.metrics.confusion_intervals import confusion_interval
from tutelage.metrics.intervals import Interval, bootstrap, bootstrap_rows, paired_bootstrap
from tutelage.metrics.label_issues import LabelIssues, doubts, find_label_issues
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
from tutelage.metrics.multilabel import (
    added_label_score,
    given_label_recall,
    label_sets,
    mean_average_precision,
    mean_set_size,
    pw_jaccard,
    real_accuracy,
    real_f1,
)
from tutelage.metrics.ranking import auroc, average_precision
from tutelage.metrics.rate_intervals import intervals_at_fpr
from tutelage.metrics.segmentation import mean_iou, pixel_accuracy

__all__ = [
    "Calibration",
    "Interval",
    "LabelIssues",
    "OperatingPoint",
    "accuracy",
    "added_label_score",
    "auroc",
    "average_precision",
    "beyond_chance",
    "bootstrap",
    "bootstrap_rows",
    "calibrate",
    "calibration_error",
    "confusion_interval",
    "doubts",
    "f1",
    "find_label_issues",
    "given_label_recall",
    "intervals_at_fpr",
    "label_errors",
    "label_sets",
    "lift_at_fpr",
    "local_precision",
    "macro_f1",
    "mean_average_precision",
    "mean_iou",
    "mean_set_size",
    "normalised_mutual_information",
    "npv_at_fpr",
    "npv_floor",
    "operating_point",
    "paired_bootstrap",
    "pixel_accuracy",
    "purity",
    "pw_jaccard",
    "real_accuracy",
    "real_f1",
    "recall_at_fpr",
    "right_labels",
    "threshold_at_fpr",
]
