"""The weighted false-positive rate from an audit's verdicts, with intervals by the design that drew it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutelage.metrics.beta import beta_quantile


@dataclass(frozen=True)
class Stratum:
    """What was drawn from one stratum, and what moderators said.

    Attributes:
        impressions_n: (n,) of each advertisement drawn, above 0.
        probabilities_n: (n,) its inclusion probability.
        defective_n: (n,) the share of its verdicts that say defective, NaN where there is none.
        total: impressions of the whole stratum.
    """

    impressions_n: NDArray[np.float64]
    probabilities_n: NDArray[np.float64]
    defective_n: NDArray[np.float64]
    total: float

    @property
    def answered(self) -> int:
        """How many have a verdict."""
        return int(np.isfinite(self.defective_n).sum())

    @property
    def draws(self) -> float:
        """The number of draws of equal weight that the verdicts stand for, at least `answered`.

        It is m X / X' for m answered units that were not certain, of which there are X' of the stratum's X impressions: each
        certain unit stands for as many draws as it has impressions in the unit of one draw.
        """
        answered_n = np.isfinite(self.defective_n)
        uncertain_n = self.probabilities_n < 1
        open_answered = int((answered_n & uncertain_n).sum())
        open_total = self.total - float(self.impressions_n[~uncertain_n].sum())
        if not open_answered or open_total <= 0:
            return float(answered_n.sum())
        return open_answered * self.total / open_total


@dataclass(frozen=True)
class Rate:
    """A share of impressions with its interval.

    Attributes:
        value, low, high: the estimate and the bounds of its interval.
        variance: of the estimate, by the design.
        verdicts: advertisements with a verdict, of which `missing` more were drawn.
        covered: the share of the impressions that lie in strata with any verdict; the rate speaks of these.
    """

    value: float
    low: float
    high: float
    variance: float
    verdicts: int
    missing: int
    covered: float


def weighted_rate(strata: Sequence[Stratum], level: float = 0.95) -> Rate:
    r"""The weighted false-positive rate (WFPR): the share of impressions that went to advertisements with a defect.

    .. math:: \hat p = \sum_h W_h \hat p_h, \quad \hat p_h = \frac{\sum_k x_k y_k / \pi_k}{\sum_k x_k / \pi_k},
              \quad W_h = X_h / X

    Hájek's estimator within a stratum; with probabilities proportional to impressions and all verdicts given it is Horvitz and
    Thompson's. The variance is Deville's for fixed-size designs of high entropy, such as the pivotal method in random order,

    .. math:: v_h = \sum_k c_k (e_k - \bar e)^2, \quad e_k = \frac{x_k (y_k - \hat p_h)}{\pi_k \hat X_h},
              \quad c_k = (1 - \pi_k) \frac{m}{m - 1}, \quad \bar e = \sum_k c_k e_k / \sum_k c_k

    with m uncertain units. Verdicts that are missing are taken to be missing at random within a stratum: its probabilities
    are multiplied by the share that was answered.

    The interval is Korn and Graubard's: Clopper and Pearson's for n* draws of which n* p are defects, where
    n* = p (1 - p) / v is the effective sample size, which is taken to be no more than :math:`1 / \sum_h W_h^2 / N_h` with N_h
    the stratum's `draws`. It keeps its promise where defects are few, or none.

    Args:
        strata: those of one variant, over one week or several.
        level: of the interval.

    Raises:
        ValueError: no stratum has a verdict.

    Source: Deville, Estimation de la variance pour les enquêtes en deux phases, 1993, as in Matei and Tillé, Journal of
    Official Statistics 2005, section 4; Korn and Graubard, Survey Methodology 1998. WFPR: Sub-Task Imputation, section 6.
    """
    known = [stratum for stratum in strata if stratum.answered]
    if not known:
        raise ValueError("no stratum has a verdict")
    total = sum(stratum.total for stratum in known)
    shares = [stratum.total / total for stratum in known]
    value = sum(share * _ratio(stratum) for share, stratum in zip(shares, known, strict=True))
    value = min(max(value, 0.0), 1.0)
    variance = sum(share**2 * _variance(stratum, value) for share, stratum in zip(shares, known, strict=True))
    effective = 1 / sum(share**2 / stratum.draws for share, stratum in zip(shares, known, strict=True))
    if 0 < value < 1 and variance > 0:
        effective = min(effective, value * (1 - value) / variance)
    hits, tail = effective * value, (1 - level) / 2
    return Rate(
        value,
        beta_quantile(tail, hits, effective - hits + 1),
        beta_quantile(1 - tail, hits + 1, effective - hits),
        variance,
        sum(stratum.answered for stratum in known),
        sum(len(stratum.defective_n) - stratum.answered for stratum in strata),
        total / sum(stratum.total for stratum in strata),
    )


def relative_change(new: Rate, old: Rate) -> tuple[float, float, float]:
    r"""The change of a rate relative to another that was estimated independently, with its interval: new / old - 1.

    .. math:: \frac{L}{U} = \frac{p q \mp \sqrt{p^2 q^2 - b_p b_q (2 p - b_p)(2 q - b_q)}}{b_q (2 q - b_q)} - 1

    with p, q the two rates, and for the lower bound b_p the lower bound of p and b_q the upper one of q; for the upper bound
    the others. The upper bound is infinite where the old rate's interval reaches 0.

    Returns:
        The estimate, NaN where the old rate is 0, and its bounds.

    Source: Donner and Zou, Closed-form confidence intervals for functions of the normal mean and standard deviation,
    Statistical Methods in Medical Research 2012, equations 9 and 10 (MOVER-R).
    """
    p, q = new.value, old.value

    def bound(of_p: float, of_q: float, sign: int) -> float:
        below = of_q * (2 * q - of_q)
        if below <= 0:
            return -math.inf if sign < 0 else math.inf
        inside = (p * q) ** 2 - of_p * (2 * p - of_p) * below
        return (p * q + sign * math.sqrt(max(inside, 0.0))) / below

    low, high = bound(new.low, old.high, -1), bound(new.high, old.low, 1)
    return (p / q - 1 if q > 0 else math.nan), max(low, 0.0) - 1, high - 1


def _ratio(stratum: Stratum) -> float:
    answered_n = np.isfinite(stratum.defective_n)
    weights_n = stratum.impressions_n[answered_n] / stratum.probabilities_n[answered_n]
    return float(weights_n @ stratum.defective_n[answered_n] / weights_n.sum())


def _variance(stratum: Stratum, pooled: float) -> float:
    """Deville's variance of a stratum's rate; of one verdict alone, that of a draw at the pooled rate."""
    answered_n = np.isfinite(stratum.defective_n)
    count = int(answered_n.sum())
    pi_n = stratum.probabilities_n[answered_n] * (count / len(answered_n))
    x_n, y_n = stratum.impressions_n[answered_n], stratum.defective_n[answered_n]
    open_n = pi_n < 1
    uncertain = int(open_n.sum())
    if uncertain == 0:
        return 0.0
    if uncertain == 1:
        return pooled * (1 - pooled) * float(1 - pi_n[open_n].item()) / count
    weights_n = x_n / pi_n
    errors_n = (weights_n * (y_n - _ratio(stratum)) / weights_n.sum())[open_n]
    factors_n = (1 - pi_n[open_n]) * uncertain / (uncertain - 1)
    centre = factors_n @ errors_n / factors_n.sum()
    return float(factors_n @ (errors_n - centre) ** 2)
