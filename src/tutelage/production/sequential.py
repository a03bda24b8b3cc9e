r"""Tests and intervals that stay right however often one looks, and whenever one stops.

A week's audit of a variant is S defects among N draws. The pivotal method draws them so that S is distributed as a sum of
independent indicators, N p in mean (`sampling.pivotal`), for which, with any c = e^lambda - 1 > -1,

.. math:: E\, e^{\lambda S} \le (1 + p c)^N \qquad (1)

because log(1 + p c) is concave in p. A unit that is drawn with certainty adds a constant, and stands for as many draws as it
has impressions in the unit of one draw (`estimates.Stratum.draws`); by the same concavity (1) holds for all together, and for
verdicts between 0 and 1. Products over weeks of what (1) bounds by 1 are supermartingales whatever happened in the weeks
before, and by Ville's inequality such a product ever exceeds 1 / alpha with probability at most alpha.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

_RATES = np.geomspace(1e-3, 0.4, 10)  # of the variant with more defects, if there is a difference
_RATIOS = np.array([0.3, 0.5, 0.7])  # of the two rates
_EXPONENTS = np.geomspace(0.01, 8.0, 40)


def log_e_values(less: ArrayLike, less_draws: ArrayLike, more: ArrayLike, more_draws: ArrayLike) -> NDArray[np.float64]:
    r"""Evidence by each week that one variant has a lower rate than another, as the logarithm of an e-process.

    .. math:: E_t = \frac1G \sum_{(a, b)} \prod_{s \le t}
        \frac{a^{S_s} (1 - a)^{N_s - S_s} \; b^{S'_s} (1 - b)^{N'_s - S'_s}}
             {o_s^{S_s + S'_s} (1 - o_s)^{N_s + N'_s - S_s - S'_s}}, \qquad o_s = \frac{N_s a + N'_s b}{N_s + N'_s}

    over a grid of G alternatives a < b. Where in every week the first variant's rate is no lower than the second's, the
    expected value stays at most 1, so that P(E ever reaches 1 / alpha) <= alpha: it may be looked at every week, and the test
    may be stopped or go on for any reason. Rates may drift from week to week.

    Why: of draws with mean p in both, (1) bounds the expectation of one week's factor by

    .. math:: \left(p \tfrac{a}{o} + (1 - p) \tfrac{1 - a}{1 - o}\right)^N
              \left(p \tfrac{b}{o} + (1 - p) \tfrac{1 - b}{1 - o}\right)^{N'}

    which is at most 1: the weighted arithmetic mean of the two brackets is 1. The first bracket falls with the first rate, the
    second rises with the second one.

    Args:
        less, less_draws: (..., T) defects and draws of the variant that may be better, by week.
        more, more_draws: (..., T) those of the other one.

    Returns:
        (..., T) log E_t.

    Source: Turner, Ly and Grünwald, Generic E-variables for exact sequential k-sample tests, Journal of Statistical Planning
    and Inference 2024, for independent draws.
    """
    s, n, s_, n_ = (np.asarray(values, dtype=np.float64)[..., None] for values in (less, less_draws, more, more_draws))
    b = np.repeat(_RATES, len(_RATIOS))
    a = b * np.tile(_RATIOS, len(_RATES))
    both = n + n_
    o = np.where(both > 0, (n * a + n_ * b) / np.maximum(both, 1e-300), 0.5)
    log_o, log_1o = np.log(o), np.log1p(-o)
    week = s * (np.log(a) - log_o) + (n - s) * (np.log1p(-a) - log_1o)
    week += s_ * (np.log(b) - log_o) + (n_ - s_) * (np.log1p(-b) - log_1o)
    return _log_mean(np.cumsum(week, axis=-2))


def confidence_sequence(defects: ArrayLike, draws: ArrayLike, alpha: float = 0.05) -> tuple[NDArray, NDArray]:
    r"""Bounds for the mean of the weeks' rates, by their draws, that hold for all weeks at once with probability 1 - alpha.

    The lower bound after week t is the p, and the upper bound likewise with negative exponents, at which

    .. math:: \frac1G \sum_\lambda \exp\left(\lambda \textstyle\sum S_s - \sum N_s \log(1 + p (e^\lambda - 1))\right)
              = 2 / \alpha

    The sum lies below a supermartingale when p is the mean of the rates so far, because log(1 + p c) is concave: rates
    may drift.

    Args:
        defects, draws: (..., T) S and N by week.
        alpha: the probability that any bound ever fails.

    Returns:
        Lower and upper bounds, (..., T).

    Source: the sub-Bernoulli case of Howard, Ramdas, McAuliffe and Sekhon, Time-uniform, nonparametric, nonasymptotic
    confidence sequences, Annals of Statistics 2021, with a discrete mixture.
    """
    s = np.cumsum(np.asarray(defects, dtype=np.float64), axis=-1)
    n = np.cumsum(np.asarray(draws, dtype=np.float64), axis=-1)
    needed = math.log(2 / alpha)

    def evidence(p: NDArray, exponents: NDArray) -> NDArray:
        return _log_mean(exponents * s[..., None] - n[..., None] * np.log1p(p[..., None] * np.expm1(exponents)))

    low, high = np.zeros_like(s), np.ones_like(s)
    outside, inside = low.copy(), np.divide(s, n, out=np.full_like(s, 0.5), where=n > 0)
    for _ in range(50):
        middle = (outside + inside) / 2
        excluded = evidence(middle, _EXPONENTS) >= needed
        outside, inside = np.where(excluded, middle, outside), np.where(excluded, inside, middle)
    low = outside
    outside, inside = high, np.divide(s, n, out=np.full_like(s, 0.5), where=n > 0)
    for _ in range(50):
        middle = (outside + inside) / 2
        excluded = evidence(middle, -_EXPONENTS) >= needed
        outside, inside = np.where(excluded, middle, outside), np.where(excluded, inside, middle)
    return low, outside


def _log_mean(values: NDArray) -> NDArray:
    """log of the mean of exp over the last axis."""
    top = values.max(axis=-1, keepdims=True)
    return np.log(np.exp(values - top).mean(axis=-1)) + top[..., 0]
