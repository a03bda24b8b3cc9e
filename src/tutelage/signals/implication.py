r"""ImplyLoss: a rule that is right on an example implies its class there; how likely that is, is learned too.

The head ``reliability`` holds the log-odds of :math:`r_{ij} = P(\text{rule } j \text{ is right on } x_i)`, (B, J), and
``batch["fired"]`` (B, J) which columns fire, each for the class ``rule_class[j]``.

Source: Awasthi et al., *Learning from Rules Generalizing Labeled Exemplars*, ICLR 2020, eq. 2 to 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.signals.base import Batch, Outputs, Signal, entry, head_of, masked
from tutelage.signals.label_model import unlabelled


class RuleReliability(Signal):
    r"""What labelled examples say about the rules that fire on them.

    A rule whose class is not the label is wrong: :math:`-\log(1 - r_{ij})`. On its own exemplar it is right:
    :math:`-\log r_{ij}`. Elsewhere it may be right by chance, so the loss tolerates that:
    :math:`(1 - r_{ij}^q) / q` (eq. 3, generalised cross-entropy).

    Args:
        rule_class: the class of each column.
        noise: q in (0, 1]; the authors' is 0.2.
        head: the head of the log-odds.
        name: the signal's name.

    ``batch["exemplar"]`` (B, J) says which example a rule was written for, where that is known.
    """

    rule_class: Tensor

    def __init__(
        self,
        rule_class: Sequence[int],
        *,
        noise: float = 0.2,
        head: str = "reliability",
        name: str = "rule_reliability",
    ) -> None:
        super().__init__(name, head)
        if not 0 < noise <= 1:
            raise ValueError(f"noise={noise} must be in (0, 1]")
        self.noise = noise
        self.register_buffer("rule_class", _classes(rule_class))

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,), summed over the columns that fire."""
        logits_BJ, labels_B = self.own_output(outputs), entry(batch, "label", self.name)
        fired_BJ = entry(batch, "fired", self.name).bool()
        written_for_BJ = (
            entry(batch, "exemplar", self.name).bool() if "exemplar" in batch else torch.zeros_like(fired_BJ)
        )
        found = {f"the head {self.head!r}": logits_BJ, "batch['fired']": fired_BJ, "batch['exemplar']": written_for_BJ}
        _check_columns(self, self.rule_class, found)
        agrees_BJ = labels_B[:, None] == self.rule_class
        log_right_BJ = F.logsigmoid(logits_BJ)
        forgiving_BJ = -(self.noise * log_right_BJ).expm1() / self.noise
        right_BJ = torch.where(written_for_BJ, -log_right_BJ, forgiving_BJ)
        losses_BJ = torch.where(agrees_BJ, right_BJ, -F.logsigmoid(-logits_BJ))
        return masked((losses_BJ * fired_BJ).sum(1), labels_B >= 0)


class Implication(Signal):
    r"""Where a rule fires and is right, the classifier says its class (eq. 4), on unlabelled examples.

    .. math:: \ell_i = -\sum_{j\ \text{fires}} \log\big(1 - r_{ij}\,(1 - f_i(k_j))\big)

    Args:
        rule_class: the class of each column.
        weight: gamma, how far the term counts; the authors' are 0.1 to 0.2.
        classifier: the classifier's head.
        reliability: the head of the log-odds.
        name: the signal's name.
    """

    rule_class: Tensor

    def __init__(
        self,
        rule_class: Sequence[int],
        *,
        weight: float = 0.1,
        classifier: str = "classifier",
        reliability: str = "reliability",
        name: str = "implication",
    ) -> None:
        super().__init__(name, classifier)
        if weight <= 0:
            raise ValueError(f"weight={weight} must be positive")
        self.weight = weight
        self.reliability = reliability
        self.register_buffer("rule_class", _classes(rule_class))
        self.highest = int(self.rule_class.max())  # read once, and not from an accelerator at every step

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        log_f_BC = self.own_output(outputs).log_softmax(1)
        logits_BJ = head_of(outputs, self.reliability, f"signal {self.name!r}", "reliability")
        fired_BJ = entry(batch, "fired", self.name).bool()
        found = {f"the head {self.reliability!r}": logits_BJ, "batch['fired']": fired_BJ}
        _check_columns(self, self.rule_class, found)
        if self.highest >= log_f_BC.shape[1]:
            raise ValueError(
                f"signal {self.name!r}: rule_class holds class {self.highest}, and the classifier has {log_f_BC.shape[1]}; "
                "count classes from 0"
            )
        # 1 - r (1 - f) = (1 - r) + r f, in logarithms, which stay finite where r and 1 - f round to 1.
        log_BJ = torch.logaddexp(F.logsigmoid(-logits_BJ), F.logsigmoid(logits_BJ) + log_f_BC[:, self.rule_class])
        return masked(-self.weight * (log_BJ * fired_BJ).sum(1), unlabelled(batch, self.name))


def _classes(rule_class: Sequence[int]) -> Tensor:
    if not len(rule_class) or min(rule_class) < 0:
        raise ValueError(f"rule_class={list(rule_class)!r} must be the class of each column, counted from 0")
    return torch.tensor(rule_class)


def _check_columns(signal: Signal, rule_class: Tensor, found: Mapping[str, Tensor]) -> None:
    for place, each in found.items():
        if each.dim() != 2 or each.shape[1] != len(rule_class):
            raise ValueError(
                f"signal {signal.name!r}: {place} is {tuple(each.shape)}; rule_class names {len(rule_class)} columns, so "
                f"expected (B, {len(rule_class)})"
            )
