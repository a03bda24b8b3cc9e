"""Tutelage: train PyTorch models when labels are few, noisy or incomplete.

One update underlies everything here,

    theta_m <- theta_m - eta * sum_i sum_k  c[i,k,m] * grad_{theta_m} l_k(x_i, t_k(x_i))

and each room answers one question about it: which losses and targets there are (`signals`), how far each counts
(`weighting`), which hidden sub-tasks a label holds (`subtasks`), and how one model is trained on all that (`training`).

Shapes in names: B examples of a batch, N of a data set, C classes, K signals (or sub-tasks), M modules, P parameters.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutelage.signals import BinaryCrossEntropy, CrossEntropy, Distillation, Objective, Signal
    from tutelage.weighting import AMAL, MAOAL, Equal, Fixed, Joint, Weighting

__version__ = "0.1.0"

__all__ = [
    "AMAL",
    "MAOAL",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Distillation",
    "Equal",
    "Fixed",
    "Joint",
    "Objective",
    "Signal",
    "Weighting",
    "__version__",
]
_SIGNALS = {"BinaryCrossEntropy", "CrossEntropy", "Distillation", "Objective", "Signal"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("tutelage.signals" if name in _SIGNALS else "tutelage.weighting"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
