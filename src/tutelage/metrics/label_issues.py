"""Which labels are wrong? Confident learning on any model's out-of-sample predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.metrics.label_evidence import all_evidence, leave_one_out

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class LabelIssues:
    """The labels in doubt among N, with C classes.

    Attributes:
        ranked: the rows of the labels in doubt, the most doubtful first, (n,).
        score: the quality of each label, from 0 (surely wrong) to 1, (N,), by which they are ranked; NaN where there is none.
        given: the labels, (N,).
        suspected: the class that the predictions favour over the label's, (N,): where a label is in doubt, what it may be.
        joint_CC: the estimated share of examples with each given label (rows) and each true one (columns).
        ids: what the rows are called, where they are.
        classes: the classes' names, or their numbers.
    """

    ranked: Ints
    score: Floats
    given: Ints
    suspected: Ints
    joint_CC: Floats
    ids: Sequence[str] | None
    classes: Sequence[str]

    @property
    def noise_rate(self) -> float:
        """The estimated share of wrong labels."""
        return 1 - float(np.trace(self.joint_CC))

    def table(self) -> pd.DataFrame:
        """Return the labels in doubt, the most doubtful first: row, id where there are ids, given, suspected and score."""
        import pandas as pd

        names = np.array(self.classes, dtype=object)
        columns: dict[str, Any] = {"row": self.ranked}
        if self.ids is not None:
            columns["id"] = [self.ids[row] for row in self.ranked]
        columns["given"], columns["suspected"] = names[self.given[self.ranked]], names[self.suspected[self.ranked]]
        return pd.DataFrame({**columns, "score": self.score[self.ranked]})

    def __len__(self) -> int:
        return len(self.ranked)

    def __repr__(self) -> str:
        labels = int((self.given >= 0).sum())
        said = f"{len(self):,} of {labels:,} labels are in doubt; estimated to be wrong: {self.noise_rate:.1%}"
        rows = self.table()
        more = f"\n... and {len(rows) - 10:,} more" if len(rows) > 10 else ""
        return said if rows.empty else f"{said}\n{rows.head(10).to_string(index=False, float_format='%.3f')}{more}"


def find_label_issues(
    labels: ArrayLike,
    probabilities: ArrayLike | None = None,
    *,
    select: Literal["noise_rate", "confident"] = "noise_rate",
    rank_by: Literal["self_confidence", "normalised_margin"] = "self_confidence",
    features: ArrayLike | None = None,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
) -> LabelIssues:
    r"""Find the labels that out-of-sample predictions contradict, and rank them by all evidence against them.

    With :math:`X_i` the examples labelled i, a prediction is confident of class j where it reaches the class's mean,

    .. math:: t_j = \frac1{|X_j|} \sum_{x \in X_j} p_j(x), \qquad
        C_{ij} = \big|\{x \in X_i : j = \arg\max_{l : p_l(x) \ge t_l} p_l(x)\}\big|

    (eq. 2 and 1). The rows of C, scaled to sum to :math:`|X_i|`, estimate how many labels of each class belong to each other
    one (eq. 3). ``noise_rate`` takes, for each pair of classes, that many examples of i with the largest :math:`p_j - p_i`
    (3.2, method 4, what cleanlab does by default); ``confident`` takes those that C counts off its diagonal (method 2). A
    label that is the model's own choice is never in doubt.

    They are ranked by ``self_confidence``, :math:`p_y`, or ``normalised_margin``,
    :math:`(1 + p_y - \max_{j \ne y} p_j) / 2`; with features by the probability that the label is right in view
    of all evidence (see `label_evidence.all_evidence`).

    Args:
        labels: the given labels, 0 to C - 1, (N,), -1 where there is none. Those of a finished run are in
            `recipes.label_issues`.
        probabilities: of each class, (N, C), by a model that was not trained on the example, as in cross-validation: one that
            was has learned the wrong labels too. By default those of a ridge regression on the features.
        select: which labels are in doubt.
        rank_by: their score, if there are no features.
        features: of each example by an encoder that was not trained on these labels, (N, D): with them more of the wrong
            labels are found (``benchmarks/results/labels-laptop.md``), in time of N².
        ids: names of the examples, (N,).
        classes: the classes' names, (C,).

    Raises:
        ValueError: shapes, labels, probabilities or features that make no sense.

    Source: Northcutt, Jiang and Chuang, *Confident Learning: Estimating Uncertainty in Dataset Labels*, JAIR 2021.
    """
    x = None if features is None else _finite(labels, features)
    if probabilities is None:
        if x is None:
            raise ValueError(
                "probabilities or features are needed: the predictions (N, C) of a model that was not trained on these labels, "
                "or an encoder's features (N, D)"
            )
        probabilities = _by_ridge(np.asarray(labels), x)
    given, p_NC = _checked(labels, probabilities)
    count = p_NC.shape[1]
    for name, values, length in (("ids", ids, len(given)), ("classes", classes, count)):
        if values is not None and len(values) != length:
            raise ValueError(f"{len(values)} {name} for {length}: give one for each")
    known = np.flatnonzero(given >= 0)
    y, p = given[known], p_NC[known]
    sizes_C = np.bincount(y, minlength=count)
    confident = _confident_class(y, p, sizes_C)
    joint_CC = _joint(y, confident, sizes_C)
    doubted = _doubted(select, y, p, confident, joint_CC) & (p.argmax(1) != y)
    others = p.copy()
    others[np.arange(len(y)), y] = -1
    quality = _quality(rank_by, p[np.arange(len(y)), y], others)
    if x is not None and len(y) > 1:
        quality = all_evidence(y, p, x[known])
    score, suspected = np.full(len(given), np.nan), p_NC.argmax(1)
    score[known], suspected[known] = quality, others.argmax(1)
    rows = np.flatnonzero(doubted)
    names = list(classes) if classes is not None else [str(number) for number in range(count)]
    ranked = known[rows[np.argsort(quality[rows], kind="stable")]]
    return LabelIssues(ranked, score, given, suspected, joint_CC / max(len(y), 1), ids, names)


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Ints, Floats]:
    given, p_NC = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if p_NC.ndim != 2 or given.shape != p_NC.shape[:1]:
        raise ValueError(f"labels {given.shape} and probabilities {p_NC.shape}: give (N,) and (N, C)")
    if not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"labels are {given.dtype}: give the classes' numbers from 0, and -1 where there is no label")
    if len(given) and not -1 <= given.min() <= given.max() < p_NC.shape[1]:
        raise ValueError(
            f"labels lie in {given.min()} to {given.max()}: {p_NC.shape[1]} classes go from 0, -1 is no label"
        )
    wrong = ~np.isfinite(p_NC).all(1) | (p_NC < 0).any(1) | (np.abs(p_NC.sum(1) - 1) > 1e-3)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"probabilities[{row}] = {p_NC[row].tolist()}: give numbers from 0 that sum to 1, as softmax does"
        )
    return given.astype(np.int64), p_NC


def _confident_class(y: Ints, p: Floats, sizes_C: Ints) -> Ints:
    """Return the class that each prediction is confident of, (N,), -1 where it is none."""
    sums_C = np.bincount(y, weights=p[np.arange(len(y)), y], minlength=len(sizes_C))
    thresholds_C = np.where(sizes_C > 0, sums_C / np.maximum(sizes_C, 1), np.inf)
    reached = np.where(p >= thresholds_C - 1e-12, p, -1)
    return np.where(reached.max(1, initial=-1) >= 0, reached.argmax(1), -1)


def _joint(y: Ints, confident: Ints, sizes_C: Ints) -> Floats:
    """Return how many labels of each class (rows) belong to each true one: the confident counts, scaled to the class's size."""
    joint_CC = np.zeros((len(sizes_C), len(sizes_C)))
    np.add.at(joint_CC, (y[confident >= 0], confident[confident >= 0]), 1)
    totals_C = joint_CC.sum(1, keepdims=True)
    return np.where(totals_C > 0, joint_CC / np.maximum(totals_C, 1), np.eye(len(sizes_C))) * sizes_C[:, None]


def _doubted(select: str, y: Ints, p: Floats, confident: Ints, joint_CC: Floats) -> NDArray[np.bool_]:
    if select == "confident":
        return (confident >= 0) & (confident != y)
    if select == "noise_rate":
        return _largest_margins(y, p, joint_CC)
    raise ValueError(f"select={select!r} is not one of noise_rate, confident")


def _quality(rank_by: str, own: Floats, others: Floats) -> Floats:
    """Return each label's score, by its probability and those of the other classes, (N, C) with -1 at the label's."""
    if rank_by == "normalised_margin":
        return (1 + own - others.max(1)) / 2 if others.shape[1] > 1 else np.ones(len(own))
    if rank_by == "self_confidence":
        return own
    raise ValueError(f"rank_by={rank_by!r} is not one of self_confidence, normalised_margin")


def _largest_margins(y: Ints, p: Floats, joint_CC: Floats) -> NDArray[np.bool_]:
    """Return which examples of each class have the largest margins for each other class, as many as the joint counts say."""
    doubted = np.zeros(len(y), dtype=bool)
    for i, counts_C in enumerate(np.rint(joint_CC).astype(int)):
        rows = np.flatnonzero(y == i)
        for j in np.flatnonzero(counts_C):
            if j != i:
                margin = p[rows, j] - p[rows, i]
                doubted[rows[np.argsort(-margin, kind="stable")[: counts_C[j]]]] = True
    return doubted


def doubts(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, NDArray[Any]]:
    """Return the columns of a run's table that say what its model doubts, each (N,).

    Args:
        labels: 0 to C - 1, (N,), -1 where there is none.
        probabilities: of each class, (N, C), by the run's model.

    Returns:
        suspected (the likeliest other class, -1 without a label), suspicion (the probability that the label is wrong, NaN
        without one), and doubted (whether the other class is likelier than the label).
    """
    given, p_NC = _checked(labels, probabilities)
    known, rows = given >= 0, np.arange(len(given))
    own = p_NC[rows, given]
    others = p_NC.copy()
    others[rows, given] = -1
    other = others.argmax(1)
    doubted = known & (others[rows, other] > own)
    return {"suspected": np.where(known, other, -1), "suspicion": np.where(known, 1 - own, np.nan), "doubted": doubted}


def _finite(labels: ArrayLike, features: ArrayLike) -> Floats:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or x.shape[:1] != np.shape(labels) or not np.isfinite(x).all():
        raise ValueError(f"labels {np.shape(labels)} and features {x.shape}: give (N,) and (N, D), finite numbers")
    return x


def _by_ridge(given: NDArray[Any], x: Floats) -> Floats:
    known = given >= 0
    if not np.issubdtype(given.dtype, np.integer) or not known.any():
        raise ValueError("labels: give the classes' numbers from 0, at least one; -1 is no label")
    p_NC = np.full((len(given), count := int(given.max()) + 1), 1 / count)
    p_NC[known] = leave_one_out(given[known].astype(np.int64), x[known], count)
    return p_NC
