"""Which specialists are competent?"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.checks import check
from tutelage.metrics import auroc, beyond_chance, bootstrap, local_precision, npv_at_fpr, npv_floor, operating_point
from tutelage.metrics.beta import beta_quantile
from tutelage.metrics.moderation import Convention
from tutelage.subtasks.operating import operating_points

FloatArray = NDArray[np.float64]


class VacuousThreshold(UserWarning):
    """A threshold that no specialist can fail."""


@dataclass(frozen=True)
class SelectionSettings:
    """How specialists are selected on teacher-test.

    Args:
        rule: Rule that keeps specialists. precision: a local precision (the share of defects among the examples that a
            specialist flags first, until it has flagged 2 % of the acceptable ones) of at least the threshold, by default half
            way between chance (the share of defects) and Otsu's threshold, which divides the specialists into the two most
            distinct groups; the default is low because all defects of a wrongly dropped sub-task pass, while a wrongly kept
            one only adds noise. npv (the paper's): an NPV at 1 % FPR of at least threshold. lift: an NPV of at least threshold
            above its floor. top: the share threshold of specialists with the highest local precision.
        threshold: Threshold of the rule; every rule except precision needs one. The paper's 0.1 for npv lies below the lowest
            possible value and keeps every specialist.
        flagged: Share of the acceptable examples that a specialist may flag, for local precision.
        fpr: False-positive rate of NPV.
        judged_on: Part that judges: teacher_test, as in the paper, or both (also teacher-val), for few held-out examples.
        window: Held-out examples over which a specialist's operating point is averaged (see `operating_points`).
        significance: With any rule, a specialist counts only if its held-out evidence excludes chance at this level, for
            all specialists together (see `beyond_chance`); 1 disables this, as in the paper.
    """

    rule: Literal["precision", "npv", "lift", "top"] = "precision"
    threshold: float | None = None
    flagged: float = 0.02
    fpr: float = 0.01
    judged_on: Literal["teacher_test", "both"] = "teacher_test"
    window: int = 20
    significance: float = 0.05

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "selection", flagged="[0, 1)", fpr="[0, 1)", window="[1, inf)", significance="(0, 1]")
        if self.rule != "precision" and self.threshold is None:
            raise ValueError(f"selection.rule={self.rule!r} needs selection.threshold")


@dataclass(frozen=True)
class Selection:
    """The verdict on each specialist, arrays of (K,).

    Attributes:
        competence: what the rule looks at, with its 95 % interval in ``low`` and ``high``; NaN for a failure.
        npv: NPV at the false-positive rate on the whole task.
        auroc: on the whole task.
        local_precision: see `SelectionSettings`.
        p_value: how easily useless specialists look as good (see `beyond_chance`); NaN for a failure.
        kept: whether the specialist is listened to.
        operating_point: the log-odds of acceptable below which it objects (see `operating_points`), drawn half way to the mean
            of the kept specialists'; NaN where it never does.
        reasons: why, in words.
        threshold: what the competence was compared with.
    """

    competence: FloatArray
    low: FloatArray
    high: FloatArray
    npv: FloatArray
    auroc: FloatArray
    local_precision: FloatArray
    p_value: FloatArray
    kept: NDArray[np.bool_]
    operating_point: FloatArray
    reasons: list[str]
    threshold: float


def otsu(values: FloatArray) -> float:
    """Return the threshold that maximises the variance between the values below and above it, half way between two.

    Source: Otsu, *A Threshold Selection Method from Gray-Level Histograms*, IEEE Trans. SMC 1979, eq. 13. With fewer than two
    different values nothing is parted, and the least value is returned.
    """
    ordered = np.sort(values)
    if len(ordered) < 2 or ordered[0] == ordered[-1]:
        return float(ordered[0]) if len(ordered) else 0.0
    below = np.arange(1, len(ordered))
    above = len(ordered) - below
    low = np.cumsum(ordered)[:-1] / below
    high = np.cumsum(ordered[::-1])[::-1][1:] / above
    cut = int(np.argmax(below * above * (high - low) ** 2))
    return float((ordered[cut] + ordered[cut + 1]) / 2)


def select(
    scores_NK: FloatArray,
    labels_N: NDArray[np.int64],
    settings: SelectionSettings,
    *,
    failures: dict[int, str] | None = None,
    seed: int = 0,
) -> Selection:
    """Judge the specialists by their scores of acceptability on teacher-test.

    Ties are broken by AUROC, then by the sub-task's number, so that the verdict is a function of its arguments.

    Args:
        scores_NK: each specialist's log-odds of acceptable for each example.
        labels_N: 0 defective, 1 acceptable.
        settings: the rule.
        failures: specialists that could not be trained, and why; they are not kept.
        seed: of the bootstrap and of the permutations.

    Warns:
        VacuousThreshold: a threshold at or below the floor of NPV, which every specialist passes however bad.
    """
    failures = failures or {}
    count = scores_NK.shape[1]
    good = [k for k in range(count) if k not in failures and np.isfinite(scores_NK[:, k]).all()]
    defects, acceptable = int((labels_N == 0).sum()), int((labels_N == 1).sum())
    floor, share = npv_floor(defects, acceptable, settings.fpr), defects / (defects + acceptable)
    npv, precision = partial(npv_at_fpr, fpr=settings.fpr), partial(local_precision, share=settings.flagged)

    def lift(scores: FloatArray, labels: NDArray[np.int64]) -> float:
        return npv(scores, labels) - floor

    measures: dict[str, Callable[..., float]] = {"precision": precision, "top": precision, "npv": npv, "lift": lift}
    names = ("competence", "low", "high", "npv", "auroc", "local_precision", "p_value")
    values = {name: np.full(count, np.nan) for name in names}
    values["p_value"][good] = beyond_chance(scores_NK[:, good], labels_N, seed=seed)
    for k in good:
        column = scores_NK[:, k]
        interval = bootstrap(measures[settings.rule], column, labels_N, seed=seed)
        values["competence"][k] = interval.value
        values["low"][k], values["high"][k] = _exact(column, labels_N, settings) or (interval.low, interval.high)
        values["npv"][k], values["local_precision"][k] = npv(column, labels_N), precision(column, labels_N)
        values["auroc"][k] = auroc(column, labels_N)

    if settings.rule == "npv" and settings.threshold is not None and settings.threshold <= floor:
        warnings.warn(
            f"threshold={settings.threshold} is not above {floor:.4f}, the lowest NPV at {settings.fpr:.0%} FPR that {defects} "
            f"defects and {acceptable} acceptable examples allow; it keeps every specialist, however bad",
            VacuousThreshold,
            stacklevel=2,
        )
    ranked = sorted(good, key=lambda k: (-values["competence"][k], -values["auroc"][k], k))
    bar = settings.threshold
    if settings.rule == "top":
        keep = set(ranked[: math.ceil(float(bar or 0) * len(good))])
        bar = min((values["competence"][k] for k in keep), default=math.inf)
    else:
        if bar is None:
            bar = (share + otsu(values["competence"][good])) / 2
        keep = {k for k in good if values["competence"][k] >= bar}
    able = {k for k in good if values["p_value"][k] <= settings.significance}
    by_precision = settings.rule in ("precision", "top") and math.isfinite(bar)
    found = operating_points(scores_NK, labels_N, bar if by_precision else (1 + share) / 2, settings.window)
    # A point that a score of examples decides is uncertain: each is drawn half way to the mean of those that are heard.
    kept = np.array([k in keep & able for k in range(count)])
    heard = kept & np.isfinite(found)
    points = (found + found[heard].mean()) / 2 if heard.any() else found
    called = {"precision": "local precision", "top": "local precision", "npv": "NPV", "lift": "lift over the floor"}
    reasons = []
    for k in range(count):
        if k in failures:
            reasons.append(f"its training failed: {failures[k]}")
        elif k not in good:
            reasons.append("its scores are not finite")
        else:
            verdict = "reaches" if k in keep else "is below"
            reasons.append(f"{called[settings.rule]} {values['competence'][k]:.3f} {verdict} {bar:.3f}")
            if k not in able:
                joined, p = "but" if k in keep else "and", values["p_value"][k]
                reasons[-1] += (
                    f", {joined} the best of {len(good)} that know nothing does as well with probability {p:.2g}"
                )
    return Selection(**values, kept=kept, operating_point=points, reasons=reasons, threshold=float(bar))


def _exact(
    scores_N: FloatArray, labels_N: NDArray[np.int64], settings: SelectionSettings
) -> tuple[float, float] | None:
    """Return Clopper and Pearson's 95 % interval where all that is flagged is right, or nothing: no resample differs from that.

    None where resamples differ, and for a lift.
    """
    if settings.rule == "lift":
        return None
    convention: Convention = "paper" if settings.rule == "npv" else "swapped"
    share = settings.fpr if settings.rule == "npv" else settings.flagged
    point = operating_point(scores_N, labels_N, share, convention)
    right, wrong = point.true_negatives, point.false_negatives
    if right and wrong:
        return None
    return beta_quantile(0.025, right, wrong + 1), beta_quantile(0.975, right + 1, wrong)
