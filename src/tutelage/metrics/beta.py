"""The beta distribution, of which exact intervals for shares are made."""

from __future__ import annotations

import math


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b) = P(Beta(a, b) <= x), by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction of the other tail converges faster
        return 1 - beta_cdf(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    value, above, below = 1.0, 1.0, 0.0  # Lentz's method
    for j in range(1, 10_000):
        m = j // 2
        if j % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        below = 1 / ((1 + term * below) or 1e-300)
        above = (1 + term / above) or 1e-300
        value *= above * below
        if abs(above * below - 1) < 1e-15:
            break
    return front / (a * value)


def beta_quantile(share: float, a: float, b: float) -> float:
    """The x with P(Beta(a, b) <= x) = share, by Newton's method; Beta(0, b) is all at 0, and Beta(a, 0) at 1."""
    if a <= 0 or b <= 0:
        return float(a > 0)
    low, high = 0.0, 1.0
    log_scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    x = a / (a + b)
    for _ in range(200):
        error = beta_cdf(x, a, b) - share
        low, high = (x, high) if error < 0 else (low, x)
        density = math.exp(log_scale + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x)) if 0 < x < 1 else 0.0
        step = x - error / density if density > 0 else low
        following = step if low < step < high else (low + high) / 2
        if abs(following - x) <= 1e-14 * x:
            return following
        x = following
    return x
