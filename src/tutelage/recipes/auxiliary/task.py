"""What a run works on: examples with several labels, which of them is the primary one, and what may be looked at for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.data import ImageTable, Rows, Turned, WithColumns
from tutelage.data.drawn import PARTS
from tutelage.data.fields import FieldCodes
from tutelage.data.fingerprint import fingerprint
from tutelage.data.problems import Problems
from tutelage.data.quarters import TurnedRows
from tutelage.data.rotation import QUARTERS
from tutelage.recipes.auxiliary.settings import TaskSpec

PRIMARY_KINDS = ("classification", "regression", "segmentation")
LEAST = 8  # examples in every part, under which nothing can be said


@dataclass
class AuxiliaryTask:
    """Examples, tasks and parts.

    Attributes:
        title: a name for people.
        primary: the task that counts.
        sides: the auxiliary tasks.
        examples: a map-style data set of dicts with ``index`` (the row) and ``input``; None where there are images.
        labels: for each column its labels, N rows: classes (negative: absent), numbers or maps (NaN: absent), directions (zero:
            absent).
        split: one of `PARTS` for each row.
        fields: the number of values of each field, where the input is fields.
        classes: the names of the classes of a column, where they are known.
        codes: how the fields of a table of one's own are read.
        ids: the examples' own names, where they have some.
        standardised: whether heads learn numbers that are standardised over the training part, as those of a table in whatever
            unit must be; figures and answers are in the unit of the labels.
        problems: what was left out.
        images: the examples as an image table, of N rows or, to predict a rotation from an encoder's features, of all four
            turns of each; None for other examples.
    """

    title: str
    primary: TaskSpec
    sides: tuple[TaskSpec, ...]
    examples: Any
    labels: dict[str, Tensor]
    split: np.ndarray
    fields: tuple[int, ...] = ()
    classes: dict[str, list[str]] = field(default_factory=dict)
    codes: FieldCodes | None = None
    ids: list[str] | None = None
    standardised: bool = False
    problems: Problems = field(default_factory=Problems)
    images: ImageTable | None = None

    def __post_init__(self) -> None:
        """Check that the tasks can be worked on."""
        if self.primary.kind not in PRIMARY_KINDS:
            raise ValueError(
                f"primary task {self.primary.name!r} is of kind {self.primary.kind!r}; give one of {', '.join(PRIMARY_KINDS)}"
            )
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError(f"tasks have equal names {names}")
        if [task.kind for task in self.sides].count("rotation") > 1 or "rotation" in self.labels:
            raise ValueError("there is one rotation to predict: declare it once, and name no column 'rotation'")
        for task in self.tasks:
            if task.kind not in ("rotation", "l2") and task.target not in self.labels:
                raise ValueError(
                    f"task {task.name!r} reads the column {task.target!r}; the data have: {', '.join(self.labels)}"
                )
        by_name = {task.name: task for task in self.tasks}
        for task in self.sides:
            if task.head is not None and (task.head not in by_name or by_name[task.head].kind != task.kind):
                raise ValueError(
                    f"task {task.name!r} shares head={task.head!r}, which is no task of kind {task.kind!r}"
                )
            if task.head is not None and by_name[task.head].head is not None:
                raise ValueError(f"task {task.name!r} shares head={task.head!r}, which has no head of its own")
        if self.primary.head is not None:
            raise ValueError(
                f"primary task {self.primary.name!r} has head={self.primary.head!r}; it has a head of its own"
            )
        if taken := {"index", "input"} & set(self.labels):
            raise ValueError(f"columns {sorted(taken)} have the names of what every batch holds; name them otherwise")
        for task in self.tasks:
            if task.kind == "rotation" and self.fields:
                raise ValueError(f"task {task.name!r} turns images, and the input is fields of a table")
        for part in PARTS:
            rows = self.rows(part)
            known = int(present(self.primary, self.labels[self.primary.target or ""])[rows].sum())
            if known < LEAST:
                raise ValueError(
                    f"{part} has {known} examples with the label {self.primary.name!r}; {LEAST} are needed"
                )

    @property
    def tasks(self) -> tuple[TaskSpec, ...]:
        """All tasks, the primary one first."""
        return (self.primary, *self.sides)

    def rows(self, *splits: str) -> Tensor:
        """Return the rows of these parts, ascending."""
        return torch.from_numpy(np.flatnonzero(np.isin(self.split, splits)))

    def judged_by(self) -> Tensor:
        """Return the labels that the test is judged by, (N, ...): the primary task's."""
        return self.labels[self.primary.target or ""]

    def part(self, rows: Tensor, tasks: Sequence[TaskSpec], turned: float = 0.0) -> Any:
        """Return rows as a data set with the labels that tasks read, and this share of its images turned."""
        columns = {
            task.target: self.labels[task.target]
            for task in tasks
            if task.target and task.kind not in ("rotation", "l2")
        }
        if turned and self.images is not None and len(self.images) > len(self.split):
            return WithColumns(TurnedRows(self.images, rows, turned), **columns)
        found = WithColumns(Rows(self.examples if self.images is None else self.images, rows), **columns)
        return Turned(found, turned) if turned else found

    @property
    def num_features(self) -> int | None:
        """How many numbers an example's ``input`` has where it is an encoder's features; None elsewhere."""
        return None if self.images is None else self.images.num_features

    def outputs(self, task: TaskSpec) -> int | None:
        """Return how many outputs the head of a task has; None for a task without a head of its own."""
        if task.kind == "l2" or task.head is not None:
            return None
        fixed = {"regression": 1, "map": 1, "normals": 3, "rotation": QUARTERS}
        if task.kind in fixed:
            return fixed[task.kind]
        columns = [each.target for each in self.tasks if each.target and task.name in (each.name, each.head)]
        return max(2, *(max(int(self.labels[name].max()) + 1, len(self.classes.get(name, ()))) for name in columns))

    def standard(self, task: TaskSpec) -> tuple[float, float]:
        """Return the mean and the standard deviation by which the head of a task answers: those of the head's own numbers.

        They are 0 and 1 where nothing is standardised, and the deviation of equal numbers is 1.
        """
        owner = next(each for each in self.tasks if each.name == (task.head or task.name))
        if not self.standardised or owner.kind != "regression":
            return 0.0, 1.0
        numbers = self.labels[owner.target or ""][self.rows("train")].double()
        known = numbers[~numbers.isnan()]
        deviation = float(known.std(correction=0)) if len(known) else 0.0
        return float(known.mean()) if len(known) else 0.0, deviation or 1.0

    def present(self, task: TaskSpec, rows: Tensor) -> int:
        """Return how many of these rows have a label of a task."""
        if task.target is None or task.kind == "rotation":
            return len(rows)
        return int(present(task, self.labels[task.target][rows]).sum())

    def with_share_of_labels(self, share: float, seed: int) -> AuxiliaryTask:
        """Return the same with the primary label hidden of all but a random share of the training and the held-out part.

        Which labels are hidden depends on neither part, but that each keeps a few. A held-out example without its label can
        develop no weights, and is for training.
        """
        if share == 1:
            return self
        rows = self.rows("train", "held_out")
        order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
        held_out = torch.from_numpy(self.split == "held_out")[order]
        kept = [order[: round(share * len(rows))], order[held_out][:LEAST], order[~held_out][:LEAST]]
        hidden = rows[~torch.isin(rows, torch.cat(kept))]
        assert self.primary.target is not None
        labels, split = self.labels[self.primary.target].clone(), self.split.copy()
        labels[hidden] = torch.nan if labels.is_floating_point() else -1
        split[hidden.numpy()] = "train"
        return replace(self, labels={**self.labels, self.primary.target: labels}, split=split)

    def fingerprint(self) -> str:
        """Return a hash of what training sees: examples, labels and parts."""
        return fingerprint(self.examples, self.images, self.labels, self.split, self.fields)


def present(task: TaskSpec, labels: Tensor) -> Tensor:
    """Return which examples have a label of a task, (N,) bool."""
    flat = labels.reshape(len(labels), -1)
    if task.kind == "normals":
        return (flat != 0).any(1)
    return (~torch.isnan(flat)).any(1) if labels.is_floating_point() else (flat >= 0).any(1)
