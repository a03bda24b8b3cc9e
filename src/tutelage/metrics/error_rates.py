"""How often labels may be wrong where the data cannot say it for sure: all rates that agree with them, each by its weight."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.metrics.calibration import calibrate, normal_scores

Floats = NDArray[np.float64]
RATES = (0.01, 0.03, 0.1, 0.2, 0.3, 0.4)
ALIKE = 0.8  # of the prior: that both classes err at one rate


def plausible_errors(log_odds: ArrayLike, labels: ArrayLike) -> list[tuple[float, tuple[float, float]]]:
    r"""Return pairs of error rates, (false acceptable, false defective), each with its posterior probability.

    .. math:: P(\varepsilon \mid \tilde y) \propto P(\varepsilon) \max_{a, b} \prod_i P(\tilde y_i \mid z_i; a, b, \varepsilon)

    with the curve of `Calibration` over the normal scores of the ranks. A list of doubted labels needs no rates that are
    certain, as a threshold does; what it needs is which class errs more. Four fifths of the prior lie on equal rates.

    Args:
        log_odds: (N,) high for acceptable, by what has not learned the labels.
        labels: (N,) 0 defective, 1 acceptable; both must be there.

    Raises:
        ValueError: as `calibrate`.
    """
    z, given = normal_scores(np.asarray(log_odds, dtype=np.float64)), np.asarray(labels)
    pairs = list(product(RATES, RATES))
    likely = np.array([calibrate(z, given, errors=pair).log_likelihood(z, given).sum() for pair in pairs])
    alike = np.array([one == other for one, other in pairs])
    prior = np.where(alike, ALIKE / alike.sum(), (1 - ALIKE) / (~alike).sum())
    weight = prior * np.exp(likely - likely.max())
    return list(zip((weight / weight.sum()).tolist(), pairs, strict=True))


def wrong_labels(
    log_odds: Floats,
    labels: NDArray[np.int64],
    held_out: NDArray[np.int64],
    rates: list[tuple[float, tuple[float, float]]],
) -> Floats:
    """Return the probability that each label is wrong, (N,), on the average over the rates; NaN where there is no label.

    Args:
        log_odds: (N,) high for acceptable.
        labels: (N,) 0 defective, 1 acceptable, -1 not labelled.
        held_out: the rows on which the log-odds are calibrated, for each pair of rates.
        rates: see `plausible_errors`.
    """
    wrong = np.zeros(len(labels))
    for weight, errors in rates:
        fitted = calibrate(log_odds[held_out], labels[held_out], errors=errors)
        wrong += weight * (1 - fitted.right(log_odds, labels))
    return wrong


def most_wrong(wrong: Floats) -> NDArray[np.bool_]:
    """Return which labels are in doubt, (N,): the likeliest to be wrong, as many as are wrong by these probabilities."""
    known = np.flatnonzero(np.isfinite(wrong))
    first = known[np.argsort(-wrong[known], kind="stable")][: round(float(wrong[known].sum()))]
    doubted = np.zeros(len(wrong), dtype=bool)
    doubted[first] = True
    return doubted
