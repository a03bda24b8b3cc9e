"""Which settings, which threshold, and which model is served: decided on validation, where each image was given one label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.metrics import added_label_score, label_sets, mean_set_size, real_f1
from tutelage.models import load_model, save_model
from tutelage.recipes.encoding import whole
from tutelage.recipes.multilabel.lesson import training_rows
from tutelage.recipes.multilabel.settings import ONE_LABEL, MultilabelSettings, plain_of
from tutelage.recipes.multilabel.task import MultilabelTask
from tutelage.recipes.multilabel.training import TrainedCandidate
from tutelage.recipes.served import Served, gain_of, serve_best
from tutelage.recipes.unfreezing import LEVEL, STAGE, Unfrozen, half_label, unfrozen
from tutelage.signals import BinaryCrossEntropy, CrossEntropy
from tutelage.training import Log, Stages

THRESHOLDS = (*(round(0.01 * step, 2) for step in range(1, 5)), *(round(0.05 * step, 2) for step in range(1, 20)))
DEFAULT = 0.5
EVERY_CLASS = 1.0
"""The score of added labels of who names every class."""
CRITERIA = {
    "f1": "F1 on the validation part",
    "accuracy": "accuracy on the validation part",
    "added_label_score": "the score of added labels on the validation part",
}


@dataclass(frozen=True)
class Choice:
    """The model that is kept.

    Attributes:
        trained: it.
        threshold: above which a class belongs to a set; None names the best class alone.
        value: the criterion's value there.
        criterion: f1 where images were given several labels; where they were given one, added_label_score for label sets and
            accuracy for the best class alone.
        tried: for each candidate its name, its best threshold, the criterion's value and the mean set size on validation.
        served: the method that was asked for beside plain training.
        asked: the best model of the method that was asked for, whether it is served or not.
        unfrozen: what has become of it with its encoder's last block trained, where that was asked for.
    """

    trained: TrainedCandidate
    threshold: float | None
    value: float
    criterion: str
    tried: list[dict[str, float | str | None]]
    served: Served
    asked: TrainedCandidate
    unfrozen: Unfrozen | None = None


@dataclass(frozen=True)
class Validation:
    """The images that choose, n of them.

    Attributes:
        rows: of the table.
        labels: the first label of each, (n,).
        given_NC: the labels that are known, (n, C).
        criterion: as of a `Choice`.
    """

    rows: Tensor
    labels: NDArray[np.int64]
    given_NC: NDArray[np.bool_]
    criterion: str

    @classmethod
    def of(cls, task: MultilabelTask, asked: MultilabelSettings) -> Validation:
        """Return the images whose labels are known; the criterion asks only for what they have.

        Given one label an image it is `added_label_score`, by which naming everything scores 1 and less than a model that knows
        something, or for methods that name the best class alone how often that is the label; given several, or all that are
        true, the F1 of the sets.

        Raises:
            ValueError: there is none.
        """
        by_truth = asked.choose_by == "truth"
        known_NC = task.judged_by() if by_truth else task.given_NC
        rows = task.images.rows("val")
        rows = rows[known_NC[rows].any(1)]
        if len(rows) == 0:
            raise ValueError("choose_by='truth': all labels are known of no validation image; leave choose_by out")
        one = "accuracy" if asked.method in ONE_LABEL else "added_label_score"
        criterion = "f1" if task.several or by_truth else one
        return cls(rows, task.images.labels[rows].numpy(), known_NC[rows].numpy(), criterion)

    @property
    def truth(self) -> list[NDArray[Any]]:
        """What `figure` reads after a model's columns."""
        return [self.given_NC, self.labels]

    def figure(
        self, scores_NC: NDArray[Any], sets_NC: NDArray[Any], given_NC: NDArray[Any], labels: NDArray[Any]
    ) -> float:
        """Return the criterion's value."""
        if self.criterion == "f1":
            return real_f1(sets_NC, given_NC)
        if self.criterion == "accuracy":
            return float((scores_NC.argmax(1) == labels).mean())
        return added_label_score(scores_NC, sets_NC, labels)

    def best(self, trained: TrainedCandidate) -> tuple[float, float | None, list[NDArray[Any]]]:
        """Return a candidate's highest value, the threshold at which it has that, and its scores and sets there."""
        scores_NC = trained.scores_NC[self.rows].double().numpy()
        if trained.settings.method in ONE_LABEL:
            grid: tuple[float | None, ...] = (None,)
        else:
            grid = THRESHOLDS if trained.settings.threshold is None else (trained.settings.threshold,)
        values = [self.figure(scores_NC, label_sets(scores_NC, each), *self.truth) for each in grid]
        place = int(np.argmax(values))
        threshold = grid[place]
        if threshold in THRESHOLDS and values[place] == 0:
            threshold = DEFAULT  # a model that never adds a label: any threshold is as good
        return values[place], threshold, [scores_NC, label_sets(scores_NC, threshold)]


def choose(task: MultilabelTask, found: list[TrainedCandidate]) -> Choice:
    """Return the candidate and the threshold with the highest criterion on validation; ties go to the first.

    Args:
        task: what was learned from.
        found: the candidates: all of one method, but for plain training of the same kind.

    Raises:
        ValueError: validation has no image whose labels are known.
    """
    asked = found[-1].settings.method
    validation = Validation.of(task, found[-1].settings)
    tried: list[dict[str, float | str | None]] = []
    best: dict[str, tuple[float, TrainedCandidate, float | None]] = {}  # of each method
    answers: dict[str, list[NDArray[Any]]] = {}
    for trained in found:
        value, threshold, columns = validation.best(trained)
        size = mean_set_size(columns[1])
        tried.append({"name": trained.name, "threshold": threshold, validation.criterion: value, "mean_set_size": size})
        method = trained.settings.method
        if method not in best or value > best[method][0]:
            best[method] = value, trained, threshold
            answers[method] = columns
    served = serve_best(
        validation.figure,
        answers,
        validation.truth,
        criterion=CRITERIA[validation.criterion],
        plain=plain if (plain := plain_of(asked)) in best else asked,
        asked=asked,
        worthless=EVERY_CLASS if validation.criterion == "added_label_score" else None,
        seed=found[-1].settings.seed,
    )
    value, trained, threshold = best[served.chosen]
    return Choice(trained, threshold, value, validation.criterion, tried, served, best[asked][1])


def unfreeze(task: MultilabelTask, settings: MultilabelSettings, choice: Choice, stages: Stages, log: Log) -> Choice:
    """Train the last block of the served model's encoder, and serve the result if it is better on validation.

    Of a model of label sets the target is what the frozen model says of each class, and 1 where a label was given: an image is
    not taught that it has no other label than the one that it was given.
    """
    best, one = choice.trained, choice.trained.settings.method in ONE_LABEL
    said_NC = best.scores_NC.float()
    target_NC = half_label(task.labels, said_NC) if one else torch.where(task.given_NC, 1.0, said_NC)
    made = unfrozen(
        whole(load_model(best.folder)[0].cpu(), task.images),
        "backbone",
        task.images,
        training_rows(task, settings),
        target_NC,
        CrossEntropy("target") if one else BinaryCrossEntropy("target"),
        save_model,
        settings=settings,
        stages=stages,
        log=log,
    )
    scores_NC = made.logits.softmax(1) if one else made.logits.sigmoid()
    trained = replace(best, name=STAGE, scores_NC=scores_NC, folder=made.folder)
    validation = Validation.of(task, settings)
    value, threshold, columns = validation.best(trained)
    before = validation.best(best)[2]
    gain = gain_of(validation.figure, columns, before, validation.truth, settings.seed, LEVEL)
    made = replace(made, gain=gain, judged_on=len(validation.rows), criterion=CRITERIA[validation.criterion])
    if not made.kept:
        return replace(choice, unfrozen=made)
    return replace(choice, trained=trained, threshold=threshold, value=value, unfrozen=made)
