"""What labelling rules say: a matrix of votes, from and to files, and the table by which people mend their rules."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tutelage.data.cells import as_text, read_table
from tutelage.data.problems import Problems
from tutelage.data.vote_classes import ABSTAIN, VoteClasses
from tutelage.files import literal, write_table

_SCORE = "score:"
_WRENCH = {"train.json": "train", "valid.json": "val", "test.json": "test"}


@dataclass(frozen=True)
class Votes:
    """The votes of R rules on N examples.

    Attributes:
        values: the class that each rule votes for, -1 where it abstains, (N, R).
        names: the rules', R of them, all different.
        scores: how strongly a continuous rule's condition holds, in [0, 1], NaN where there is no score, (N, R); or None.
    """

    values: NDArray[np.int16]
    names: tuple[str, ...]
    scores: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        if self.values.ndim != 2 or self.values.shape[1] != len(self.names):
            raise ValueError(f"values has shape {self.values.shape}; expected (N, R) with R = {len(self.names)} names")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"names={self.names}: two rules of one name")
        if self.values.size and self.values.min() < ABSTAIN:
            raise ValueError(f"values holds {self.values.min()}; a vote is a class from 0, or -1")
        if self.scores is not None and self.scores.shape != self.values.shape:
            raise ValueError(f"scores has shape {self.scores.shape}, values {self.values.shape}")
        if self.scores is not None and not (np.isnan(self.scores) | (self.scores >= 0) & (self.scores <= 1)).all():
            raise ValueError("scores holds numbers outside [0, 1]; NaN stands for none")

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, rows: ArrayLike) -> Votes:
        """Return the votes on these examples."""
        picked = np.asarray(rows)
        return Votes(self.values[picked], self.names, None if self.scores is None else self.scores[picked])

    @property
    def covered(self) -> NDArray[np.bool_]:
        """Whether any rule votes, (N,)."""
        return (self.values != ABSTAIN).any(1)

    def write(
        self, path: str | os.PathLike[str], ids: Sequence[str] | None = None, classes: Sequence[str] = ()
    ) -> None:
        """Write the votes as .csv or .parquet: a column ``id`` where ids are given, one a rule, and one for its scores.

        Votes are the names of ``classes``, nothing where a rule abstains; without names they are numbers, and -1.

        Raises:
            ValueError: another ending.
        """
        path = Path(path)
        told = self.values if not classes else np.array([*classes, None], dtype=object)[self.values]  # -1 is the last
        frame = pd.DataFrame(told, columns=list(self.names))
        if self.scores is not None:
            for column, name in enumerate(self.names):
                if not np.isnan(self.scores[:, column]).all():
                    frame[_SCORE + name] = self.scores[:, column]
        if ids is not None:
            frame.insert(0, "id", list(ids))
        if path.suffix not in (".csv", ".parquet"):
            raise ValueError(f"votes {str(path)!r} must end in .csv or .parquet")
        write_table(path, frame)


def read_votes(
    path: str | os.PathLike[str],
    ids: Sequence[str] | None = None,
    classes: Sequence[str] = (),
    rows: tuple[NDArray[np.int64], int] | None = None,
) -> tuple[Votes, list[str] | None]:
    """Read a matrix of votes from .csv, .tsv, .parquet, or a .json file in WRENCH's form.

    A table has one row an example and one column a rule, whose cells are a class, or nothing where the rule abstains; a column
    ``id`` names the examples, and ``score:RULE`` holds a continuous rule's scores. A cell that is the name of a class is that
    class. Where no name looks like a number, a class may be told by its number, from 0, and -1 abstains.

    Args:
        path: the file.
        ids: the examples that are wanted, in order: the file's rows are found by its ids, or taken in order where it has none.
        classes: the names of the classes.
        rows: where the examples are not all of the data: the row of each one there, and how many rows these have.

    Returns:
        The votes, and the ids that the file has.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no matrix of votes, lacks an example that is wanted, or a vote means no class.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of votes {path}")
    if path.suffix == ".json":
        if VoteClasses(classes).numeric and list(classes) != [str(place) for place in range(len(classes))]:
            raise ValueError(
                f"{path} tells classes by their number from 0, and these are named {', '.join(classes)}: give the votes as "
                ".csv or .parquet, by the classes' names"
            )
        table, votes = read_wrench(path)
        found: list[str] | None = table["id"].tolist()
    elif path.suffix.lower() in (".csv", ".tsv", ".parquet", ".pq"):
        problems = Problems()
        frame = read_table(path, problems)
        if len(problems):
            first = next(iter(problems))
            raise ValueError(f"{path}: the row that begins with {first.id!r} has {first.detail}; mend it")
        frame.columns = [literal(str(name)) for name in frame]
        found = [literal(id) for id in as_text(frame.pop("id"))] if "id" in frame else None
        names = [str(name) for name in frame if not str(name).startswith(_SCORE)]
        orphans = [name for name in map(str, frame) if name.startswith(_SCORE) and name[len(_SCORE) :] not in names]
        if orphans:
            raise ValueError(f"{path} holds the column {orphans[0]!r}, but no votes of {orphans[0][len(_SCORE) :]!r}")
        columns = [VoteClasses(classes).of_cells(frame[name], f"{path}, column {name!r}") for name in names]
        values = np.stack(columns, 1) if columns else np.zeros((len(frame), 0), np.int16)
        scores = None
        if len(names) < frame.shape[1]:
            given = {name: _scores_of(frame[_SCORE + name], path) for name in names if _SCORE + name in frame}
            nothing = pd.Series(np.nan, index=frame.index)
            scores = np.stack([given.get(name, nothing).to_numpy(np.float32) for name in names], 1)
        votes = Votes(values, tuple(names), scores)
    else:
        raise ValueError(f"votes {path} ends in {path.suffix!r}: give a .csv, .tsv, .parquet or .json file")
    if not votes.names:
        raise ValueError(f"{path} holds no column of votes")
    return (votes if ids is None else votes.rows(_places(ids, found, len(votes), path, rows))), found


def _scores_of(cells: pd.Series, path: Path) -> pd.Series:
    text = cells.astype("string").fillna("").str.strip()
    numbers = pd.to_numeric(text, errors="coerce").astype(np.float32)
    wrong = (text != "") & ~numbers.between(0, 1)
    if wrong.any():
        raise ValueError(f"{path}, column {cells.name!r} holds {cells[wrong].iloc[0]!r}; expected a number in [0, 1]")
    return numbers


def _places(
    ids: Sequence[str], found: list[str] | None, count: int, path: Path, rows: tuple[NDArray[np.int64], int] | None
) -> NDArray[np.int64]:
    if found is None:
        places, expected = rows or (np.arange(len(ids)), len(ids))
        if expected != count:
            raise ValueError(f"{path} has {count} rows and no column 'id', but there are {expected} examples")
        return places
    place = {name: row for row, name in enumerate(found)}
    if len(place) < len(found):
        twice = next(name for row, name in enumerate(found) if place[name] != row)
        raise ValueError(f"{path} has the id {twice!r} more than once; leave one row of votes for each example")
    if missing := [name for name in ids if name not in place]:
        raise ValueError(f"{path} has no votes for {len(missing)} of {len(ids)} examples, such as id {missing[0]!r}")
    return np.array([place[name] for name in ids])


def read_wrench(path: str | os.PathLike[str]) -> tuple[pd.DataFrame, Votes]:
    """Read a data set in WRENCH's form: a .json file, or a folder with train.json, valid.json and test.json.

    Each file maps an id to ``{"label", "weak_labels" (-1 abstains), "data": {"text"}}``. Rules have no names there.

    Returns:
        A table (id, text, label as the number of the class, -1 where there is none, and split where it is a folder), and the
        votes on its rows.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has another form.
    """
    path = Path(path)
    files = [path / name for name in _WRENCH if (path / name).is_file()] if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise FileNotFoundError(f"there is no {path}, or none of {', '.join(_WRENCH)} in it")
    rows: list[dict[str, Any]] = []
    weak: list[list[int]] = []
    for file in files:
        try:
            for id, example in json.loads(file.read_text(encoding="utf-8")).items():
                split = _WRENCH.get(file.name, "") if path.is_dir() else ""
                name = f"{split}-{id}" if split else str(id)
                label = example.get("label", ABSTAIN)
                rows.append({"id": name, "text": example["data"]["text"], "label": label, "split": split})
                weak.append(example["weak_labels"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'{file} is not in WRENCH\'s form, an object of id -> {{"label", "weak_labels", "data": {{"text"}}}}: {error}'
            ) from error
    if len({len(votes) for votes in weak}) != 1:
        raise ValueError(f"{path}: weak_labels must have the same length everywhere, one number a rule")
    values = np.array(weak, dtype=np.int16)
    return pd.DataFrame(rows), Votes(values, tuple(f"rule_{column}" for column in range(values.shape[1])))


def counts_of(values_NR: NDArray[np.int16], classes: int) -> NDArray[np.int64]:
    """Return how many rules vote for each class, (N, C)."""
    return np.stack([(values_NR == label).sum(1) for label in range(classes)], 1)


def majority_vote(votes: Votes, classes: int, default: int) -> NDArray[np.int64]:
    """Return the class with the most votes, (N,); ``default`` where no rule votes, and in a tie that it is part of.

    Other ties go to the class of the least number.
    """
    counts_NC = counts_of(votes.values, classes)
    best_N = counts_NC.argmax(1)
    tied_N = counts_NC[:, default] == counts_NC.max(1)
    return np.where(tied_N, default, best_N)


def disagreement(votes: Votes, classes: int) -> NDArray[np.float64]:
    r"""Return how likely two votes, drawn with replacement, differ: :math:`1 - \sum_c (n_c / n)^2`, 0 without a vote, (N,).

    Two votes against two are as divided as one against one. (The share of contradicting *pairs* of rules would call the latter
    the worst there is, and every larger quarrel milder.)
    """
    counts_NC = counts_of(votes.values, classes)
    voting_N = counts_NC.sum(1)
    squares_N = (counts_NC**2).sum(1)
    return np.where(voting_N > 0, 1 - squares_N / np.maximum(voting_N, 1) ** 2, 0.0)


def most_disagreed(votes: Votes, classes: int, count: int = 20) -> NDArray[np.int64]:
    """Return the rows on which rules disagree most, by `disagreement`, then by the number of votes."""
    divided_N, voting_N = disagreement(votes, classes), (votes.values != ABSTAIN).sum(1)
    order = np.lexsort((np.arange(len(votes)), -voting_N, -divided_N))
    return order[divided_N[order] > 0][:count]


def analyse_rules(votes: Votes, labels: ArrayLike | None = None) -> pd.DataFrame:
    """Return one row a rule: what it votes for, how often, and how well.

    ``coverage`` is the share of examples it votes on, ``overlap`` that on which another rule votes too, ``conflict`` that on
    which another votes otherwise. ``correct``, ``incorrect`` and ``accuracy`` are of its votes on labelled examples, and
    ``low`` and ``high`` the ends of Wilson's 95 % interval.

    Args:
        votes: the votes.
        labels: (N,), -1 where an example is not labelled; None leaves the figures of accuracy out.

    Source: the definitions of Ratner et al., *Snorkel*, VLDB 2017.
    """
    values_NR = votes.values
    voted_NR = values_NR != ABSTAIN
    voting_N = voted_NR.sum(1)
    facts: dict[str, Any] = {
        "rule": list(votes.names),
        "classes": [np.unique(column[column != ABSTAIN]).tolist() for column in values_NR.T],
        "coverage": voted_NR.mean(0),
        "overlap": (voted_NR & (voting_N > 1)[:, None]).mean(0),
        "conflict": (voted_NR & _contradicted(values_NR, voted_NR)).mean(0),
    }
    if labels is not None:
        labels_N = np.asarray(labels)
        judged_NR = voted_NR & (labels_N >= 0)[:, None]
        right_NR = judged_NR & (values_NR == labels_N[:, None])
        facts["correct"], judged_R = right_NR.sum(0), judged_NR.sum(0)
        facts["incorrect"] = judged_R - facts["correct"]
        facts["accuracy"] = np.where(judged_R > 0, facts["correct"] / np.maximum(judged_R, 1), np.nan)
        facts["low"], facts["high"] = wilson(facts["correct"], judged_R)
    return pd.DataFrame(facts)


def _contradicted(values_NR: NDArray[np.int16], voted_NR: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether some vote differs from a rule's own: not all of an example's votes are the same."""
    highest_N = values_NR.max(1, initial=ABSTAIN)
    lowest_N = np.where(voted_NR, values_NR, np.iinfo(np.int16).max).min(1, initial=np.iinfo(np.int16).max)
    return np.broadcast_to((lowest_N < highest_N)[:, None], voted_NR.shape)


def wilson(successes: NDArray[Any], trials: NDArray[Any], z: float = 1.959964) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return Wilson's 95 % interval of a proportion, NaN where there was no trial."""
    n = np.where(trials > 0, trials, np.nan)
    share = successes / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


@dataclass(frozen=True)
class UnipolarRules:
    """Rules seen unipolar: J columns, one for each rule and class that it votes for.

    Attributes:
        rule: the rule of each column, (J,).
        rule_class: the class that it stands for, (J,).
        fired: whether it fires, (N, J) bool.
        scores: its score, 0.5 where there is none, (N, J).
        continuous: whether it ever has one, (J,).
    """

    rule: NDArray[np.int64]
    rule_class: NDArray[np.int64]
    fired: NDArray[np.bool_]
    scores: NDArray[np.float32]
    continuous: NDArray[np.bool_]


def unipolar(votes: Votes) -> UnipolarRules:
    """Divide each rule that votes for several classes into a column for each; one that never votes has none."""
    pairs = [
        (rule, int(label))
        for rule, column in enumerate(votes.values.T)
        for label in np.unique(column[column != ABSTAIN])
    ]
    rule, rule_class = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    fired = votes.values[:, rule] == rule_class
    given = np.full(fired.shape, np.nan, np.float32) if votes.scores is None else votes.scores[:, rule]
    has_score = fired & ~np.isnan(given)
    # A continuous rule needs a score wherever it votes.
    continuous = (has_score == fired).all(0) & fired.any(0)
    scores = np.where(has_score & continuous, given, np.float32(0.5)).astype(np.float32)
    return UnipolarRules(rule, rule_class, fired, scores, continuous)
