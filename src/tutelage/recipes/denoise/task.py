"""What is learned from: texts as vectors, few labels, and what the rules say of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.data import Problems
from tutelage.data.duplicates import NO_DUPLICATES, drop_equal_texts
from tutelage.data.fingerprint import fingerprint
from tutelage.data.given_features import read_given_features
from tutelage.data.rules import apply_rules, load_rules
from tutelage.data.text import FeatureRows, Features
from tutelage.data.text_table import PLACE, SPLITS, TextColumns, count_rows, divide_texts, read_texts
from tutelage.data.votes import ABSTAIN, UnipolarRules, Votes, counts_of, majority_vote, read_votes, read_wrench
from tutelage.recipes.denoise.settings import DenoiseSettings
from tutelage.training import seeds


@dataclass(frozen=True)
class RuleTask:
    """Texts of which some are labelled, and the votes of rules on all of them.

    Attributes:
        title: its name.
        table: id, label by number (-1 for none), split (train, val, test), and text where there is one; one row a text.
        classes: the names of the classes.
        features: (N, D), sparse or dense.
        votes: of the rules, (N, R).
        exemplars: which text a rule was written for, (N, R) bool, where that is known.
        transform: what turns new texts into features; None where features were given.
        problems: what was left out.
        failures: how often each rule failed.
        duplicates: the groups of equal texts that were found.
    """

    title: str
    table: pd.DataFrame
    classes: list[str]
    features: Any
    votes: Votes
    exemplars: NDArray[np.bool_] | None = None
    transform: Features | None = None
    problems: Problems = field(default_factory=Problems)
    failures: dict[str, int] = field(default_factory=dict)
    duplicates: pd.DataFrame = field(default_factory=NO_DUPLICATES.copy)

    def __post_init__(self) -> None:
        """Check that it can be learned from, and hold what every method reads of it."""
        if len(self.classes) < 2:
            named = f"name one class, {self.classes[0]!r}" if self.classes else "name no class: no text is labelled"
            raise ValueError(f"{self.title}: the labels {named}; some texts of at least two classes are needed")
        if (self.labels >= 0).any() and not (self.labels[self.rows("train")] >= 0).any():
            raise ValueError(
                f"{self.title}: labelled texts are in the splits val and test alone; give some of them the split train, or "
                "leave the column split out"
            )
        votes = self.votes.values
        if votes.size and votes.max() >= len(self.classes):
            raise ValueError(f"{self.title}: a rule votes for class {votes.max()}; the classes are {self.classes}")
        if not self.votes.covered[self.rows("train").numpy()].any():
            raise ValueError(f"{self.title}: no rule votes on any training text")

    @property
    def labels(self) -> Tensor:
        """The label of each text, (N,), -1 where there is none."""
        return torch.from_numpy(self.table["label"].to_numpy(np.int64, copy=True))

    def rows(self, *splits: str) -> Tensor:
        """Return the rows of these splits, ascending."""
        return torch.from_numpy(np.flatnonzero(self.table["split"].isin(splits)))

    def absent(self) -> dict[str, list[str]]:
        """Return for each split the classes of which no text is labelled there, where there are any; none without labels."""
        found = {}
        for split in SPLITS if (self.labels >= 0).any() else ():
            labels = self.labels[self.rows(split)]
            found[split] = [name for number, name in enumerate(self.classes) if not (labels == number).any()]
        return {split: names for split, names in found.items() if names}

    def judged_by(self) -> Tensor:
        """Return the labels that the test is judged by, (N,): the given ones."""
        return self.labels

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows that are labelled for training, unlabelled with a vote, and held out for validation."""
        train, labels = self.rows("train"), self.labels
        covered = torch.from_numpy(self.votes.covered)
        val = self.rows("val")
        unlabelled = train[(labels[train] < 0) & covered[train]]
        return train[labels[train] >= 0], unlabelled, val[labels[val] >= 0]

    def silent_rules(self) -> list[str]:
        """Return the names of the rules that vote on no text."""
        return [
            name
            for name, voted in zip(self.votes.names, (self.votes.values != ABSTAIN).any(0), strict=True)
            if not voted
        ]

    def default_class(self) -> int:
        """Return the class with the most training labels, or votes where there are none: the majority's where no rule votes."""
        labelled, _, _ = self.parts()
        if len(labelled) == 0:
            return int(counts_of(self.votes.values, len(self.classes)).sum(0).argmax())
        return int(torch.bincount(self.labels[labelled], minlength=len(self.classes)).argmax())

    def majority(self) -> NDArray[np.int64]:
        """Return the majority's class for every text, (N,)."""
        return majority_vote(self.votes, len(self.classes), self.default_class())

    def tied(self) -> NDArray[np.bool_]:
        """Return whether no class has more votes than every other, as where no rule votes, (N,)."""
        counts_NC = counts_of(self.votes.values, len(self.classes))
        return (counts_NC == counts_NC.max(1, keepdims=True)).sum(1) > 1

    def weighted_votes(self, known: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the class that each text's votes make likeliest, (N,), and whether it is likelier than all others together.

        .. math:: p(y \mid v) \propto \prod_{j: v_j = y} \frac{a_j (C - 1)}{1 - a_j}, \qquad
            a_j = \frac{\text{right}_j + 2 \bar a}{\text{judged}_j + 2}

        with each rule's votes judged by the labels of ``known``, and :math:`\bar a` the accuracy of all of them together: rules
        err independently, any wrong class being as likely as another. A rule worse than chance speaks against its class.

        Source: Dawid and Skene, *Maximum Likelihood Estimation of Observer Error-Rates*, 1979, with one rate a rule.

        Args:
            known: the rows whose labels judge the rules.
        """
        votes_NR, classes = self.votes.values, len(self.classes)
        voted_nR = votes_NR[known.numpy()] != ABSTAIN
        right_nR = voted_nR & (votes_NR[known.numpy()] == self.labels[known].numpy()[:, None])
        every = (right_nR.sum() + 0.5) / (voted_nR.sum() + 1)
        accuracy_R = ((right_nR.sum(0) + 2 * every) / (voted_nR.sum(0) + 2)).clip(0.01, 0.99)
        weight_R = np.log(accuracy_R * (classes - 1) / (1 - accuracy_R))
        score_NC = np.stack([(votes_NR == label) @ weight_R for label in range(classes)], 1)
        share_N, label_N = torch.from_numpy(score_NC).softmax(1).max(1)
        return label_N, (share_N > 0.5) & torch.from_numpy(self.votes.covered)

    def data(self, columns: UnipolarRules) -> FeatureRows:
        """Return all texts as batches: features, fired columns and scores in ``input``, and what the signals name."""
        labels = self.labels
        weak = torch.where(labels >= 0, labels, torch.from_numpy(self.majority()))
        extra = {}
        if self.exemplars is not None:
            extra["exemplar"] = torch.from_numpy(self.exemplars[:, columns.rule] & columns.fired)
        return FeatureRows(
            self.features,
            label=labels,
            weak_label=weak,
            label_model_label=torch.full_like(labels, -1),
            fired=torch.from_numpy(columns.fired),
            scores=torch.from_numpy(columns.scores),
            beside=("fired", "scores"),
            **extra,
        )

    def fingerprint(self) -> str:
        """Return a hash of what training sees: features, votes, ids, labels and splits."""
        return fingerprint(self.table[["id", "label", "split"]], self.features, self.votes, self.exemplars)


def text_task(
    data: Path,
    settings: DenoiseSettings,
    *,
    rules: Path | None = None,
    votes: Path | None = None,
    vectors: Path | None = None,
    columns: TextColumns = TextColumns(),
    classes: tuple[str, ...] = (),
    processes: int | None = None,
    quiet: bool = False,
) -> RuleTask:
    """Read texts, of which equal ones count once, and apply labelling functions (rules) to them.

    Data in WRENCH's form are taken as they are, so that figures can be compared.

    Args:
        data: CSV, TSV or Parquet file with a column text (and label, id, split), or a folder in WRENCH's form with votes.
        settings: Features, and how labelled texts without a split are divided.
        rules: Python file of labelling functions, which is executed.
        votes: File of votes (CSV, Parquet or WRENCH's JSON) of labelling functions applied elsewhere.
        vectors: File of features instead of computed ones: CSV or Parquet with a column id, or NPY or NPZ in the order of data.
        columns: Names of the file's columns.
        classes: Names of the classes in the order of their numbers; by default the labels that occur, sorted.
        processes: Number of processes that apply the rules; by default all cores for large files.
        quiet: Show no progress bar.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: what it holds cannot be learned from, with what to do.
    """
    data = Path(data)  # a program may give text
    wrench = data.is_dir() or data.suffix == ".json"
    if (rules is None) == (votes is None) and not (wrench and rules is None):
        raise ValueError("give either rules, a Python file, or votes, a file of what rules said, and not both")
    given = None if vectors is None else read_given_features(vectors)
    problems, found, failures, duplicates = Problems(), None, {}, NO_DUPLICATES
    if wrench:
        table, found = read_wrench(data)
        top = max(int(table["label"].max()), int(found.values.max())) + 1
        names = list(classes) or [str(number) for number in range(top)]
        if given is not None:
            places = given.places(table["id"], len(table), problems)
            table, found = table.assign(**{PLACE: places})[places >= 0].reset_index(drop=True), found.rows(places >= 0)
    else:
        table, names, problems = read_texts(data, columns, classes, features=given)
        if table.empty:
            raise ValueError(f"{data}: no text is left; {problems.summary()}")
        table, duplicates = drop_equal_texts(table, problems)
        duplicates["label"] = [names[label] if label >= 0 else "" for label in duplicates["label"]]
        places, table = table.index.to_numpy(np.int64), table.reset_index(drop=True)
    vectors_N = None if given is None else given.first(table.pop(PLACE).to_numpy(np.int64))
    if rules is not None:
        applied = apply_rules(load_rules(rules), table, classes=names, processes=processes, quiet=quiet)
        found, failures = applied.votes, applied.failures
        for problem in applied.problems:
            problems.warn(problem.id, problem.reason, problem.detail)
    elif votes is not None:
        rows = None if wrench else (places, count_rows(data))
        found, _ = read_votes(votes, table["id"].tolist(), names, rows)
    assert found is not None
    shares = {"val": settings.parts.val, "test": settings.parts.test}
    table = divide_texts(table, shares, lambda label: seeds.generator(settings.parts.seed, "parts", label))
    transform = None
    if vectors_N is None:
        texts = table["text"].tolist()
        train = [text for text, split in zip(texts, table["split"], strict=True) if split == "train"]
        transform = Features.fit(train, settings.features)
        vectors_N = transform(texts)
    return RuleTask(data.stem, table, names, vectors_N, found, None, transform, problems, failures, duplicates)
