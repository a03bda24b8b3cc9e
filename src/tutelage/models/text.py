"""What labels new texts: one classifier of features, or the mean of several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tutelage.checks import check
from tutelage.models.folder import read_model, write_model
from tutelage.models.rules import RuleModel, classifier

MOST = 100


@dataclass(frozen=True)
class TextClassifierSpec:
    """What it takes to build a `TextClassifier`, as plain values.

    Args:
        features: D.
        classes: C.
        kind: each classifier: logistic regression, or a perceptron with two hidden layers.
        hidden: width of the perceptron's layers.
        dropout: before each layer of the perceptron but the first.
        members: how many there are.
    """

    features: int
    classes: int
    kind: Literal["logistic", "mlp"] = "logistic"
    hidden: int = 512
    dropout: float = 0.0
    members: int = 1

    def __post_init__(self) -> None:
        """Check the values, which may come from a stranger's file."""
        sizes = dict.fromkeys(("features", "classes", "hidden"), "[1, 16777216]")
        check(self, dropout="[0, 1)", members=f"[1, {MOST}]", **sizes)


class TextClassifier(nn.Module):
    r"""The mean of the probabilities of several classifiers of a text's features, or one alone.

    .. math:: p(y \mid x) = \frac{1}{M} \sum_{m=1}^{M} p_m(y \mid x)
    """

    def __init__(self, spec: TextClassifierSpec) -> None:
        super().__init__()
        self.spec = spec
        made = [
            classifier(spec.features, spec.classes, spec.kind, spec.hidden, spec.dropout) for _ in range(spec.members)
        ]
        self.members = nn.ModuleList(made)

    def forward(self, features_BD: Tensor) -> Tensor:
        """Return the log-probabilities, (B, C)."""
        told_MBC = torch.stack([member(features_BD) for member in self.members]).log_softmax(2)
        return told_MBC.logsumexp(0) - math.log(len(self.members))

    def save(self, folder: Path, **facts: Any) -> None:
        """Write ``model.safetensors`` and ``config.json`` (the spec, and further plain facts)."""
        write_model(self, self.spec, folder, facts)

    @classmethod
    def load(cls, folder: Path) -> tuple[TextClassifier, dict[str, Any]]:
        """Return the model in eval mode, and the facts that `save` wrote; raises as `read_model` does."""
        return read_model(folder, TextClassifierSpec, cls)


def text_classifier(models: Sequence[RuleModel]) -> TextClassifier:
    """Return the classifiers of trained models, without those of the rules, as one."""
    spec = models[0].spec
    made = TextClassifier(
        TextClassifierSpec(spec.features, spec.classes, spec.kind, spec.hidden, spec.dropout, len(models))
    )
    for member, model in zip(made.members, models, strict=True):
        member.load_state_dict(model.classifier.state_dict())
    return made.eval()
