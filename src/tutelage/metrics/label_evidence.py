"""What speaks against a label: predictions that have not seen it, how often labels are wrong, its training, its neighbours.

Each function returns one number for each labelled example, or probabilities (N, C); the labels are 0 to C - 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NEIGHBOURS = 30
RIDGE = 0.2  # of standardised features, for each example
EPOCHS, BATCH, RATE, MOMENTUM, DECAY = 20, 128, 0.02, 0.9, 0.01
_CHUNK = 1024
_RIGHT = 0.8  # the share of right labels that expectation-maximisation starts from
_TRUST = 0.2  # the prior: further right labels of each class, a share of those that a class has on the mean
_SLOPES = np.geomspace(0.25, 4.0, 33)


def all_evidence(y: Ints, p_NC: Floats, features_ND: Floats, seed: int = 0) -> Floats:
    r"""Return the probability that each label is right by predictions, neighbours, a training and how often labels err, (N,).

    .. math:: q = \mathrm{softmax}\Big(\tfrac12 \sum_k a_k \log p^{(k)} + \tfrac12 \log t\Big),\qquad
        a = \arg\max_{a \ge 0} \sum_i \log \mathrm{softmax}\Big(\sum_k a_k \log p^{(k)}_i\Big)_{\tilde y_i}

    :math:`p^{(1)}` are the predictions and :math:`p^{(2)}` the shares of the classes among the neighbours, neither of which has
    seen the label, so that the given labels themselves tell how much each knows; their weights are scaled to sum to 1. t are
    the predictions of a training on all labels, which learns the right ones first (see `training_predictions`). What comes
    out goes through the errors of the labels: `right`.

    It is an order more than a probability: labels are trusted to begin with, so that where many are wrong it is too high.

    The form and the constants were chosen on subsets of CIFAR-10N, CIFAR-100N, CIFAR-10H and products; the table of labels
    (``python -m benchmarks labels``) is of others.

    Args:
        y: the given labels, (N,).
        p_NC: probabilities by a model that was not trained on the example.
        features_ND: of each example, by an encoder.
        seed: of the order of examples in `training_predictions`.
    """
    x, classes = _standardised(features_ND), p_NC.shape[1]
    unseen = np.stack([_log(p_NC), _log(shares_of_neighbours(y, x, classes))])
    learned = _log(training_predictions(y, x, classes, seed))
    pooled = (np.tensordot(stacked(y, unseen), unseen, 1) + learned) / 2
    return right(y, _softmax(pooled).astype(np.float64))


def stacked(y: Ints, logs_KNC: Floats, steps: int = 20) -> Floats:
    r"""Return the weights a >= 0, of sum 1, by which K log-probabilities together make the given labels likeliest, (K,).

    By Newton's method: the log-likelihood of :math:`\mathrm{softmax}(\sum_k a_k \log p^{(k)})` is concave in a.

    Source: as Wolpert, *Stacked Generalization*, Neural Networks 1992, in log-probabilities.
    """
    count, own = len(logs_KNC), logs_KNC[:, np.arange(len(y)), y].mean(1)
    a, kept = np.full(count, 1 / count), np.ones(count, dtype=bool)
    for _ in range(steps):
        q_NC = _softmax(np.tensordot(a, logs_KNC, 1))
        mean_KN = (logs_KNC * q_NC).sum(2)
        centred = (logs_KNC - mean_KN[:, :, None]) * np.sqrt(q_NC)
        curvature = np.einsum("knc,lnc->kl", centred, centred) / len(y) + 1e-6 * np.eye(count)
        step = np.zeros(count)
        step[kept] = np.linalg.solve(curvature[np.ix_(kept, kept)], (own - mean_KN.mean(1))[kept])
        a = np.where(kept, a + step, 0.0)
        if (negative := a < 0).any():  # what would count against itself does not count
            kept &= ~negative
            a = np.where(negative, 0.0, a)
        elif np.abs(step).max() < 1e-4:
            break
    return a / a.sum() if a.sum() > 0 else np.full(count, 1 / count)


def leave_one_out(y: Ints, features_ND: Floats, classes: int) -> Floats:
    r"""Return probabilities (N, C) by ridge regressions on the classes, each of which leaves out the example that it judges.

    .. math:: \hat s_i = \frac{(HT)_i - h_{ii} T_i}{1 - h_{ii}}, \qquad H = X (X^\top X + \lambda N I)^{-1} X^\top

    for standardised X and the labels as rows T of 0 and 1, centred: exact, and as dear as one regression. What the softmax
    takes is scaled so that the labels are likeliest.

    Source: Cook and Weisberg, *Residuals and Influence in Regression*, 1982, section 2.2.
    """
    x, count = _standardised(features_ND), len(y)
    targets = np.eye(classes)[y]
    mean_C = targets.mean(0)
    root = np.linalg.cholesky(x.T @ x + RIDGE * count * np.eye(x.shape[1]))
    z_DN = np.linalg.solve(root, x.T)
    leverage = (z_DN**2).sum(0)[:, None] + 1 / count
    scores = (z_DN.T @ (z_DN @ (targets - mean_C)) + mean_C - leverage * targets) / np.maximum(1 - leverage, 1e-6)
    return _softmax(8 * _likeliest(8 * scores, y, np.eye(classes)) * scores).astype(np.float64)


def right(y: Ints, p_NC: Floats, steps: int = 3) -> Floats:
    r"""Return the probability that each label is right, (N,), where labels err by a matrix T from true to given class.

    .. math:: P(y \mid p, \tilde y) \propto q_y\, T_{y \tilde y}, \qquad q = \mathrm{softmax}(a \log p)

    with T, and a slope a that takes the errors out of p, by some steps of expectation-maximisation. T begins with eight right
    labels of ten, and each estimate of it counts further right ones, a fifth of the labels that a class has on the mean. Few
    steps: the likelihood goes on rising where a model's own mistakes are taken for errors of labels.

    Source: as Dawid and Skene, *Maximum Likelihood Estimation of Observer Error-Rates*, 1979, with a model for the prior.
    """
    classes = p_NC.shape[1]
    matrix_CC = np.full((classes, classes), (1 - _RIGHT) / max(classes - 1, 1))
    np.fill_diagonal(matrix_CC, _RIGHT if classes > 1 else 1.0)
    logs = _log(p_NC)
    posterior = p_NC
    for _ in range(steps):
        posterior = _softmax(_likeliest(logs, y, matrix_CC) * logs) * matrix_CC[:, y].T
        posterior /= posterior.sum(1, keepdims=True)
        counts_CC = _TRUST * len(y) / classes * np.eye(classes) + 0.1
        np.add.at(counts_CC.T, y, posterior)
        matrix_CC = counts_CC / counts_CC.sum(1, keepdims=True)
    return posterior[np.arange(len(y)), y]


def training_predictions(y: Ints, x_ND: Floats, classes: int, seed: int = 0) -> Floats:
    r"""Return the softmax of a training's logits, averaged over its epochs, (N, C): what is learned early counts longest.

    The model is a softmax regression of standardised features that learns from all labels, by stochastic gradients. The
    margins of these mean logits are AUM's.

    Source: as Pleiss et al., *Identifying Mislabeled Data using the Area Under the Margin Ranking*, NeurIPS 2020.
    """
    rng, count = np.random.default_rng(seed), len(y)
    x = np.concatenate([x_ND, np.ones((count, 1))], 1).astype(np.float32)
    targets = np.eye(classes, dtype=np.float32)[y]
    weights = np.zeros((x.shape[1], classes), dtype=np.float32)
    speed, total = np.zeros_like(weights), np.zeros((count, classes))
    for epoch in range(EPOCHS):
        for rows in np.split(rng.permutation(count), range(BATCH, count, BATCH)):
            error = _softmax(x[rows] @ weights) - targets[rows]
            speed = MOMENTUM * speed + x[rows].T @ error / len(rows) + DECAY * weights
            weights -= RATE * (1 - epoch / EPOCHS) * speed
        total += x @ weights
    return _softmax(total / EPOCHS).astype(np.float64)


def shares_of_neighbours(y: Ints, x_ND: Floats, classes: int) -> Floats:
    """Return the share of each class among an example's nearest neighbours, by cosine, (N, C), with half an example more.

    Source: as Zhu, Dong and Liu, *Detecting Corrupted Labels Without Training a Model to Predict* (SimiFeat), ICML 2022.
    """
    near = min(NEIGHBOURS, len(y) - 1)
    lengths = np.linalg.norm(x_ND, axis=1, keepdims=True)
    x = (x_ND / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    counts_NC = np.zeros((len(y), classes))
    for start in range(0, len(y) if near > 0 else 0, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(y)))
        alike = x[rows] @ x.T
        alike[np.arange(len(rows)), rows] = -np.inf
        nearest = np.argpartition(-alike, near - 1, axis=1)[:, :near]
        np.add.at(counts_NC, (rows[:, None], y[nearest]), 1)
    return (counts_NC + 0.5 / classes) / (near + 0.5)


def _likeliest(logits_NC: Floats, y: Ints, matrix_CC: Floats) -> float:
    """Return the slope of the logits under which given labels are likeliest, if they err by a matrix."""
    told = [_log((_softmax(slope * logits_NC) * matrix_CC[:, y].T).sum(1)).sum() for slope in _SLOPES]
    return float(_SLOPES[int(np.argmax(told))])


def _standardised(features: Floats) -> Floats:
    spread, size = features.std(0), np.abs(features).max(0, initial=0.0)
    return (features - features.mean(0)) / np.where(
        spread > 1e-6 * size, spread, 1.0
    )  # else a constant, and its rounding


def _softmax(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def _log(p: Floats) -> Floats:
    return np.log(np.clip(p, 1e-6, None))
