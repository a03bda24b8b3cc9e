"""Which settings, which threshold, and which model is served: decided on validation, where each image was given one label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.metrics import added_label_score, label_sets, mean_set_size, real_f1
from tutelage.recipes.multilabel.settings import ONE_LABEL, plain_of
from tutelage.recipes.multilabel.task import MultilabelTask
from tutelage.recipes.multilabel.training import TrainedCandidate
from tutelage.recipes.served import Served, serve_best

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
DEFAULT = 0.5
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
    """

    trained: TrainedCandidate
    threshold: float | None
    value: float
    criterion: str
    tried: list[dict[str, float | str | None]]
    served: Served
    asked: TrainedCandidate


def choose(task: MultilabelTask, found: list[TrainedCandidate]) -> Choice:
    """Return the candidate and the threshold with the highest criterion on validation; ties go to the first.

    The criterion asks only for what validation has. Given one label an image it is `added_label_score`, by which naming
    everything scores 1 and less than a model that knows something, or for methods that name the best class alone how often that
    is the label; given several, or all that are true, the F1 of the sets.

    Args:
        task: what was learned from.
        found: the candidates: all of one method, but for plain training of the same kind.

    Raises:
        ValueError: validation has no image whose labels are known.
    """
    asked, by_truth = found[-1].settings.method, found[-1].settings.choose_by == "truth"
    known_NC = task.judged_by() if by_truth else task.given_NC
    rows = task.images.rows("val")
    rows = rows[known_NC[rows].any(1)]
    if len(rows) == 0:
        raise ValueError("choose_by='truth': all labels are known of no validation image; leave choose_by out")
    labels, given_NC = task.images.labels[rows].numpy(), known_NC[rows].numpy()
    criterion = "f1" if task.several or by_truth else "accuracy" if asked in ONE_LABEL else "added_label_score"

    def figure(scores_NC: NDArray[Any], sets_NC: NDArray[Any], given_NC: NDArray[Any], labels: NDArray[Any]) -> float:
        if criterion == "f1":
            return real_f1(sets_NC, given_NC)
        if criterion == "accuracy":
            return float((scores_NC.argmax(1) == labels).mean())
        return added_label_score(scores_NC, sets_NC, labels)

    tried: list[dict[str, float | str | None]] = []
    best: dict[str, tuple[float, TrainedCandidate, float | None]] = {}  # of each method
    answers: dict[str, list[NDArray[Any]]] = {}
    for trained in found:
        scores_NC = trained.scores_NC[rows].double().numpy()
        if trained.settings.method in ONE_LABEL:
            grid: tuple[float | None, ...] = (None,)
        else:
            grid = THRESHOLDS if trained.settings.threshold is None else (trained.settings.threshold,)
        values = [figure(scores_NC, label_sets(scores_NC, threshold), given_NC, labels) for threshold in grid]
        place = int(np.argmax(values))
        threshold = grid[place]
        if threshold in THRESHOLDS and values[place] == 0:
            threshold = DEFAULT  # a model that never adds a label: any threshold is as good
        sets_NC = label_sets(scores_NC, threshold)
        size = mean_set_size(sets_NC)
        tried.append({"name": trained.name, "threshold": threshold, criterion: values[place], "mean_set_size": size})
        method = trained.settings.method
        if method not in best or values[place] > best[method][0]:
            best[method] = values[place], trained, threshold
            answers[method] = [scores_NC, sets_NC]
    served = serve_best(
        figure,
        answers,
        [given_NC, labels],
        criterion=CRITERIA[criterion],
        plain=plain if (plain := plain_of(asked)) in best else asked,
        asked=asked,
        seed=found[-1].settings.seed,
    )
    value, trained, threshold = best[served.chosen]
    return Choice(trained, threshold, value, criterion, tried, served, best[asked][1])
