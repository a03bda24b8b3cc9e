"""Which settings, and which threshold: decided on validation, where each image was given one of its labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tutelage.metrics import added_label_score, label_sets, mean_set_size, real_f1
from tutelage.recipes.multilabel.settings import ONE_LABEL
from tutelage.recipes.multilabel.task import MultilabelTask
from tutelage.recipes.multilabel.training import TrainedCandidate

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
DEFAULT = 0.5


@dataclass(frozen=True)
class Choice:
    """The model that is kept.

    Attributes:
        trained: it.
        threshold: above which a class belongs to a set; None names the best class alone.
        value: the criterion's value there.
        criterion: added_label_score where images were given one label, f1 where they were given several.
        tried: for each candidate its name, its best threshold, the criterion's value and the mean set size on validation.
    """

    trained: TrainedCandidate
    threshold: float | None
    value: float
    criterion: str
    tried: list[dict[str, float | str | None]]


def choose(task: MultilabelTask, found: list[TrainedCandidate]) -> Choice:
    """Return the candidate and the threshold with the highest criterion on validation; ties go to the first.

    The criterion asks only for what validation has. Given one label an image it is `added_label_score`, by which naming
    everything scores 1 and less than a model that knows something; given several, the F1 of the sets.
    """
    rows = task.images.rows("val")
    rows = rows[task.given_NC[rows].any(1)]
    labels, given_NC = task.images.labels[rows].numpy(), task.given_NC[rows].numpy()
    criterion = "f1" if task.several else "added_label_score"
    tried: list[dict[str, float | str | None]] = []
    best: tuple[float, TrainedCandidate, float | None] | None = None
    for trained in found:
        scores_NC = trained.scores_NC[rows].double().numpy()
        if trained.settings.method in ONE_LABEL:
            grid: tuple[float | None, ...] = (None,)
        else:
            grid = THRESHOLDS if trained.settings.threshold is None else (trained.settings.threshold,)
        values = []
        for threshold in grid:
            sets_NC = label_sets(scores_NC, threshold)
            value = real_f1(sets_NC, given_NC) if task.several else added_label_score(scores_NC, sets_NC, labels)
            values.append(value)
        place = int(np.argmax(values))
        threshold = grid[place]
        if threshold in THRESHOLDS and values[place] == 0:
            threshold = DEFAULT  # a model that never adds a label: any threshold is as good
        size = mean_set_size(label_sets(scores_NC, threshold))
        tried.append({"name": trained.name, "threshold": threshold, criterion: values[place], "mean_set_size": size})
        if best is None or values[place] > best[0]:
            best = values[place], trained, threshold
    assert best is not None
    return Choice(best[1], best[2], best[0], criterion, tried)
