"""The test part of a finished run, by all that is known of it: true labels, else people's answers, else labels as they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tutelage.files import read_json, read_parquet
from tutelage.metrics.moderation import above_gap
from tutelage.metrics.wrong_test_labels import defective_probability, expected_point
from tutelage.recipes.moderation.answers import Answers, answers_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class JudgedTest:
    """The n labelled images of a run's test part.

    Attributes:
        table: their rows of examples.parquet; ``label`` is the true one where it is known, else what people answered, else
            the one that was given.
        defect: how much of a defect each counts as in figures, (n,): 0 or 1 where nothing is doubted.
        unchecked: the same by the labels alone, without people's answers.
        weight: how much each says of all defects to come, (n,), in [0, 1]; see `guaranteed_threshold`. Once people have
            answered, what has no answer says nothing.
        errors: the error rates of labels that nobody has checked: false acceptable, false defective.
        answers: what people said, None where they were not asked.
        checked: whether ``defect`` rests on true labels or on answers, and not on labels as they are.
    """

    table: pd.DataFrame
    defect: Floats
    unchecked: Floats
    weight: Floats
    errors: tuple[float, float]
    answers: Answers | None
    checked: bool

    @classmethod
    def of(
        cls, table: pd.DataFrame, errors: tuple[float, float], answers: Answers | None, *, known: bool = False
    ) -> JudgedTest:
        """Return it of rows with columns ``score`` and ``label``, true ones where ``known``."""
        labels, ones = table["label"].to_numpy(np.int64), np.ones(len(table))
        if known:
            defect = (labels == 0).astype(np.float64)
            return cls(table, defect, defect, ones, (0.0, 0.0), None, True)
        scores = table["score"].to_numpy(np.float64)
        unchecked = defects_counted(scores, labels, errors, None)
        if answers is None:
            return cls(table, unchecked, unchecked, ones, errors, None, False)
        said, defect = np.where(answers.label >= 0, answers.label, labels), answers.counted(unchecked)
        return cls(table.assign(label=said), defect, unchecked, answers.plain_weight(), errors, answers, True)

    def defect_at(self, fpr: float) -> Floats:
        """Return how much of a defect each counts as at a rate, (n,): by the answers only where `Answers.decide` has it."""
        decided = self.answers is None or self.answers.decide(self.defect, fpr)
        return self.defect if decided else self.unchecked

    def told_by(self, fpr: float) -> str:
        """Say by what a figure at a rate is estimated."""
        if self.answers is not None and self.answers.decide(self.defect, fpr):
            return f"{int(self.answers.answered.sum())} answers of people"
        if self.answers is None and self.checked:
            return "the true labels"
        return "the labels, corrected for their estimated error rates" if any(self.errors) else "the labels as they are"

    @property
    def scores(self) -> Floats:
        """Of the served model, (n,)."""
        return self.table["score"].to_numpy(np.float64)

    @property
    def labels(self) -> NDArray[np.int64]:
        """0 defective, 1 acceptable, (n,)."""
        return self.table["label"].to_numpy(np.int64)


def judged_test(run: Path) -> JudgedTest:
    """Read the test part of a finished moderation run.

    Raises:
        FileNotFoundError: no finished run.
    """
    table = read_parquet(run / "examples.parquet")
    table = table[table["split"] == "test"]
    known = "true_label" in table
    table = table.assign(label=table["true_label"] if known else table["label"])
    table = table[table["label"] >= 0].reset_index(drop=True)
    if known:
        return JudgedTest.of(table, (0.0, 0.0), None, known=True)
    told = read_json(run / "metrics.json")["labels"]
    answers = answers_of(run, table["id"].astype(str).to_numpy())
    return JudgedTest.of(table, (told["false_acceptable"], told["false_defective"]), answers)


def defects_counted(
    scores: Floats, labels: NDArray[np.int64], errors: tuple[float, float], answers: Answers | None
) -> Floats:
    """Return how much of a defect each test image counts as, (n,), by its score, its label and people's answers.

    Args:
        scores: probabilities of acceptable, (n,), calibrated.
        labels: as given, (n,).
        errors: their error rates.
        answers: see `Answers.counted`.
    """
    expected = defective_probability(log_odds(scores), labels, errors)
    return expected if answers is None else answers.counted(expected)


def threshold_by(scores: Floats, defect: Floats, fpr: float) -> float:
    """Return the threshold at a false-positive rate where an image counts as so much of a defect.

    It is `expected_point`'s, moved to where nothing that may be acceptable is blocked beyond: see `above_gap`.
    """
    return above_gap(expected_point(scores, defect, fpr).threshold, scores, defect < 1)


def npv_by(scores: Floats, defect: Floats, threshold: float) -> float:
    """Return the share of defects in what scores at most the threshold, within [0, 1]; 0 where nothing does."""
    blocked = scores <= threshold
    return float(np.clip(defect[blocked].mean(), 0, 1)) if blocked.any() else 0.0


def log_odds(scores: Floats) -> Floats:
    """Return the log-odds of probabilities, which are kept from 0 and 1."""
    kept = np.clip(scores, 1e-15, 1 - 1e-15)
    return np.log(kept) - np.log1p(-kept)
