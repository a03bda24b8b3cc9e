"""Every way to rank labels, on the same out-of-sample predictions and the same features; a higher value is more doubtful."""

from __future__ import annotations

from itertools import cycle

import cleanlab.filter
import cleanlab.rank
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.labels.cases import HELD_OUT, Labels
from tutelage.metrics import find_label_issues
from tutelage.metrics.label_evidence import leave_one_out
from tutelage.recipes.distill.taught import doubt_of
from tutelage.signals import CrossEntropy, Distillation, Objective
from tutelage.training import seeds
from tutelage.weighting import AMAL

Floats = NDArray[np.float64]
FOLDS, EPOCHS, BATCH, LR, DECAY = 5, 20, 128, 0.02, 0.01

AMAL_EPOCHS, ADAPT_EVERY = 10, 4  # steps
AMAL_CLEAN = "AMAL's weights (it sees right labels)"
OURS = "ours: find_label_issues with features"


def ranked(labels: Labels, seed: int) -> dict[str, Floats]:
    """Return the doubt in each judged label, (n,), by method."""
    everything = _standardised(labels.features)
    x, y, classes = everything[:-HELD_OUT], labels.given[:-HELD_OUT], labels.classes
    within, out_of_fold = heads(x, y, classes, seed)
    by_ridge = leave_one_out(y, x, classes)
    p = (out_of_fold.log_softmax(1) + torch.from_numpy(np.log(by_ridge + 1e-12))).div(2).softmax(1).numpy()
    own = np.arange(len(y)), y
    p_epochs = within.softmax(2)[:, own[0], own[1]].numpy()
    others = within.clone()
    others[:, own[0], own[1]] = -torch.inf
    margins = (within[:, own[0], own[1]] - others.max(2).values).numpy()

    def quality(method: str, adjusted: bool = False) -> Floats:
        return -cleanlab.rank.get_label_quality_scores(y, p, method=method, adjust_pred_probs=adjusted)

    confident = cleanlab.filter.find_label_issues(y, p, n_jobs=1)
    return {
        "cleanlab: self-confidence": quality("self_confidence"),
        "cleanlab: self-confidence, adjusted": quality("self_confidence", adjusted=True),
        "cleanlab: normalised margin": quality("normalized_margin"),
        "cleanlab: confidence-weighted entropy": quality("confidence_weighted_entropy"),
        "cleanlab: confident learning": 2.0 * confident + quality("self_confidence"),
        "Dataset Cartography: confidence": -p_epochs.mean(0),
        "AUM": -margins.mean(0),
        "small loss": -np.log(p_epochs[-1] + 1e-12),
        AMAL_CLEAN: amal(everything, labels, p, seed),
        OURS: -find_label_issues(y, p, features=x).score,
    }


def heads(x: Floats, y: NDArray[np.int64], classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Train softmax regressions: one on all labels, and one for each fold without it.

    Returns:
        The first one's logits after each epoch, (E, N, C), and of each example those of the head that has not seen it, (N, C).
    """
    draw = seeds.generator(seed, "heads")
    count, several = len(x), FOLDS + 1
    fold = torch.randperm(count, generator=draw) % FOLDS
    seen = torch.ones(count, several, 1).scatter_(1, 1 + fold[:, None, None], 0.0)
    inputs = torch.cat([torch.from_numpy(x).float(), torch.ones(count, 1)], 1)
    targets = nn.functional.one_hot(torch.from_numpy(y), classes).float()[:, None]
    weights = torch.zeros(inputs.shape[1], several * classes)
    speed, epochs = torch.zeros_like(weights), []
    for epoch in range(EPOCHS):
        for rows in torch.randperm(count, generator=draw).split(BATCH):
            p = (inputs[rows] @ weights).view(len(rows), several, classes).softmax(2)
            error = ((p - targets[rows]) * seen[rows]).flatten(1)
            speed = 0.9 * speed + inputs[rows].T @ error / len(rows) + DECAY * weights
            weights -= LR * (1 - epoch / EPOCHS) * speed
        logits = (inputs @ weights).view(count, several, classes)
        epochs.append(logits[:, 0])
    return torch.stack(epochs).double(), logits[torch.arange(count), 1 + fold].double()


def amal(x: Floats, labels: Labels, p: Floats, seed: int) -> Floats:
    """Return how far AMAL listens to the out-of-sample predictions rather than to the label, (n,).

    Its held-out labels are those of the last rows that are right: by labels as wrong as the others it can tell nothing.
    """
    inputs, given = torch.from_numpy(x).float(), torch.from_numpy(labels.given)
    teacher = torch.from_numpy(np.log(p + 1e-12)).float()
    count = len(p)
    with seeds.fixed(seed, "amal"):
        model = nn.Linear(inputs.shape[1], labels.classes)
        objective = Objective(model, [CrossEntropy(), Distillation("teacher")])
        weighting = AMAL(num_examples=count, num_signals=2, strategy="last_layer")
        optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=DECAY)
        right = torch.from_numpy(~labels.wrong[count:]).nonzero().flatten() + count
        held_out = cycle(right.split(100))
        for _ in range(AMAL_EPOCHS):
            for step, rows in enumerate(torch.randperm(count).split(BATCH)):
                batch = {"index": rows, "input": inputs[rows], "label": given[rows], "teacher": teacher[rows]}
                weighting.backward(objective(batch), batch, model)
                optimizer.step()
                optimizer.zero_grad()
                if step % ADAPT_EVERY == 0:
                    held = next(held_out)
                    other = {"index": held, "input": inputs[held], "label": given[held]}
                    weighting.adapt(objective, batch, other, optimizer)
    return doubt_of(weighting.weights).double().numpy()


def _standardised(features: Floats) -> Floats:
    spread = features.std(0)
    return (features - features.mean(0)) / np.where(spread > 1e-6, spread, 1.0)
