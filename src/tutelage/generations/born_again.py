"""Born-again networks and iterated self-distillation: each generation is a fresh model that learns from the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tutelage.checks import check
from tutelage.generations.chain import NewModel
from tutelage.signals import BinaryCrossEntropy, CrossEntropy, Distillation, Signal
from tutelage.signals.pseudo_labels import PseudoLabels
from tutelage.training import Fitted, Plan, fit
from tutelage.weighting import Fixed


@dataclass(frozen=True)
class BornAgainSettings:
    """How the generations follow one another.

    Args:
        generations: How many models are trained, the first on the labels.
        language: What a teacher says: soft (softmax, KL divergence), hard (argmax, cross-entropy) or sets (sigmoid, threshold,
            binary cross-entropy).
        weight: What the teacher counts; the labels count 1 - weight. Born-again networks take a half of each.
        temperature: Of the soft language.
        rho: Threshold of sets.
    """

    generations: int = 2
    language: Literal["soft", "hard", "sets"] = "soft"
    weight: float = 1.0
    temperature: float = 1.0
    rho: float = 0.25

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, generations="[1, inf)", weight="[0, 1]", temperature="(0, inf)", rho="[0, 1)")


def born_again(
    new: NewModel, train: Any, settings: BornAgainSettings, plan: Plan, *, target: str = "label"
) -> list[Fitted]:
    """Train the generations one after another, each to its end, and return them all.

    Figure 5 of MILe compares "two iterations" (this, with two generations) with "many" (`iterate`, with the same languages).

    Args:
        new: ``new(g)``, a fresh model for each generation.
        train: the data set.
        settings: how many, and what they say.
        plan: what the trainings share.
        target: the batch's key of the labels.

    Source: Furlanello et al., *Born Again Neural Networks*, ICML 2018; Mobahi et al., *Self-Distillation Amplifies
    Regularization in Hilbert Space*, NeurIPS 2020.
    """
    sets = settings.language == "sets"
    chain: list[Fitted] = []
    for generation in range(settings.generations):
        labels: Signal = BinaryCrossEntropy(target) if sets else CrossEntropy(target)
        signals, weights = [labels], [1.0]
        if chain:
            teacher = chain[-1].model
            if settings.language == "sets":
                said: Signal = PseudoLabels(teacher, rho=settings.rho)
            else:
                said = Distillation(teacher, temperature=settings.temperature, kind=settings.language)
            signals, weights = [labels, said], [1 - settings.weight, settings.weight]
        own = plan.named(f"generation-{generation}")
        chain.append(fit(new(generation), train, signals=signals, plan=own, weighting=Fixed(weights)))
    return chain
