"""Training, validation and test parts between which no near-duplicate and no advertiser's burst is shared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from tutelage.checks import check
from tutelage.data.drawn import Names, stratified_split
from tutelage.data.duplicates import Rows, connected
from tutelage.data.problems import Problems
from tutelage.data.table import ImageTable

PLAIN_PARTS = ("train", "student_val", "test")
"""The parts of moderation without which no model can be trained and judged."""

PARTS_OF_TASK = ("train", "teacher_val", "teacher_test", "student_val", "test")
"""The parts of moderation with specialists, which are selected and judged on the teachers' two."""

_DAY = pd.Timedelta(days=1)
GAP_DAYS = 15.0  # the paper's
_GAP_SHARE = 0.1  # of the rows, which the gaps may leave out where no gap is given
_FEW = 4  # examples of a class on which a specialist is judged, where there are that many


@dataclass(frozen=True)
class SplitSettings:
    """How a table is split. The defaults are the proportions of the sub-task imputation paper's Table 1.

    Args:
        train: Weight of the training part, relative to `val` and `test`.
        val: Weight of the validation part.
        test: Weight of the test part.
        teacher_val: Share of the validation part that selects the specialists' checkpoints.
        teacher_test: Share of the validation part that judges the specialists; the student gets the rest.
        gap_days: Days left out at the end of the training and of the validation part, before the next one starts; by default
            the paper's 15, or fewer if these would leave out more than a tenth of the rows.
        burst_days: Submissions of one advertiser within this many days of each other stay together.
        seed: Seed of every random draw.
    """

    train: float = 17_500
    val: float = 5_600
    test: float = 5_432
    teacher_val: float = 0.2
    teacher_test: float = 0.2
    gap_days: float | None = None
    burst_days: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        shares = dict.fromkeys(("teacher_val", "teacher_test"), "(0, 1)")
        weights = dict.fromkeys(("train", "val", "test"), "(0, inf)")
        check(self, "splits", **weights, **shares, gap_days="[0, inf)", burst_days="[0, inf)")
        if self.teacher_val + self.teacher_test >= 1:
            raise ValueError(
                f"splits.teacher_val + teacher_test is {self.teacher_val + self.teacher_test}: "
                "nothing is left for the student; give shares that sum to less than 1"
            )
        if self.burst_days > (GAP_DAYS if self.gap_days is None else self.gap_days):
            raise ValueError(
                f"splits.burst_days is {self.burst_days} and gap_days {self.gap_days or GAP_DAYS}: "
                "give 0 <= burst_days <= gap_days, or a burst would reach over the gap"
            )

    @property
    def parts(self) -> dict[str, float]:
        """Return shares of the three parts, in the order of time."""
        total = self.train + self.val + self.test
        return {"train": self.train / total, "val": self.val / total, "test": self.test / total}

    @property
    def val_parts(self) -> dict[str, float]:
        """Return shares of the three parts of the validation part."""
        student = 1 - self.teacher_val - self.teacher_test
        return {"teacher_val": self.teacher_val, "teacher_test": self.teacher_test, "student_val": student}


def lacking_parts(split: Iterable[str]) -> list[str]:
    """Return which of train, val and test no row has: those into which rows without a split go."""
    named = set(split)
    if not named.isdisjoint(PARTS_OF_TASK[1:-1]):
        named.add("val")
    return [part for part in ("train", "val", "test") if part not in named]


def split_table(
    images: ImageTable, problems: Problems, settings: SplitSettings | None = None, groups: Rows | None = None
) -> ImageTable:
    """Give every `unassigned` row its split, then divide `val` into teacher_val, teacher_test and student_val.

    With `submitted_at` the parts follow one another in time (see `temporal_split`); without, they are drawn at random,
    stratified by label, and all of one advertiser's rows stay together. The validation part is always drawn at
    random, stratified, bursts together. Rows that already have a split keep it, and the others go to the parts that none has:
    where only test rows are marked, the rest is for training and validation. Rows without a time (where others have
    one) are for training. Rows in a gap, or in a group of which an earlier part holds a member, go to `left_out`, and into
    `problems`.

    Where this leaves a part without a class, bursts are divided; where that is not enough and no gap is given, the times are
    passed over; where the validation part is too small to be divided, all of it selects the student, and no specialist can be
    judged. Each is a warning.

    Args:
        images: the table, best without its near-duplicates (`drop_duplicates`).
        problems: collects what is left out.
        settings: proportions, gap and seed; the paper's by default.
        groups: int64 (N,), rows that must not be parted, as in `Duplicates.groups`; none by default.

    Returns:
        The table with its new splits. The order of rows, and so every `index`, is unchanged.

    Raises:
        ValueError: the training, student's validation or test part lacks a class, with the cause: the table lacks it, the
            table's own splits do, or there are too few.
    """
    settings = settings or SplitSettings()
    table = images.table
    timed, advertised = "submitted_at" in table, "advertiser" in table
    fresh = table["split"] == "unassigned"
    if fresh.any() and 0 < len(parts := lacking_parts(table["split"])) < 3:
        problems.warn(
            "", "partly_split", f"{fresh.sum():,} rows without a split go to {' and '.join(parts)}, which no row names"
        )
    if timed and fresh.any() and table["submitted_at"][fresh].notna().mean() < 0.5:
        problems.warn("", "few_times", "most rows have no submission time, so that the parts are drawn at random")
        timed = False
    passed_over = [""]  # what one is after another given up, until every part has both classes
    if advertised:
        passed_over.append("bursts")
    if timed and settings.gap_days is None and fresh.any():
        passed_over += ["times", "bursts and times"] if advertised else ["times"]
    for judged, given_up in product((True, False), passed_over):
        noted = Problems()
        split = _split(table, noted, settings, groups, timed and "times" not in given_up, "bursts" not in given_up)
        if not judged:
            split[np.isin(split, list(settings.val_parts)) & (table["split"] != split)] = "student_val"
        drawn = lacking_parts(table["split"]) if fresh.any() else []
        labels = table["label"].to_numpy(np.int64)
        lacking = _lacking_class(split, labels, PARTS_OF_TASK if judged else PLAIN_PARTS, drawn)
        if not lacking:
            break
    else:
        raise ValueError(lacking)
    problems.extend(noted)
    if not judged:
        problems.warn("", "few_to_judge", _GIVEN_UP["judged"])
    for word in given_up.split(" and ") if given_up else ():
        problems.warn("", f"{word}_parted" if word == "bursts" else f"{word}_not_used", _GIVEN_UP[word])
    return images.with_split(split)


_GIVEN_UP = {
    "bursts": "one advertiser's submissions stand in several parts, since together they leave a part without a class",
    "judged": "too few validation examples to judge specialists: the teachers' parts would lack a class; all are student_val",
    "times": "the parts are drawn at random, since parts that follow in time leave one of them without a class",
}
_DETAILS = {
    "gap": "submitted in the days before the next part starts",
    "straddles": "a near-duplicate of a row in an earlier part",
}


def _split(
    table: pd.DataFrame, problems: Problems, settings: SplitSettings, groups: Rows | None, timed: bool, together: bool
) -> Names:
    """Return the split of each row (N,)."""
    split = table["split"].to_numpy(object, copy=True)
    labels = table["label"].to_numpy(np.int64)
    groups = np.arange(len(table)) if groups is None else groups
    bursts = _bursts(table, settings.burst_days) if together else np.arange(len(table))
    fresh = np.flatnonzero(split == "unassigned")
    lacking = lacking_parts(split) or list(settings.parts)
    total = sum(settings.parts[part] for part in lacking)
    parts = {part: settings.parts[part] / total for part in lacking}
    if len(fresh) and timed:
        times = table["submitted_at"].iloc[fresh]
        gap_days = _gap(times, parts, settings, problems)
        split[fresh], reasons = temporal_split(times, groups[fresh], parts, gap_days)
        for row, reason in zip(fresh, reasons, strict=True):
            if reason == "no_time":
                split[row] = lacking[0]
                used = {"train": "training", "val": "validation", "test": "the test"}[lacking[0]]
                problems.warn(table["id"].iloc[row], reason, f"without a submission time it is used for {used}")
            elif reason:
                problems.add(table["id"].iloc[row], reason, _DETAILS[reason])
    elif len(fresh):
        joined = _joined(groups[fresh], bursts[fresh])
        split[fresh] = stratified_split(labels[fresh], joined, parts, settings.seed)
    val = np.flatnonzero(split == "val")
    if len(val):
        fewest = min(int((labels[val] == label).sum()) for label in (0, 1))
        least = min(1 / 3, _FEW / max(fewest, 1))
        shares = {name: max(share, least) for name, share in settings.val_parts.items()}
        shares = {name: share / sum(shares.values()) for name, share in shares.items()}
        split[val] = stratified_split(labels[val], _joined(groups[val], bursts[val]), shares, settings.seed)
    return split


def _gap(times: pd.Series, parts: Mapping[str, float], settings: SplitSettings, problems: Problems) -> float:
    """Return the length of the gaps in days: the one that is given, or the paper's, halved until it leaves out few rows."""
    if settings.gap_days is not None:
        return settings.gap_days
    alone, gap_days = np.arange(len(times)), GAP_DAYS
    while True:
        share = np.mean(np.array(temporal_split(times, alone, parts, gap_days)[1]) == "gap")
        if share <= _GAP_SHARE:
            break
        gap_days = gap_days / 2 if gap_days > 0.1 else 0.0
    if gap_days < GAP_DAYS:
        days = f"{gap_days:.3g} instead of {GAP_DAYS:g} days lie between the parts, which leaves out {share:.0%} of the rows"
        problems.warn("", "short_gap", f"{days}; --splits.gap_days sets it")
    return gap_days


def temporal_split(
    times: pd.Series, groups: Rows, shares: Mapping[str, float], gap_days: float
) -> tuple[Names, list[str]]:
    """Return parts that follow one another in time, with a gap before each but the first.

    The parts meet at two instants (the shares' quantiles over all rows, of either class), as at a deployment; rows of
    one instant stay together. So the share of defects may drift from part to part, and rows of one advertiser
    closer than the gap are never parted. Of a group that spans parts, the earliest member's part keeps its rows.

    Args:
        times: submission times (N,), possibly absent.
        groups: int64 (N,), rows that must not be parted.
        shares: share of each part, by name, in the order of time; they sum to 1.
        gap_days: length of each gap, in days.

    Returns:
        The part of each row (N,), `left_out` where it has none, and the reason for that (N,), empty elsewhere.
    """
    names = [*shares, "left_out"]
    left_out = len(shares)
    known = np.flatnonzero(times.notna())
    in_order = times.iloc[known].sort_values()
    quantiles = np.cumsum(list(shares.values()))[:-1]
    starts = (
        [in_order.iloc[min(round(share * len(known)), len(known) - 1)] for share in quantiles] if len(known) else []
    )

    part = np.full(len(times), left_out)
    reasons = np.where(times.notna(), "", "no_time").astype(object)
    part[known] = np.searchsorted(pd.DatetimeIndex(starts), times.iloc[known], side="right") if starts else 0
    for start in starts:
        in_gap = ((times < start) & (times >= start - gap_days * _DAY)).to_numpy()
        part[in_gap], reasons[in_gap] = left_out, "gap"
    first = pd.Series(part).groupby(groups).transform("min").to_numpy()
    straddles = (part != first) & (part != left_out)
    part[straddles], reasons[straddles] = left_out, "straddles"
    return np.array(names, dtype=object)[part], reasons.tolist()


def _bursts(table: pd.DataFrame, days: float) -> Rows:
    """Return groups of rows: one advertiser's submissions that follow within `days`; all of them where no time is known."""
    alone = np.arange(len(table))
    if "advertiser" not in table:
        return alone
    facts = pd.DataFrame({"advertiser": table["advertiser"], "row": alone})
    facts["time"] = table["submitted_at"] if "submitted_at" in table else pd.Timestamp(0)
    facts = facts[facts["advertiser"].notna() & (facts["advertiser"] != "")]
    facts = facts.sort_values(["advertiser", "time", "row"], kind="stable")
    follows = (facts["advertiser"] == facts["advertiser"].shift()) & (facts["time"].diff() <= days * _DAY)
    rows = facts["row"].to_numpy()
    second = np.flatnonzero(follows)
    return connected(len(table), np.stack([rows[second - 1], rows[second]]))


def _joined(one: Rows, other: Rows) -> Rows:
    """Return the finest groups that part neither the groups of `one` nor of `other`."""
    rows = np.arange(len(one))
    firsts = [np.unique(groups, return_index=True, return_inverse=True)[1:] for groups in (one, other)]
    edges = [np.stack([rows, first[inverse]]) for first, inverse in firsts]
    return connected(len(one), np.concatenate(edges, axis=1))


def _lacking_class(split: Names, labels: Rows, parts: Sequence[str], drawn: Sequence[str]) -> str:
    """Return which split lacks a class, why, and what to do, in a sentence, or nothing; `drawn` are not the table's own."""
    for (label, word), name in product(((0, "defective"), (1, "acceptable")), ("", *parts)):
        inside = labels[(split == name) if name else labels >= 0]
        if (inside == label).any():
            continue
        if not name:
            return (
                f"none of the {len(inside)} labelled examples is {word}, and a model learns from both: give some that are, or "
                "say what your labels mean (--labels)"
            )
        said = f"split {name!r} has {len(inside)} examples and none of them is {word}: "
        own = name if name in ("train", "test") else "val"
        if own not in drawn:
            return said + (
                f"the table names the splits itself, so mark some examples that are {word} as {own!r}, or leave the cells of "
                f"that column empty (no row may then be {own!r})"
            )
        return said + (
            "give more data, a larger share for it (splits.train, val, test, teacher_val, teacher_test), or a shorter gap "
            "(splits.gap_days)"
        )
    return ""
