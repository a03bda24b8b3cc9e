"""What was left out of a run, and why: counted, listed in `problems.csv`, never silent."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tutelage.files import write_table


class Problem(NamedTuple):
    """One example that was left out: its id, a stable reason to count by, a sentence for people."""

    id: str
    reason: str
    detail: str


class Problems:
    """A growing list of the examples left out."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []

    def __len__(self) -> int:
        return len(self._problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._problems)

    def add(self, id: object, reason: str, detail: str = "") -> None:
        """Note one example."""
        self._problems.append(Problem(str(id), reason, detail))

    def counts(self) -> dict[str, int]:
        """Return how many examples each reason took, most frequent first."""
        return dict(Counter(problem.reason for problem in self).most_common())

    def summary(self) -> str:
        """Return one line for people: `12 left out: empty 7, unknown_label 5`."""
        if not self._problems:
            return "nothing left out"
        return f"{len(self)} left out: " + ", ".join(f"{name} {count}" for name, count in self.counts().items())

    def write(self, folder: str | os.PathLike[str], name: str = "problems.csv") -> Path:
        """Write the list (id, reason, detail) into a folder, also when there is none to report."""
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
            raise ValueError(f"only {left} {what} are left and {least} are needed; {self.summary()}. See {listed}.")
