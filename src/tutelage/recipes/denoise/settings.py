"""The settings of `tutelage denoise`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tutelage.checks import check
from tutelage.data.text import FeatureSettings
from tutelage.training import Budget, Hardware, Optimization
from tutelage.weighting import registry
from tutelage.weighting.settings import AdaptSettings, check_names, options_of

Method = Literal["only_labels", "cage", "imply_loss", "weak_labels", "weighted_votes", "spear"]
LOSSES: dict[Method, tuple[int, str]] = {
    "only_labels": (1, "equal"),
    "cage": (4, "equal"),
    "imply_loss": (3, "equal"),
    "weak_labels": (1, "learning_to_reweight"),
    "weighted_votes": (1, "equal"),
    "spear": (7, "amal"),
}
"""How many losses a method has, and what weighs them where nothing else is named."""


@dataclass(frozen=True)
class ClassifierSettings:
    """Classifier, the model that labels new texts.

    Args:
        kind: Kind of model: logistic (regression), or mlp (two hidden layers, as in the paper).
        hidden: Width of the hidden layers.
        dropout: Dropout rate after each hidden layer.
    """

    kind: Literal["logistic", "mlp"] = "mlp"
    hidden: int = 512
    dropout: float = 0.2

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "classifier", hidden="[1, 65536]", dropout="[0, 1)")


@dataclass(frozen=True)
class RuleSettings:
    """Model of the labelling functions (rules), trained with the classifier.

    Args:
        lr: Learning rate.
        quality: Prior accuracy of a rule, for spear and amal.
        quality_of_scores: Prior mean score of a continuous rule where it is right.
        hidden: For imply_loss: width of the network that predicts the rules' reliability.
        implication: For imply_loss: weight of the implication on unlabelled texts.
        noise: For imply_loss: exponent q of the generalised cross-entropy.
    """

    lr: float = 0.01
    quality: float = 0.9
    quality_of_scores: float = 0.85
    hidden: int = 32
    implication: float = 0.1
    noise: float = 0.2

    def __post_init__(self) -> None:
        """Check the values."""
        positive = dict.fromkeys(("lr", "implication"), "(0, inf)")
        qualities = dict.fromkeys(("quality", "quality_of_scores"), "(0, 1)")
        check(self, "rule_model", **positive, **qualities, hidden="[1, 65536]", noise="[0, 1]")


@dataclass(frozen=True)
class Parts:
    """Division of the labelled texts that have no split; the rest is for training.

    Args:
        val: Share for validation, which selects checkpoints and on which weights are learned.
        test: Share of the test set.
        seed: Random seed of the division.
    """

    val: float = 0.3
    test: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the shares."""
        check(self, "parts", val="(0, 1)", test="(0, 1)")
        if self.val + self.test >= 1:
            raise ValueError(f"parts.val={self.val} and parts.test={self.test} are shares that leave some for training")


@dataclass(frozen=True)
class DenoiseSettings:
    """Settings of text classification from labelling functions (rules) and few labels. The defaults are the paper's.

    Args:
        seed: Random seed for everything except the parts, which have their own.
        method: Losses: spear (labels, rules, and agreement of classifier and label model), imply_loss, cage, weak_labels
            (each text by the majority of its rules), weighted_votes (by its rules, weighted by how often labels agree with
            them), or only_labels.
        weighting: Weighting of the losses: amal, equal, joint, meta_weight_net or any other in docs/methods; null is the
            method's own: amal for spear, learning_to_reweight for weak_labels, equal for the others.
        weighting_options: Options of the weighting, such as {lr: 0.3}.
        weighting_defaults: Default options of weightings, by name; weighting_options overrides them.
        adapt: Schedule of learned weights (learning_to_reweight learns them at each step).
        held_out: Share of the validation part on which weights are learned; the rest then selects. With 1, all of it does
            both, as in the paper, which biases the selection.
        judged_on: Models that the held-out loss of spear judges: classifier, or both; with classifier, the weights of terms
            that concern only the label model have no derivative.
        features: Features of a text.
        classifier: Model that labels new texts.
        rule_model: Model of the rules.
        training: Optimisation of the classifier.
        budget: Training budget; an epoch is one pass over the unlabelled texts on which a rule votes.
        labelled_share: Share of labelled texts in each batch.
        select_by: Metric that selects a checkpoint and what is served on the validation part, and is the headline. With
            macro_f1 training shows the classes equally often, and the classifier gets their frequencies among the labels back.
        parts: Division of the labelled texts that have no split.
        suggest: Number of texts to propose for labelling next.
        hardware: Precision, compilation, data-loading workers and trackers.
    """

    seed: int = 0
    method: Method = "spear"
    weighting: str | None = None
    weighting_options: dict[str, Any] = field(default_factory=dict)
    weighting_defaults: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"amal": {"lr": 0.1}, "joint": {"lr": 0.1}}
    )
    adapt: AdaptSettings = AdaptSettings(every=2)
    held_out: float = 0.5
    judged_on: Literal["classifier", "both"] = "both"
    features: FeatureSettings = FeatureSettings(kind="sentences")
    classifier: ClassifierSettings = ClassifierSettings()
    rule_model: RuleSettings = RuleSettings()
    training: Optimization = Optimization(lr=5e-4, weight_decay=0.0, batch_size=64)
    budget: Budget = Budget(epochs=100)
    labelled_share: float = 0.5
    select_by: Literal["macro_f1", "accuracy"] = "macro_f1"
    parts: Parts = Parts()
    suggest: int = 50
    hardware: Hardware = Hardware()

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, labelled_share="(0, 1)", suggest="[0, inf)", held_out="(0, 1]")
        check_names(self)
        registry.check(self.weighed_by, LOSSES[self.method][0], options_of(self, self.weighed_by))

    @property
    def weighed_by(self) -> str:
        """The name of the weighting."""
        return self.weighting or LOSSES[self.method][1]


def pocket() -> DenoiseSettings:
    """Return the settings for TF-IDF and logistic regression: seconds on a CPU."""
    return replace(
        DenoiseSettings(),
        features=FeatureSettings(max_features=2000),
        classifier=ClassifierSettings(kind="logistic"),
        training=Optimization(lr=0.01, weight_decay=0.0, batch_size=128),
        budget=Budget(steps=300),
    )
