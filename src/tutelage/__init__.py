"""Tutelage: train PyTorch models when labels are few, noisy or incomplete.

One update underlies everything here,

    theta_m <- theta_m - eta * sum_i sum_k  c[i,k,m] * grad_{theta_m} l_k(x_i, t_k(x_i))

and each room answers one question about it: which losses and targets there are (`signals`), how far each counts
(`weighting`), which hidden sub-tasks a label holds (`subtasks`), and how one model is trained on all that (`training`).

Shapes in names: B examples of a batch, N of a data set, C classes, K signals (or sub-tasks), M modules, P parameters.
"""

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
