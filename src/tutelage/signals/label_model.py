r"""SPEAR's terms: a classifier f of features and a label model g of the rules that fire, which learn from each other.

:math:`f_i = \mathrm{softmax}(z_i)` is the head ``classifier``; the head ``label_model`` holds :math:`\log P(y, l_i)`, so that
:math:`g_i` is its softmax. An example is labelled where ``batch["label"]`` is not negative, and covered where a column of
``batch["fired"]`` (B, J) is not 0. The first of SPEAR's seven terms is `CrossEntropy`; where an example has no part in a term,
that is 0.

Source: Maheshwari et al., *Semi-Supervised Data Programming with Subset Selection*, Findings of ACL 2021, table 2 and eq. 4.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.signals.base import Batch, Outputs, Signal, entry, head_of, masked, possible
from tutelage.signals.reading import classes_of, known_classes


def unlabelled(batch: Batch, name: str) -> Tensor:
    """Return which examples have no label, (B,)."""
    return entry(batch, "label", name) < 0


def covered(batch: Batch, name: str) -> Tensor:
    """Return on which examples a rule fires, (B,)."""
    return entry(batch, "fired", name).bool().any(1)


class _OfBoth(Signal):
    """A term that reads the classifier's head and the label model's."""

    def __init__(self, classifier: str | None, label_model: str, name: str) -> None:
        super().__init__(name, classifier)
        self.label_model = label_model

    def joint(self, outputs: Outputs) -> Tensor:
        """Return log P(y, l), (B, C)."""
        return head_of(outputs, self.label_model, f"signal {self.name!r}", "label_model")


class LabelledByBoth(_OfBoth):
    r"""Cross-entropy of the classifier with the label and, if a second label is given, of the label model with it.

    .. math:: \ell_i = -\log f_i(y_i) - [y'_i \ge 0]\,\log g_i(y'_i)

    As the primary signal this lets held-out examples judge both models: give y' there, and -1 in training, where it is then
    SPEAR's first term. Only then do weights of terms that change only the label model have a derivative.

    Args:
        second: the batch's key of y'.
        classifier: the classifier's head.
        label_model: the label model's head.
        name: the signal's name.
    """

    def __init__(
        self,
        second: str = "label_model_label",
        *,
        classifier: str = "classifier",
        label_model: str = "label_model",
        name: str = "label",
    ) -> None:
        super().__init__(classifier, label_model, name)
        self.second = second

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        log_f_BC, log_g_BC = self.own_output(outputs).log_softmax(1), self.joint(outputs).log_softmax(1)
        return _at_label(log_f_BC, batch, "label", self.name) + _at_label(log_g_BC, batch, self.second, self.name)


class Entropy(Signal):
    r"""The entropy of the classifier on unlabelled examples, :math:`\ell_i = H(f_i)` (SPEAR's second term).

    Source: Grandvalet and Bengio, *Semi-supervised Learning by Entropy Minimization*, NIPS 2004.
    """

    def __init__(self, *, head: str | None = "classifier", name: str = "entropy") -> None:
        super().__init__(name, head)

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        log_BC = self.own_output(outputs).log_softmax(1)
        return masked(-(log_BC.exp() * possible(log_BC)).sum(1), unlabelled(batch, self.name))


class FollowLabelModel(_OfBoth):
    r"""Cross-entropy of the classifier with the label model's likeliest class (SPEAR's third term).

    .. math:: \ell_i = -\log f_i(\arg\max_y g_i(y)), \qquad i\ \text{unlabelled and covered}
    """

    def __init__(
        self, *, classifier: str = "classifier", label_model: str = "label_model", name: str = "follow_label_model"
    ) -> None:
        super().__init__(classifier, label_model, name)

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        target_B = self.joint(outputs).detach().argmax(1)
        losses_B = F.cross_entropy(self.own_output(outputs), target_B, reduction="none")
        return masked(losses_B, unlabelled(batch, self.name) & covered(batch, self.name))


class LabelModelLabels(_OfBoth):
    r"""The label model on labelled examples (SPEAR's fourth term).

    "posterior": :math:`\ell_i = -\log g_i(y_i)`, what the released program computes and AMAL describes. "joint":
    :math:`\ell_i = -\log P(y_i, l_i)`, what SPEAR's paper prints.
    """

    def __init__(
        self,
        kind: Literal["posterior", "joint"] = "posterior",
        *,
        label_model: str = "label_model",
        name: str = "label_model_labels",
    ) -> None:
        super().__init__(None, label_model, name)
        self.kind = kind

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        joint_BC = self.joint(outputs)
        return _at_label(joint_BC.log_softmax(1) if self.kind == "posterior" else joint_BC, batch, "label", self.name)


class LabelModelEvidence(_OfBoth):
    r"""How unlikely the rules' votes are, whatever the class: :math:`\ell_i = -\log \sum_y P(y, l_i)` (SPEAR's fifth term).

    Of unlabelled examples, of all where ``everywhere``: alone, with `QualityGuides`, this trains a label model without labels.
    """

    def __init__(
        self, *, everywhere: bool = False, label_model: str = "label_model", name: str = "label_model_evidence"
    ) -> None:
        super().__init__(None, label_model, name)
        self.everywhere = everywhere

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        losses_B = -self.joint(outputs).logsumexp(1)
        return losses_B if self.everywhere else masked(losses_B, unlabelled(batch, self.name))


class Agreement(_OfBoth):
    r"""Where rules fire, both models should agree: :math:`\ell_i = \mathrm{KL}(f_i \| g_i)` (SPEAR's sixth term)."""

    def __init__(
        self, *, classifier: str = "classifier", label_model: str = "label_model", name: str = "agreement"
    ) -> None:
        super().__init__(classifier, label_model, name)

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        log_f_BC, log_g_BC = self.own_output(outputs).log_softmax(1), self.joint(outputs).log_softmax(1)
        log_g_BC = log_g_BC.masked_fill(log_f_BC == -torch.inf, 0)  # what f excludes has no part, whatever g says
        return masked((log_f_BC.exp() * (possible(log_f_BC) - log_g_BC)).sum(1), covered(batch, self.name))


class QualityGuides(Signal):
    r"""Each rule is expected to be right as often as a person guesses (SPEAR's seventh term, CAGE's regulariser).

    .. math:: R = -\sum_j q_j \log p_j + (1 - q_j) \log(1 - p_j)

    where :math:`p_j = P(y = k_j | l_j = 1)` under the label model: in every row the heads ``right`` and ``wrong`` hold its
    logarithm and that of its complement. It concerns no example, and is a scalar.

    Args:
        quality: q, for all rules or for each, in [0, 1].
        name: the signal's name.
    """

    separable = False
    quality: Tensor

    def __init__(self, quality: float | list[float] = 0.9, *, name: str = "quality_guides") -> None:
        super().__init__(name)
        self.register_buffer("quality", torch.as_tensor(quality, dtype=torch.float32))
        if not ((self.quality >= 0) & (self.quality <= 1)).all():
            raise ValueError(f"quality={quality} is how often a rule is right, in [0, 1]")

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the scalar."""
        if isinstance(outputs, Tensor) or not {"right", "wrong"} <= outputs.keys():
            raise ValueError(f"signal {self.name!r} reads the heads 'right' and 'wrong' of a label model such as Cage")
        right_J, wrong_J = outputs["right"][0], outputs["wrong"][0]
        quality_J = self.quality.to(right_J)
        return -(quality_J * right_J + (1 - quality_J) * wrong_J).sum()


def _at_label(log_BC: Tensor, batch: Batch, key: str, name: str) -> Tensor:
    """Return minus the logarithm of each example's label, (B,), 0 where it has none."""
    labels_B, classes = entry(batch, key, name), log_BC.shape[1]
    if labels_B.dim() != 1 or labels_B.is_floating_point():
        raise ValueError(
            f"signal {name!r}: batch[{key!r}] is {labels_B.dtype} {tuple(labels_B.shape)}; expected a class for each example, "
            "integers (B,)"
        )
    losses_B = -log_BC.gather(1, classes_of(labels_B, classes, key, name)[:, None])[:, 0]
    return masked(known_classes(losses_B, labels_B, classes), labels_B >= 0)
