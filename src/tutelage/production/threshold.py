"""What a guaranteed threshold costs, in words."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from tutelage.data.manifest import Columns
from tutelage.metrics import Interval, bootstrap, npv_floor, threshold_at_fpr
from tutelage.production.guarantee import guaranteed_threshold
from tutelage.production.held_out import held_out
from tutelage.production.judgement import npv_of

SHOWN = 5  # of the defects that decide the threshold


def described(
    run_folder: Path,
    fpr: float,
    confidence: float,
    wrong_labels: float = 0.0,
    more: Path | None = None,
    columns: Columns = Columns(),
) -> str:
    """Return the guaranteed threshold of a run and what it costs, beside the one that has the rate on the held-out part.

    Arguments and errors: `guaranteed_threshold` and `held_out`.
    """
    scores, labels, ids = held_out(run_folder, more, columns)
    found = guaranteed_threshold(scores, labels, fpr, confidence, wrong_labels)
    observed = threshold_at_fpr(scores, labels, fpr)
    acceptable = int((labels == 1).sum())
    defects = np.flatnonzero(labels == 0)
    highest = defects[np.argsort(-scores[defects], kind="stable")][: found.passed + 1][:SHOWN]
    floor = npv_floor(found.defects, acceptable, fpr)
    return "\n".join(
        [
            f"threshold {found.threshold!r}: with confidence {confidence:g}, at most {found.bound:.4f} of all defects pass "
            f"({found.passed} of the {found.defects} held-out defects do; {fpr:g} is promised)",
            f"  flags {_share(scores, labels, found.threshold)} of the acceptable ads; NPV "
            f"{_npv(scores, labels, found.threshold)}, floor {floor:.3f}",
            f"without the guarantee: threshold {observed!r} flags {_share(scores, labels, observed)}; NPV "
            f"{_npv(scores, labels, observed)}",
            "the held-out defects that decide it; if one is labelled wrongly, correct it and run this again: "
            + ", ".join(f"{ids[row]} ({scores[row]:.4f})" for row in highest),
        ]
    )


def _flagged(scores: np.ndarray, labels: np.ndarray, threshold: float) -> float:
    return float((scores[labels == 1] <= threshold).mean())


def _share(scores: np.ndarray, labels: np.ndarray, threshold: float) -> Interval:
    return bootstrap(partial(_flagged, threshold=threshold), scores, labels)


def _npv(scores: np.ndarray, labels: np.ndarray, threshold: float) -> Interval:
    return bootstrap(partial(npv_of, threshold=threshold), scores, labels)
