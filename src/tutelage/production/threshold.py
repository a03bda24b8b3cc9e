"""What a guaranteed threshold costs, in words."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from tutelage.data.manifest import Columns
from tutelage.metrics import Interval, bootstrap_rows, npv_floor
from tutelage.production.guarantee import guaranteed_threshold
from tutelage.production.held_out import HeldOut, held_out
from tutelage.recipes.moderation.judged import npv_by, threshold_by

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
    held = held_out(run_folder, more, columns)
    scores, labels = held.scores, held.labels
    found = guaranteed_threshold(scores, labels, fpr, confidence, wrong_labels, held.weight)
    further = held.defect[len(held.test.defect) :]
    held = replace(held, defect=np.concatenate([held.test.defect_at(fpr), further]))
    observed = threshold_by(scores, held.defect, fpr)
    says = held.weight > 0
    defects = np.flatnonzero((labels == 0) & says)
    highest = defects[np.argsort(-scores[defects], kind="stable")][: found.passed + 1][:SHOWN]
    defective = float(np.clip(held.defect.sum(), 1, len(scores) - 1))
    floor = npv_floor(round(defective), len(scores) - round(defective), fpr)
    worth = "" if found.weighing > found.defects - 1e-9 else f", worth {found.weighing:.1f} of a plain sample"
    return "\n".join(
        [
            f"threshold {found.threshold!r}: with confidence {confidence:g}, at most {found.bound:.4f} of all defects pass "
            f"({found.passed} of the {found.defects} held-out defects do{worth}; {fpr:g} is promised)",
            f"  flags {_flagged(held, found.threshold)} of the acceptable ads; NPV {_npv(held, found.threshold)}, "
            f"floor {floor:.3f}",
            f"without the guarantee: threshold {observed!r} flags {_flagged(held, observed)}; NPV {_npv(held, observed)}",
            *_assumed(held, wrong_labels),
            "the held-out defects that decide it: "
            + ", ".join(f"{held.ids[row]} ({scores[row]:.4f})" for row in highest),
        ]
    )


def _assumed(held: HeldOut, wrong_labels: float) -> list[str]:
    """Say by which labels the guarantee is made."""
    answers, errors, lines = held.test.answers, held.test.errors, []
    if wrong_labels:
        lines.append(
            f"assumed: of the labels 'defective' {wrong_labels:.1%} are wrong (--wrong_labels), whichever they are, and no more"
        )
    if answers is not None:
        count, drawn = int(answers.answered.sum()), int(answers.drawn.sum())
        said = f"the test counts by the {count} answers about {drawn} drawn images alone; assumed: {answers.assumed}"
        return [*lines, said]
    if any(errors):
        what = (
            f"no more than {wrong_labels:.1%} of the labels 'defective' for wrong"
            if wrong_labels
            else "the labels for right"
        )
        lines.append(
            f"the guarantee takes {what}, although held-out labels show errors (of the defects, "
            f"{errors[0]:.1%} are labelled acceptable; of what is acceptable, {errors[1]:.1%} defective): check those that "
            "decide, or a sample of the test (tutelage review)"
        )
    elif not wrong_labels and "true_label" not in held.test.table:
        lines.append("assumed: the labels are right; if one that decides is wrong, correct it and run this again")
    return lines


def _flagged(held: HeldOut, threshold: float) -> Interval:
    return bootstrap_rows(partial(_flagged_share, threshold=threshold), held.scores, held.defect)


def _flagged_share(scores: np.ndarray, defect: np.ndarray, threshold: float) -> float:
    acceptable = (1 - defect).sum()
    return float(np.clip((1 - defect)[scores <= threshold].sum() / acceptable, 0, 1)) if acceptable > 0 else 0.0


def _npv(held: HeldOut, threshold: float) -> Interval:
    return bootstrap_rows(partial(npv_by, threshold=threshold), held.scores, held.defect)
