"""Calibration: a score's log-odds become the probability of the true label, although held-out labels are wrong at times.

Label 0 is defective, label 1 acceptable; log-odds are high for acceptable. The two error rates are those of the labels, given
the truth; they are taken to be the same for every example of a class, whatever its score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.metrics.ranking import by_class

Floats = NDArray[np.float64]
ErrorRates = Literal["none", "one", "two"]
_STEPS = 200
_MOST = 0.49  # of a label's error rates: beyond one half the other label would be the right one
_STARTS = (0.05, 0.2)
_EVIDENCE = 5.0  # nats, beyond BIC: very strong evidence (Kass and Raftery 1995)
_STEEPEST = 5.0  # standard deviation of the prior on the slope of standardised log-odds


@dataclass(frozen=True)
class Calibration:
    r"""Which probability of acceptable a score stands for, and how often labels are wrong.

    .. math:: P(y = 1 \mid z) = \sigma(a z + b), \qquad
        P(\tilde y = 1 \mid z) = \varepsilon_0 + (1 - \varepsilon_0 - \varepsilon_1)\,\sigma(a z + b)

    Attributes:
        slope: a, at least 0, so that the order of the scores is kept.
        offset: b.
        false_acceptable: the share of true defects that are labelled acceptable.
        false_defective: the share of truly acceptable examples that are labelled defective.
    """

    slope: float
    offset: float
    false_acceptable: float = 0.0
    false_defective: float = 0.0

    def log_odds(self, log_odds: ArrayLike) -> Floats:
        """Return calibrated log-odds of being truly acceptable, of the same shape."""
        raw = np.asarray(log_odds, dtype=np.float64)
        return self.slope * raw + self.offset if self.slope else np.full(raw.shape, self.offset)

    def probability(self, log_odds: ArrayLike) -> Floats:
        """Return the probability of being truly acceptable, of the same shape."""
        return _sigmoid(self.log_odds(log_odds))

    def right(self, log_odds: ArrayLike, labels: ArrayLike) -> Floats:
        r"""Return the probability that a given label is right, (N,), by Bayes' rule from the score and the error rates.

        .. math:: P(y = 1 \mid z, \tilde y = 1) = \frac{(1 - \varepsilon_1)\,p}{(1 - \varepsilon_1)\,p +
            \varepsilon_0 (1 - p)}, \qquad p = \sigma(a z + b)

        Args:
            log_odds: (N,) as they come, not calibrated.
            labels: (N,) 0 defective, 1 acceptable; NaN is returned for any other.
        """
        return right_labels(self.log_odds(log_odds), labels, self.false_acceptable, self.false_defective)

    def log_likelihood(self, log_odds: ArrayLike, labels: ArrayLike) -> Floats:
        """Return the log-likelihood of each given label, (N,), in nats."""
        rates = self.false_acceptable, self.false_defective
        acceptable = np.clip(rates[0] + (1 - sum(rates)) * self.probability(log_odds), 1e-12, 1 - 1e-12)
        return np.where(np.asarray(labels) == 1, np.log(acceptable), np.log1p(-acceptable))

    def plain(self) -> dict[str, float]:
        """Return the four numbers by name."""
        return asdict(self)


def right_labels(log_odds: ArrayLike, labels: ArrayLike, false_acceptable: float, false_defective: float) -> Floats:
    """Return the probability that a given label is right, (N,), where log-odds are calibrated; see `Calibration.right`."""
    acceptable, given = _sigmoid(np.asarray(log_odds, dtype=np.float64)), np.asarray(labels)
    of_1 = (1 - false_defective) * acceptable, false_acceptable * (1 - acceptable)
    of_0 = (1 - false_acceptable) * (1 - acceptable), false_defective * acceptable
    found = np.full(given.shape, np.nan)
    for label, (right, wrong) in ((0, of_0), (1, of_1)):
        own = given == label
        total = (right + wrong)[own]
        # A label that cannot be there at all, such as one of a sure score without any error rate, is right as given.
        found[own] = np.divide(right[own], total, out=np.ones_like(total), where=total > 0)
    return found


def calibrate(
    log_odds: ArrayLike, labels: ArrayLike, *, errors: ErrorRates | tuple[float, float] | None = None
) -> Calibration:
    r"""Fit a `Calibration` to held-out labels by maximum likelihood, with a weak prior where labels may be wrong.

    Without error rates this is Platt's method (*Probabilistic Outputs for Support Vector Machines*, 1999), with his targets
    (N_1 + 1) / (N_1 + 2) and 1 / (N_0 + 2). With them, labels are drawn as `Calibration` has it: a logistic curve between
    two asymptotes, as in Barton and Lord's four-parameter model of test items (1981). How far the asymptotes lie from 0 and
    1 is seen where the score is sure; a score that is never sure cannot tell errors of labels from its own. So by default
    one rate, or two, are believed only on very strong evidence (Kass and Raftery, *Bayes Factors*, 1995): where the
    likelihood pays for them by Schwarz's criterion (BIC) with 5 nats to spare. With less, defects of a kind that a weak model
    does not know would pass for wrong labels. The likeliest curve may then be a step, by which every score is sure: so the
    slope, of log-odds scaled to a standard deviation of 1, has a normal prior with mean 0 and standard deviation 5.

    Args:
        log_odds: (N,) finite numbers, high for acceptable.
        labels: (N,) 0 defective, 1 acceptable, as they were given; both must be there.
        errors: none, one (the same for both classes) or two error rates to be estimated, or both given as (false acceptable,
            false defective); by default as many as the data tell.

    Raises:
        ValueError: an empty class, NaN or infinite log-odds, wrong shapes or labels, or given rates that are negative or sum
            to 1 or more.
    """
    by_class(log_odds, labels)
    z, y = np.asarray(log_odds, dtype=np.float64), np.asarray(labels)
    if not np.isfinite(z).all():
        raise ValueError(
            f"log_odds: {int((~np.isfinite(z)).sum())} of {z.size} are infinite; clip them to what a float32 tells"
        )
    if isinstance(errors, tuple) and (min(errors) < 0 or sum(errors) >= 1):
        raise ValueError(f"errors={errors}: give two rates that are not negative and sum to less than 1")
    centre, scale = float(z.mean()), float(z.std())
    x = (z - centre) / scale if scale > 0 else np.zeros_like(z)
    ones = int(y.sum())
    targets = np.where(y == 1, (ones + 1) / (ones + 2), 1 / (y.size - ones + 2))
    kinds: tuple[ErrorRates | tuple[float, float], ...] = ("none", "one", "two") if errors is None else (errors,)
    best, least = None, np.inf
    for kind in kinds:
        theta, rates, loss = _fitted(x, targets, kind)
        free = {"none": 2, "one": 3, "two": 4}.get(kind, 2) if isinstance(kind, str) else 2
        cost = loss + 0.5 * free * np.log(y.size) + _EVIDENCE * (free > 2)
        if cost < least:
            best, least = (theta, rates), cost
    assert best is not None
    (slope, offset), (false_acceptable, false_defective) = best
    slope = slope / scale if scale > 0 else 0.0
    return Calibration(float(slope), float(offset - slope * centre), float(false_acceptable), float(false_defective))


def label_errors(scores: Sequence[ArrayLike], labels: ArrayLike) -> tuple[float, float]:
    """Return the labels' error rates, (false acceptable, false defective), as the best score sees them.

    The rates belong to the labels, and a score that was learned from wrong labels hides them: its odds end where theirs do. So
    each score is replaced by the normal scores of its ranks before it is calibrated, and the calibration with the greatest
    likelihood, less what its rates cost by Schwarz's criterion, has the word; `calibrate` says what evidence rates need. Errors
    that a model has learned, as those of one kind of example are, cannot be seen.

    Args:
        scores: of each model, (N,), high for acceptable.
        labels: (N,) 0 defective, 1 acceptable, of examples that no model has learned from.

    Raises:
        ValueError: as of `calibrate`.
    """
    given = np.asarray(labels)
    best, least = (0.0, 0.0), np.inf
    for each in scores:
        by_class(each, given)
        ranked = normal_scores(np.asarray(each, dtype=np.float64))
        found = calibrate(ranked, given)
        rates = found.false_acceptable, found.false_defective
        cost = -float(found.log_likelihood(ranked, given).sum()) + 0.5 * len({*rates} - {0.0}) * np.log(given.size)
        if cost < least:
            best, least = rates, cost
    return best


def normal_scores(values: Floats) -> Floats:
    """Return the normal quantiles of the mid-ranks of values, (N,)."""
    _, place, sizes = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - sizes / 2
    quantile = NormalDist().inv_cdf
    return np.array([quantile(share) for share in middle / values.size])[place]


def _fitted(
    x: Floats, targets: Floats, kind: ErrorRates | tuple[float, float]
) -> tuple[Floats, tuple[float, float], float]:
    """Return slope and offset, both error rates, and what is minimised: the negative log-likelihood and the slope's prior."""
    given = kind if isinstance(kind, tuple) else (0.0, 0.0)
    spread = {"one": np.array([[1.0, 1.0]]), "two": np.eye(2)}.get(
        kind if isinstance(kind, str) else "", np.zeros((0, 2))
    )
    prior = 0.0 if kind == "none" else _STEEPEST**-2

    def rates(theta: Floats) -> Floats:
        return np.array(given) + theta[2:] @ spread

    def curve(theta: Floats) -> tuple[Floats, Floats]:
        e0, e1 = rates(theta)
        s = _sigmoid(theta[0] * x + theta[1])
        return s, np.clip(e0 + (1 - e0 - e1) * s, 1e-12, 1 - 1e-12)

    def loss(theta: Floats) -> float:
        p = curve(theta)[1]
        return float(-(targets * np.log(p) + (1 - targets) * np.log1p(-p)).sum() + 0.5 * prior * theta[0] ** 2)

    def derivative(theta: Floats) -> tuple[Floats, Floats]:
        s, p = curve(theta)
        rise = (1 - rates(theta).sum()) * s * (1 - s)
        slopes = np.stack([rise * x, rise, *(np.stack([1 - s, -s], 1) @ spread.T).T])
        weight = 1 / (p * (1 - p))
        gradient = -(slopes * (weight * (targets - p))).sum(1)
        information = (slopes * weight) @ slopes.T
        gradient[0] += prior * theta[0]
        information[0, 0] += prior
        return gradient, information

    low = np.array([0.0, -np.inf, *[0.0] * len(spread)])
    high = np.array([np.inf, np.inf, *[_MOST] * len(spread)])
    share = float(targets.mean())
    starts = [
        np.array([1.0, np.log(share / (1 - share)), *[rate] * len(spread)])
        for rate in (_STARTS if len(spread) else (0.0,))
    ]
    ends = [_scored(loss, derivative, start, low, high) for start in starts]
    theta = min(ends, key=loss)
    e0, e1 = rates(theta)
    return theta[:2], (float(e0), float(e1)), loss(theta)


def _scored(
    loss: Callable[[Floats], float],
    derivative: Callable[[Floats], tuple[Floats, Floats]],
    theta: Floats,
    low: Floats,
    high: Floats,
) -> Floats:
    """Return the minimum within bounds by Fisher scoring, damped where a step does not help."""
    damping, value = 1e-9, loss(theta)
    for _ in range(_STEPS):
        gradient, information = derivative(theta)
        free = ~(((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0)))
        inside = information[np.ix_(free, free)]
        while damping < 1e12:
            step = np.zeros_like(theta)
            step[free] = np.linalg.solve(inside + damping * np.diag(np.diag(inside) + 1e-12), -gradient[free])
            moved = np.clip(theta + step, low, high)
            if (new := loss(moved)) <= value:
                break
            damping = max(10 * damping, 1e-6)
        else:
            break
        done = abs(gradient @ (moved - theta)) < 1e-12 * (1 + abs(value))
        theta, value, damping = moved, new, max(damping / 10, 1e-9)
        if done:
            break
    return theta


def _sigmoid(z: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(0.5 * z))


def calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    r"""Expected calibration error of the probability of acceptable, over bins that hold equally many examples.

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{N}\,\lvert \bar y_b - \bar p_b \rvert

    Source: Naeini, Cooper and Hauskrecht, *Obtaining Well Calibrated Probabilities Using Bayesian Binning*, AAAI 2015; with
    bins of equal mass as Nixon et al., 2019. Ties are parted in the order of the examples.

    Args:
        probabilities: (N,) in [0, 1].
        labels: (N,) 0 defective, 1 acceptable.
        bins: at most N.

    Raises:
        ValueError: fewer than one bin, NaN, a probability outside [0, 1], wrong shapes or labels, an empty class.
    """
    by_class(probabilities, labels)
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if bins < 1:
        raise ValueError(f"bins={bins} must be at least 1")
    if p.min() < 0 or p.max() > 1:
        raise ValueError(f"probabilities must lie in [0, 1]; they lie in [{p.min()}, {p.max()}]")
    order = np.argsort(p, kind="stable")
    parts = np.array_split(order, min(bins, p.size))
    return float(sum(abs((y[part] - p[part]).sum()) for part in parts) / p.size)
