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
_RIGHT = 0.9  # the share of right labels that expectation-maximisation starts from
_SLOPES = np.geomspace(0.25, 4.0, 33)


def doubt(y: Ints, p_NC: Floats, features_ND: Floats, seed: int = 0) -> Floats:
    r"""Return how doubtful each label is, (N,), a mean of standardised evidence; higher is worse.

    .. math:: z\big(-\log p_{\tilde y}\big) + z\big(-\log P(y = \tilde y \mid p, \tilde y)\big) + z(-\mathrm{AUM}) +
        z\big(-\log \text{share of } \tilde y \text{ among the neighbours}\big)

    over four. The four were chosen among twelve, and their equal weights left as they are, on subsets of CIFAR-10N; the table
    of labels (``python -m benchmarks labels``) is measured on others.

    Args:
        y: the given labels, (N,).
        p_NC: probabilities by a model that was not trained on the example.
        features_ND: of each example, by an encoder.
        seed: of the order of examples in `training_margin`.
    """
    own = np.arange(len(y)), y
    standardised = _standardised(features_ND)
    evidence = [
        -_log(p_NC[own]),
        -_log(right(y, p_NC)),
        -training_margin(y, standardised, p_NC.shape[1], seed),
        -_log(share_of_neighbours(y, standardised, p_NC.shape[1])),
    ]
    return np.mean([(each - each.mean()) / max(float(each.std()), 1e-12) for each in evidence], axis=0)


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

    with T, and a slope a that takes the errors out of p, by some steps of expectation-maximisation from a T that is right in
    nine of ten. Few steps: the likelihood goes on rising where a model's own mistakes are taken for errors of labels.

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
        counts_CC = 2 * np.eye(classes) + 0.1
        np.add.at(counts_CC.T, y, posterior)
        matrix_CC = counts_CC / counts_CC.sum(1, keepdims=True)
    return posterior[np.arange(len(y)), y]


def training_margin(y: Ints, x_ND: Floats, classes: int, seed: int = 0) -> Floats:
    r"""Return the area under the margin, (N,): the label's logit less the largest other one, averaged over the epochs.

    The model is a softmax regression of standardised features that learns from all labels, by stochastic gradients.

    Source: Pleiss et al., *Identifying Mislabeled Data using the Area Under the Margin Ranking*, NeurIPS 2020.
    """
    rng, count = np.random.default_rng(seed), len(y)
    x = np.concatenate([x_ND, np.ones((count, 1))], 1).astype(np.float32)
    targets = np.eye(classes, dtype=np.float32)[y]
    weights = np.zeros((x.shape[1], classes), dtype=np.float32)
    speed, total, own = np.zeros_like(weights), np.zeros(count), (np.arange(count), y)
    for epoch in range(EPOCHS):
        for rows in np.split(rng.permutation(count), range(BATCH, count, BATCH)):
            error = _softmax(x[rows] @ weights) - targets[rows]
            speed = MOMENTUM * speed + x[rows].T @ error / len(rows) + DECAY * weights
            weights -= RATE * (1 - epoch / EPOCHS) * speed
        logits = x @ weights
        label = logits[own]
        logits[own] = -np.inf
        total += label - logits.max(1, initial=-1e9)
    return total / EPOCHS


def share_of_neighbours(y: Ints, x_ND: Floats, classes: int) -> Floats:
    """Return the share of an example's nearest neighbours, by cosine, that have its label, (N,), smoothed by half an example.

    Source: as Zhu, Dong and Liu, *Detecting Corrupted Labels Without Training a Model to Predict* (SimiFeat), ICML 2022.
    """
    near = min(NEIGHBOURS, len(y) - 1)
    x = (x_ND / np.maximum(np.linalg.norm(x_ND, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    same = np.zeros(len(y))
    for start in range(0, len(y) if near > 0 else 0, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(y)))
        alike = x[rows] @ x.T
        alike[np.arange(len(rows)), rows] = -np.inf
        same[rows] = (y[np.argpartition(-alike, near - 1, axis=1)[:, :near]] == y[rows, None]).sum(1)
    return (same + 0.5 / classes) / (near + 0.5)


def _likeliest(logits_NC: Floats, y: Ints, matrix_CC: Floats) -> float:
    """Return the slope of the logits under which given labels are likeliest, if they err by a matrix."""
    told = [_log((_softmax(slope * logits_NC) * matrix_CC[:, y].T).sum(1)).sum() for slope in _SLOPES]
    return float(_SLOPES[int(np.argmax(told))])


def _standardised(features: Floats) -> Floats:
    spread = features.std(0)
    return (features - features.mean(0)) / np.where(spread > 1e-6, spread, 1.0)


def _softmax(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def _log(p: Floats) -> Floats:
    return np.log(np.clip(p, 1e-6, None))
