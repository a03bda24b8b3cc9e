"""What a run trains, and which of it is served: the mean of what held-out labels cannot tell from the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tutelage.data.votes import wilson
from tutelage.metrics import accuracy, macro_f1
from tutelage.recipes.denoise.methods import SELECTING, Trained, divided_val
from tutelage.recipes.denoise.settings import DenoiseSettings
from tutelage.recipes.denoise.task import RuleTask
from tutelage.recipes.served import DOUBT, Served, serve_mean, unbeaten

METRICS = {"macro_f1": macro_f1, "accuracy": accuracy}
ALONE, VOTES, WEIGHTED, METHOD, MEAN = "all_labels", "votes", "weighted_votes", "method", "mean"


@dataclass(frozen=True)
class Candidate:
    """One of the classifiers that may be served.

    Attributes:
        first: trained without the labels of the validation part, by which candidates are compared.
        refit: trained on these, too, which is served.
        stage: where the first training's stage lies.
    """

    first: Trained
    refit: Trained
    stage: Path


@dataclass(frozen=True)
class Models:
    """What a run has trained.

    Attributes:
        candidates: by name: ``method``, what was asked for; ``votes``, the classifier that learns the labels and the majority
            of the rules; ``weighted_votes``, the one that learns the labels and the rules as far as labels say that they are
            right; ``all_labels``, the one that learns the labels alone.
        choice: which of them are served.
    """

    candidates: dict[str, Candidate]
    choice: Served

    @property
    def asked(self) -> Candidate:
        """What was asked for."""
        return self.candidates[self.choice.asked]

    @property
    def served(self) -> list[Candidate]:
        """Those whose mean is served."""
        return [self.candidates[name] for name in self.choice.members]

    def probabilities(self, *, first: bool = False) -> NDArray[np.float64]:
        """Return those of what is served, for every text; the first trainings' have not learned the validation's labels."""
        return mean_of([each.first if first else each.refit for each in self.served])


def mean_of(trained: Sequence[Trained]) -> NDArray[np.float64]:
    """Return the mean of the classifiers' probabilities, for every text, (N, C)."""
    found: NDArray[np.float64] = np.mean([each.probabilities for each in trained], 0)
    return found


def settings_of(task: RuleTask, settings: DenoiseSettings) -> dict[str, DenoiseSettings]:
    r"""Return the settings of each candidate's training, what was asked for first.

    Where labels alone were asked for, rules are not learned from; where no text is labelled, labels are not. Where fewer than
    `SELECTING` validation texts would teach the weights of the losses, which would learn their chance, a method that has no
    weighting named has equal weights. A logistic regression on n labels alone has a standard normal prior on its weights,

    .. math:: \min_w \frac{1}{n} \sum_i \ell_i(w) + \frac{1}{2n} \lVert w \rVert^2,

    without which it would be sure of itself by a handful of texts, and outvote others in the mean.
    """
    few, _, val = task.parts()
    learned = few if len(val) == 0 else torch.cat([few, val])
    plain = replace(settings, weighting=None, weighting_options={})
    alone = replace(plain, method="only_labels")
    if settings.classifier.kind == "logistic" and len(learned):
        training = settings.training
        kind: Literal["adam", "sgd"] = "sgd" if training.optimizer == "sgd" else "adam"  # adamw's decay is no prior
        prior = replace(training, optimizer=kind, weight_decay=1 / len(learned))
        alone = replace(alone, training=prior)
    if settings.method == "only_labels":
        return {ALONE: replace(alone, weighting=settings.weighting, weighting_options=settings.weighting_options)}
    if settings.weighting is None and not settings.weighting_options and len(val) < SELECTING:
        settings = replace(settings, weighting="equal")
    votes = replace(plain, method="weak_labels", weighting="equal")
    found = {VOTES: votes}
    if len(few):
        found[WEIGHTED] = replace(votes, method="weighted_votes")
    same = [
        name for name, own in found.items() if (own.method, own.weighed_by) == (settings.method, settings.weighed_by)
    ]
    found = {name: found[name] for name in (*same, *found)} if same else {METHOD: settings, **found}
    return {**found, ALONE: alone} if len(learned) else found


def chosen(task: RuleTask, settings: DenoiseSettings, first: dict[str, Trained]) -> Served:
    """Choose the served model on the texts of the validation part that no candidate has learned from.

    A candidate is left out where another one is surely better: in 90 % of the resamples of these texts, and, since the
    resamples of a handful know of no other texts, also by the exact sign test at 10 % on those that only one of the two names
    rightly (four against none at least). Few texts can tell nothing, and then all candidates stay: what is learned from rules
    makes up for few labels, and labels for bad rules; but where rules are `refuted`, nothing that learns from them is served.
    The majority of the rules is no candidate, since a new text comes without votes.

    Args:
        task: texts, labels, votes.
        settings: of the run.
        first: each candidate's training without the validation part's labels, what was asked for first.
    """
    asked = next(iter(first))
    plain = ALONE if ALONE in first else asked
    criterion = f"{settings.select_by.replace('_f1', ' F1')} on the validation part"
    rows = task.parts()[2]
    if first[asked].weighting.learns:
        _, rows = divided_val(task, rows, settings)
    if len(rows) == 0:
        why = "since no text is labelled by which they could be compared"
        name = MEAN if len(first) > 1 else asked
        return Served(criterion, plain, asked, name, tuple(first), why, 0, {}, {})
    figure, truth = METRICS[settings.select_by], task.labels[rows].numpy()
    said = {name: [trained.probabilities[rows.numpy()].argmax(1)] for name, trained in first.items()}
    best = max(said, key=lambda name: figure(said[name][0], truth))
    wrong = refuted(task) if plain == ALONE else None
    members = (
        (ALONE,)
        if wrong
        else tuple(
            name
            for name in said
            if name == best
            or not any(
                sign_test(said[other][0] == truth, said[name][0] == truth) <= DOUBT
                and name not in unbeaten(figure, {other: said[other], name: said[name]}, [truth], seed=settings.seed)
                for other in said
                if other != name
            )
        )
    )
    if len(members) > 1:
        said[MEAN] = [mean_of([first[name] for name in members])[rows.numpy()].argmax(1)]
    found = serve_mean(
        figure,
        said,
        [truth],
        mean=MEAN,
        members=members,
        criterion=criterion,
        plain=plain,
        asked=asked,
        seed=settings.seed,
    )
    return replace(found, why=f"since {wrong};") if wrong else found


def refuted(task: RuleTask) -> str | None:
    """Say that labels of the training and validation parts show the rules' majority to be worse than chance, or nothing.

    Where Wilson's 95 % interval of its accuracy ends below one in as many as there are classes.
    """
    few, _, val = task.parts()
    rows = torch.cat([few, val]).numpy()
    rows = rows[~task.tied()[rows]]
    right = int((task.majority()[rows] == task.labels.numpy()[rows]).sum())
    _, high = wilson(np.array([right]), np.array([len(rows)]))
    if not high[0] < 1 / len(task.classes):
        return None
    return f"the rules' majority, right on {right} of {len(rows)} labelled texts, is worse than chance"


def sign_test(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    r"""Return the probability that of the examples which one alone names rightly, so many or more are ours by chance.

    .. math:: \sum_{k \ge b} \binom{b + c}{k} 2^{-(b + c)}

    with b examples that only we name rightly and c that only they do: McNemar's exact test, one-sided.
    """
    b, c = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    total, term, ways = 0, 1, 2 ** (b + c)
    for k in range(b + c + 1):
        total += term if k >= b else 0
        term = term * (b + c - k) // (k + 1)
    return total / ways
