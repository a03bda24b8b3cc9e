"""What people said of a sample of a run's test images, and how much of a defect each image counts as after that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tutelage.files import literal, read_parquet
from tutelage.metrics.promises import defects_needed
from tutelage.metrics.wrong_test_labels import checked_labels

FOLDER = "review"
"""Of a run's folder: what was drawn (`DRAWN`), and what people said (`ANSWERS`); training again leaves it as it is."""
DRAWN, ANSWERS = "drawn.parquet", "answers.csv"
VERDICTS = {"defective": 0, "acceptable": 1}

EVEN = 0.5
"""The confidence of a threshold by answers, at the least: that of an even chance."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """Answers to a draw from n test images.

    Attributes:
        label: what people said, (n,): 0 defective, 1 acceptable, -1 where they said nothing.
        probability: with which each image was drawn, (n,), 0 where it is no part of the draw's population.
        drawn: whether it was, (n,).
    """

    label: NDArray[np.int64]
    probability: Floats
    drawn: NDArray[np.bool_]

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which were drawn and have an answer, (n,)."""
        return self.drawn & (self.label >= 0)

    @property
    def share(self) -> float:
        """The share of what was drawn that has an answer."""
        return float(self.answered.sum() / max(int(self.drawn.sum()), 1))

    @property
    def assumed(self) -> str:
        """What the estimates rest on, in words."""
        rest = "" if self.share == 1 else "; that those drawn and not answered are like those answered"
        return (
            f"that the answers are right{rest}; nothing of the other labels, since the draw's probabilities are known and each "
            "answer stands for those that could have been drawn in its place"
        )

    def counted(self, expected: Floats) -> Floats:
        """Return how much of a defect each image counts as, (n,); see `checked_labels`.

        An image that people judged without its being drawn counts as what they said.

        Args:
            expected: by its label and score alone, (n,).
        """
        known = ~self.drawn & (self.label >= 0)
        defect = np.where(self.label >= 0, self.label == 0, np.nan).astype(np.float64)
        expected = np.where(known, np.nan_to_num(defect), expected)
        chance = np.where(self.answered, np.minimum(self.probability * self.share, 1.0), 1.0)
        return checked_labels(expected, defect, self.answered, chance)

    def plain_weight(self) -> Floats:
        """Return the weight with which each answer would also be in a plain sample, (n,): min pi / pi, 0 without an answer.

        An image that people judged without its being drawn has 0: nobody knows how it was come by.
        """
        found = np.zeros(len(self.label))
        found[self.answered] = self.probability[self.drawn].min() / self.probability[self.answered]
        return found

    @property
    def worth(self) -> float:
        """How many defects of a plain sample the answers hold."""
        return float(self.plain_weight()[self.label == 0].sum())

    def needed(self, defect: Floats, fpr: float) -> float:
        """Return how many defects of a plain sample it takes for a threshold at a rate.

        With fewer, more than the rate passes with a probability above one half even where no seen defect does
        (`defects_needed`). A test that holds few more asks for half of its own.

        Args:
            defect: how much of a defect each image counts as, (n,).
            fpr: the rate.
        """
        return min(float(defects_needed(fpr, EVEN)), max(float(defect.sum()), 0.0) / 2) if fpr > 0 else np.inf

    def decide(self, defect: Floats, fpr: float) -> bool:
        """Return whether the threshold at a rate is by the answers: they hold enough defects, or leave nothing open."""
        return bool((self.label >= 0).all()) or self.worth >= self.needed(defect, fpr)

    def more(self, defect: Floats, fpr: float) -> int | None:
        """Return how many further answers about how many it takes to `decide`, None where none of these is a defect."""
        answered = int(self.answered.sum())
        return (
            None if not self.worth else max(math.ceil(answered * self.needed(defect, fpr) / self.worth) - answered, 1)
        )

    def facts(self, labels: NDArray[np.int64]) -> dict[str, Any]:
        """Return how many were checked and found wrong, and how many of the test's labels are wrong by the draw.

        Both ways: of each label the share that is wrong, and of each truth the share that is labelled wrongly.

        Args:
            labels: as given, (n,).
        """
        wrong = (self.label != labels) & (self.label >= 0)
        told: dict[str, Any] = {
            "drawn": int(self.drawn.sum()),
            "answered": int((self.label >= 0).sum()),
            "wrong": int(wrong.sum()),
        }
        chance = np.where(self.answered, self.probability * self.share, 1.0)
        for name, given in VERDICTS.items():
            own = labels == given
            share = float(((wrong / chance)[own & self.answered]).sum() + wrong[own & ~self.drawn].sum())
            told[f"wrong_of_{name}"] = share / max(int(own.sum()), 1)
        stands_for = np.where(self.answered, 1 / chance, self.label >= 0)
        for truth, name in ((0, "false_acceptable"), (1, "false_defective")):
            own = self.label == truth
            told[name] = float(stands_for[own & wrong].sum() / max(stands_for[own].sum(), 1.0))
        return told


def answers_of(run: Path, ids: Sequence[str] | NDArray[Any]) -> Answers | None:
    """Return the answers that lie in a run's folder, None where there are none.

    Args:
        run: the folder.
        ids: of the test images.
    """
    folder = run / FOLDER
    if not (folder / ANSWERS).is_file() or not (folder / DRAWN).is_file():
        return None
    said = pd.read_csv(folder / ANSWERS, dtype=str, keep_default_na=False).map(literal).set_index("id")["label"]
    drawn = read_parquet(folder / DRAWN).set_index("id")["probability"]
    rows = pd.Index([str(each) for each in ids])
    label = said.map(VERDICTS).reindex(rows).fillna(-1).to_numpy(np.int64)
    probability = drawn.reindex(rows).fillna(0.0).to_numpy(np.float64)
    found = Answers(label.astype(np.int64), probability, probability > 0)
    return found if (found.label >= 0).any() else None
