"""What every recipe's task says of itself."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from tutelage.data.problems import Problems


class Task(Protocol):
    """What a recipe learns from and is judged by."""

    @property
    def title(self) -> str:
        """A name for people."""

    @property
    def problems(self) -> Problems:
        """What was left out, and why."""

    @property
    def labels(self) -> Any:
        """The given labels, (N,); a dict of them where an example has several."""

    def rows(self, *splits: str) -> Tensor:
        """Return the rows of these splits, ascending."""

    def judged_by(self) -> Tensor:
        """Return the labels that the test is judged by, (N, ...): the true ones where they are known."""

    def fingerprint(self) -> str:
        """Return a hash of what training sees."""
