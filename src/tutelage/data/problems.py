"""What was left out of a run, or kept although something in it cannot be read: counted and listed in `problems.csv`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tutelage.files import write_table


class Problem(NamedTuple):
    """One example: its id, a stable reason to count by, a sentence for people, and whether it is left out."""

    id: str
    reason: str
    detail: str
    left_out: bool = True


class Problems:
    """A growing list of the examples left out, and of those that were kept with a warning."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []

    def __len__(self) -> int:
        return sum(problem.left_out for problem in self._problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._problems)

    def add(self, id: object, reason: str, detail: str = "") -> None:
        """Note one example that is left out."""
        self._problems.append(Problem(str(id), reason, detail))

    def warn(self, id: object, reason: str, detail: str) -> None:
        """Note one example that is kept; the empty id stands for the whole table."""
        self._problems.append(Problem(str(id), reason, detail, left_out=False))

    def extend(self, others: Problems) -> None:
        """Note what others have noted."""
        self._problems += others

    def counts(self) -> dict[str, int]:
        """Return how many examples each reason took, most frequent first."""
        return dict(Counter(problem.reason for problem in self if problem.left_out).most_common())

    def warnings(self) -> list[str]:
        """Return a line for each reason of a warning: how many examples were kept with it, and the first one's detail."""
        kept = [problem for problem in self if not problem.left_out]
        first = {problem.reason: problem for problem in reversed(kept)}
        lines = []
        for reason, count in Counter(problem.reason for problem in kept).most_common():
            whole = not first[reason].id
            others = (
                [] if whole else [problem.detail for problem in kept if problem.reason == reason and not problem.id]
            )
            told = f"{count - len(others)} listed" if others else f"{count} {'rows' if count > 1 else 'row'} kept"
            rows = "" if whole else f"{told}, such as {first[reason].id}: "
            lines.append(f"warning: {reason.replace('_', ' ')}: {'; '.join([rows + first[reason].detail, *others])}")
        return lines

    def summary(self) -> str:
        """Return one line for people: `12 left out: empty 7, format 5 (allowed: JPEG, PNG, WEBP)`."""
        if not len(self):
            return "nothing left out"
        told = {name: f"{name} {count}" for name, count in self.counts().items()}
        if "format" in told:  # what to do about it is the same for every file
            _, stands, allowed = next(each.detail for each in self if each.reason == "format").partition("; allowed: ")
            told["format"] += f" (allowed: {allowed})" if stands else ""
        return f"{len(self)} left out: " + ", ".join(told.values())

    def write(self, folder: str | os.PathLike[str], name: str = "problems.csv") -> Path:
        """Write the list (id, reason, detail, left_out) into a folder, also when there is none to report."""
        import pandas as pd

        path = Path(folder) / name
        write_table(path, pd.DataFrame(list(self), columns=list(Problem._fields), dtype=object))
        return path

    @contextmanager
    def written_on_error(self, folder: Path | None) -> Iterator[None]:
        """Inside, what goes wrong with the data leaves the list in a folder, where there is one."""
        try:
            yield
        except ValueError:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                self.write(folder)
            raise

    def require(self, left: int, least: int, what: str = "examples", listed: str = "problems.csv") -> None:
        """Go on only if enough is left; ``listed`` is the file that a person should look at.

        Raises:
            ValueError: fewer than `least` are left.
        """
        if left < least:
            if not len(self):
                raise ValueError(f"there are only {left} {what}, none was left out, and {least} are needed")
            raise ValueError(f"only {left} {what} are left and {least} are needed; {self.summary()}. See {listed}.")
