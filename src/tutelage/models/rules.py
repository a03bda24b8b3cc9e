r"""Models of labelling rules: a generative one (CAGE), one of each rule's reliability, and the classifiers beside them.

Rules are seen *unipolar*: J columns, each of which fires or not and stands for one class. A rule that votes for two classes is
two columns. Shapes: B examples, J columns, C classes, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.checks import check
from tutelage.models.folder import read_model, write_model


class Cage(nn.Module):
    r"""A generative model of which rules fire, and how strongly, given the class.

    .. math:: P_{\theta,\pi}(y, l, s) = \frac1Z \prod_j e^{\theta_{jy} l_j}
        \prod_{j: l_j = 1,\ \text{continuous}} \mathrm{Beta}(s_j; \alpha_{jy}, \beta_{jy}), \qquad
        Z = \sum_y \prod_j (1 + e^{\theta_{jy}})

    with :math:`\alpha = r e^{\pi_{jy}}, \beta = (1 - r) e^{\pi_{jy}}`, where r is the quality guide of the column if y is its
    class, and 1 less that otherwise. Densities integrate to 1, so Z is that of the discrete model. Everything is computed in
    logarithms: no product of J factors is ever formed.

    Args:
        rule_class: the class of each column, J of them.
        classes: C.
        continuous: whether each column has a score; none by default.
        quality: of continuous columns: the mean score that is expected where they are right.

    Raises:
        ValueError: a class outside 0..C-1, or a quality outside (0, 1).

    Source: Chatterjee et al., *Robust Data Programming with Precision-guided Labeling Functions*, AAAI 2020, eq. 1 to 5.
    """

    rule_class: Tensor
    continuous: Tensor
    share: Tensor

    def __init__(
        self,
        rule_class: Sequence[int],
        classes: int,
        *,
        continuous: Sequence[bool] | None = None,
        quality: float = 0.85,
    ) -> None:
        super().__init__()
        if not rule_class or not all(0 <= label < classes for label in rule_class):
            raise ValueError(f"rule_class={list(rule_class)} must name a class from 0 to {classes - 1} for each column")
        if not 0 < quality < 1:
            raise ValueError(f"quality={quality} is the mean of a score, in (0, 1)")
        count = len(rule_class)
        self.theta = nn.Parameter(torch.ones(count, classes))
        self.log_precision = nn.Parameter(torch.ones(count, classes))
        self.register_buffer("rule_class", torch.tensor(rule_class))
        self.register_buffer("continuous", torch.tensor(continuous or [False] * count))
        own_JC = F.one_hot(self.rule_class, classes).bool()
        self.register_buffer("share", torch.where(own_JC, quality, 1 - quality))

    def forward(self, fired_BJ: Tensor, scores_BJ: Tensor | None = None) -> Tensor:
        """Return log P(y, l, s) for every class, (B, C).

        Args:
            fired_BJ: whether each column fires, 0 or 1.
            scores_BJ: the scores, in [0, 1], of continuous columns; what stands elsewhere does not matter.
        """
        fired_BJ = fired_BJ.to(self.theta.dtype)
        # a product in bfloat16 keeps two digits of a log-probability
        with torch.autocast(fired_BJ.device.type, enabled=False):
            joint_BC = fired_BJ @ self.theta - self.log_normaliser()
            if scores_BJ is not None and bool(self.continuous.any()):
                fired_BJ = fired_BJ * self.continuous
                joint_BC = joint_BC + torch.einsum("bj,bjc->bc", fired_BJ, self._log_density(scores_BJ))
        return joint_BC

    def log_normaliser(self) -> Tensor:
        """Return log Z."""
        return F.softplus(self.theta).sum(0).logsumexp(0)

    def log_right(self) -> tuple[Tensor, Tensor]:
        r"""Return the logarithms of each column's precision under the model and of its complement, (J,) both.

        .. math:: p_j = P_\theta(y = k_j \mid l_j = 1) \propto e^{\theta_{jk_j}} \prod_{r \ne j} (1 + e^{\theta_{rk_j}})
        """
        soft_JC = F.softplus(self.theta)
        log_JC = (self.theta + soft_JC.sum(0) - soft_JC).log_softmax(1)
        own_JC = F.one_hot(self.rule_class, log_JC.shape[1]).bool()
        right_J = log_JC.gather(1, self.rule_class[:, None])[:, 0]
        return right_J, log_JC.masked_fill(own_JC, -torch.inf).logsumexp(1)

    def _log_density(self, scores_BJ: Tensor) -> Tensor:
        """Return log Beta(s_j; a_jy, b_jy), (B, J, C); scores are kept a thousandth from the ends, as by the authors."""
        s_BJ1 = scores_BJ.to(self.theta.dtype).clamp(1e-3, 1 - 1e-3)[:, :, None]
        total_JC = self.log_precision.exp()
        a_JC, b_JC = self.share * total_JC, (1 - self.share) * total_JC
        constant_JC = torch.lgamma(total_JC) - torch.lgamma(a_JC) - torch.lgamma(b_JC)
        return constant_JC + (a_JC - 1) * s_BJ1.log() + (b_JC - 1) * (-s_BJ1).log1p()


class Reliability(nn.Module):
    r"""How likely a rule is right on an example: :math:`P_\phi(r_j = 1 | x)`, as log-odds (B, J).

    One network for all rules, told which by a learned vector that is added in its first layer.

    Source: Awasthi et al., *Learning from Rules Generalizing Labeled Exemplars*, ICLR 2020, section 2.1.
    """

    def __init__(self, features: int, rules: int, hidden: int) -> None:
        super().__init__()
        self.input = nn.Linear(features, hidden)
        self.rule = nn.Parameter(torch.randn(rules, hidden) / hidden**0.5)
        self.middle = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, 1)

    def forward(self, features_BD: Tensor) -> Tensor:
        """Return the log-odds (B, J)."""
        hidden_BJH = F.relu(self.input(features_BD)[:, None] + self.rule)
        return self.output(F.relu(self.middle(hidden_BJH)))[:, :, 0]


@dataclass(frozen=True)
class RuleModelSpec:
    """What it takes to build a `RuleModel`, as plain values.

    Args:
        features: D.
        rule_class: the class of each column.
        classes: C.
        continuous: whether each column has a score.
        kind: the classifier: logistic regression, or a perceptron with two hidden layers.
        hidden: width of the perceptron's layers.
        dropout: before each layer of the perceptron but the first.
        rules: cage, reliability, or none.
        rules_hidden: width of the reliability network's layers.
        quality: of continuous columns, see `Cage`.
    """

    features: int
    rule_class: tuple[int, ...]
    classes: int
    continuous: tuple[bool, ...] = ()
    kind: Literal["logistic", "mlp"] = "logistic"
    hidden: int = 512
    dropout: float = 0.0
    rules: Literal["cage", "reliability", "none"] = "cage"
    rules_hidden: int = 32
    quality: float = 0.85

    def __post_init__(self) -> None:
        """Check the values, which may come from a stranger's file."""
        sizes = dict.fromkeys(("features", "classes", "hidden", "rules_hidden"), "[1, 16777216]")
        check(self, rule_class="[0, inf)", dropout="[0, 1)", quality="(0, 1)", **sizes)


class RuleModel(nn.Module):
    """A classifier of features and, beside it, a model of the rules, so that one optimiser and one loop train both.

    The input holds the features, whether each column fires, and its scores, side by side: (B, D + 2J). The outputs by head:
    ``classifier``, logits (B, C); with CAGE ``label_model``, log P(y, l, s) (B, C), and ``right`` and ``wrong``, the
    logarithms of the columns' precisions and of their complements (B, J), the same in every row; with a reliability network
    ``reliability``, log-odds (B, J).
    """

    heads = ("rules",)

    def __init__(self, spec: RuleModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.classifier = classifier(spec.features, spec.classes, spec.kind, spec.hidden, spec.dropout)
        self.rules: nn.Module | None = None
        if spec.rules == "cage":
            self.rules = Cage(spec.rule_class, spec.classes, continuous=spec.continuous, quality=spec.quality)
        elif spec.rules == "reliability":
            self.rules = Reliability(spec.features, len(spec.rule_class), spec.rules_hidden)

    def forward(self, input: Tensor) -> dict[str, Tensor]:
        """Return the logits by head."""
        columns = len(self.spec.rule_class)
        features_BD, fired_BJ, scores_BJ = input.split([self.spec.features, columns, columns], 1)
        outputs = {"classifier": self.classifier(features_BD)}
        if isinstance(self.rules, Cage):
            outputs["label_model"] = self.rules(fired_BJ, scores_BJ)
            right_J, wrong_J = self.rules.log_right()
            outputs["right"] = right_J.expand(len(input), -1)
            outputs["wrong"] = wrong_J.expand(len(input), -1)
        elif self.rules is not None:
            outputs["reliability"] = self.rules(features_BD)
        return outputs

    @torch.no_grad()
    def add_to_logits(self, added_C: Tensor) -> None:
        """Add a number to the classifier's logit of each class, (C,)."""
        last = [part for part in self.classifier.modules() if isinstance(part, nn.Linear)][-1]
        last.bias.add_(added_C.to(last.bias))

    def save(self, folder: Path, **facts: Any) -> None:
        """Write ``model.safetensors`` and ``config.json`` (the spec, and further plain facts)."""
        write_model(self, self.spec, folder, facts)

    @classmethod
    def load(cls, folder: Path) -> tuple[RuleModel, dict[str, Any]]:
        """Return the model in eval mode, and the facts that `save` wrote; raises as `read_model` does."""
        return read_model(folder, RuleModelSpec, cls)


def classifier(features: int, classes: int, kind: str, hidden: int, dropout: float) -> nn.Module:
    """Return logistic regression, from zero weights, or a perceptron with two hidden layers."""
    if kind == "logistic":
        layer = nn.Linear(features, classes)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer
    return nn.Sequential(
        nn.Linear(features, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, classes),
    )
