"""Tutelage: train PyTorch models when labels are few, noisy or incomplete.

One update underlies everything here,

    theta_m <- theta_m - eta * 1/n sum_i sum_k  c[i,k,m] * grad_{theta_m} l_k(x_i, t_k(x_i))

over the n examples of a batch, and each subpackage answers one question about it: which losses and targets there are
(`signals`), how far each counts (`weighting`), which hidden sub-tasks a label holds (`subtasks`), and how one model is
trained on all that (`training`).

Shapes in names: B examples of a batch, N of a data set, C classes, K signals (or sub-tasks), M modules, P parameters.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutelage.data import Indexed, TensorData, endless
    from tutelage.metrics import LabelIssues, find_label_issues
    from tutelage.signals import (
        Agreement,
        BinaryCrossEntropy,
        CrossEntropy,
        Distillation,
        EarlyLearning,
        Entropy,
        FollowLabelModel,
        Implication,
        LabelledByBoth,
        LabelModelEvidence,
        LabelModelLabels,
        Objective,
        OwnAnswer,
        PixelCrossEntropy,
        PixelError,
        PseudoLabels,
        QualityGuides,
        RuleReliability,
        Scaled,
        Signal,
        SquaredError,
        SquaredNorm,
        SurfaceNormals,
    )
    from tutelage.training import Budget, Hardware, Optimization, Plan
    from tutelage.training.fit import Fitted, fit  # else mypy takes these functions for the modules of their names
    from tutelage.training.predict import predict
    from tutelage.weighting import (
        AMAL,
        CRUST,
        IEG,
        MAOAL,
        AuxiLearn,
        CleanNet,
        CurriculumNet,
        DroppedTeachers,
        Equal,
        Fixed,
        GradientCosine,
        Joint,
        LearnedMentorNet,
        LearningToReweight,
        MentorNet,
        MetaWeightNet,
        Partition,
        SuperLoss,
        Uncertainty,
        Weighting,
        sweep,
    )

__version__ = "0.1.0"

__all__ = [
    "AMAL",
    "CRUST",
    "IEG",
    "MAOAL",
    "Agreement",
    "AuxiLearn",
    "BinaryCrossEntropy",
    "Budget",
    "CleanNet",
    "CrossEntropy",
    "CurriculumNet",
    "Distillation",
    "DroppedTeachers",
    "EarlyLearning",
    "Entropy",
    "Equal",
    "Fitted",
    "Fixed",
    "FollowLabelModel",
    "GradientCosine",
    "Hardware",
    "Implication",
    "Indexed",
    "Joint",
    "LabelIssues",
    "LabelModelEvidence",
    "LabelModelLabels",
    "LabelledByBoth",
    "LearnedMentorNet",
    "LearningToReweight",
    "MentorNet",
    "MetaWeightNet",
    "Objective",
    "Optimization",
    "OwnAnswer",
    "Partition",
    "PixelCrossEntropy",
    "PixelError",
    "Plan",
    "PseudoLabels",
    "QualityGuides",
    "RuleReliability",
    "Scaled",
    "Signal",
    "SquaredError",
    "SquaredNorm",
    "SuperLoss",
    "SurfaceNormals",
    "TensorData",
    "Uncertainty",
    "Weighting",
    "__version__",
    "endless",
    "find_label_issues",
    "fit",
    "predict",
    "sweep",
]
_ROOMS = ("metrics", "signals", "weighting", "data", "training")  # in the order of what it takes to import them


def __getattr__(name: str) -> Any:
    """Look a name up in the rooms when it is first used, since PyTorch takes a second to import."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    rooms = (import_module(f"{__name__}.{room}") for room in _ROOMS)
    return next(getattr(room, name) for room in rooms if name in room.__all__)


def __dir__() -> list[str]:
    return sorted(__all__)
