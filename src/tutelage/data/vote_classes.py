"""Which class a vote means: a name always, a number of its place only where no name could be meant by it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tutelage.files import NUMBER, literal

ABSTAIN = -1
_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_MOST = int(np.iinfo(np.int16).max)


class AmbiguousVote(ValueError):
    """An answer that may be a class as well as no vote."""


class VoteClasses:
    """The names of the classes, and what votes mean by them.

    A value that is a name of a class is that class, without regard to case. A number that is none is the place of a class, from
    0, where no name looks like a number; else it is refused, since 1 may be meant as the class '1' or as the second one.

    Args:
        names: in the order of the classes' numbers; without any a vote is a number.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(names)

    @cached_property
    def numeric(self) -> bool:
        """Whether a name looks like a number."""
        return any(NUMBER.fullmatch(name.strip()) for name in self.names)

    @cached_property
    def _places(self) -> dict[str, int]:
        """The class of each way to write it; a way that several classes share stands for none."""
        found: dict[str, int] = {}
        for way in (_whole, str.casefold):
            ways = [way(name) for name in self.names]
            found |= {name: place for place, name in enumerate(ways) if ways.count(name) == 1}
        return found | {name: place for place, name in enumerate(self.names)}

    def named(self, text: str) -> int | None:
        """Return the class of this name, None where there is none."""
        for way in (text, _whole(text), text.casefold()):
            if (place := self._places.get(way)) is not None:
                return place
        return None

    def of_number(self, number: int) -> int | None:
        """Return the class that a whole number means, `ABSTAIN` for -1, None for none."""
        if (place := self.named(str(number))) is not None:
            return place
        if number == ABSTAIN:
            return ABSTAIN
        most = len(self.names) - 1 if self.names else _MOST
        return number if not self.numeric and 0 <= number <= most else None

    def of_answer(self, answer: object) -> int:
        """Return the class that a rule's answer means, `ABSTAIN` where it abstains.

        Raises:
            AmbiguousVote: -1, where it is a name, too.
            ValueError: it means none.
        """
        if answer is None:
            return ABSTAIN
        place: int | None = None
        if isinstance(answer, str):
            place = self.named(answer)
        elif isinstance(answer, int | np.integer) and not isinstance(answer, bool):
            place = self.of_number(int(answer))
            if answer == ABSTAIN and place is not None and place != ABSTAIN:
                name = self.names[place]
                raise AmbiguousVote(
                    f"returned -1, which is ABSTAIN and the class {name!r}: return {name!r}, as text, for the class, and None "
                    "to abstain"
                )
            if place is None and answer > ABSTAIN and self.names and not self.numeric:
                last = len(self.names) - 1
                raise ValueError(f"returned {answer}, but the classes are {', '.join(self.names)} (0 to {last})")
        if place is None:
            raise ValueError(
                f"returned {answer!r}; expected {self._expected(', '.join(map(repr, self.names)), 'ABSTAIN (-1)')}"
            )
        return place

    def of_cells(self, cells: pd.Series, where: str) -> NDArray[np.int16]:
        """Return the class that each cell of a file means, (N,), `ABSTAIN` for an empty one.

        Raises:
            ValueError: one means none.
        """
        codes, texts = pd.factorize(cells.astype("string").fillna("").str.strip())
        places = [self._of_cell(str(text)) for text in texts]
        if None in places:
            wrong = str(texts[places.index(None)])
            raise ValueError(f"{where} holds {wrong!r}; expected {self._expected(', '.join(self.names), '-1')}")
        return np.array(places, dtype=np.int16)[codes]

    def _of_cell(self, text: str) -> int | None:
        if text == "":
            return ABSTAIN
        for name in (text, literal(text)):
            if (place := self.named(name)) is not None:
                return place
        whole = _whole(text)
        return self.of_number(int(whole)) if re.fullmatch(r"[+-]?\d+", whole) else None

    def _expected(self, names: str, abstain: str) -> str:
        if self.numeric:
            return (
                f"the name of a class, one of {names}, or nothing where the rule abstains; names look like numbers here, so "
                "that no class is meant by its place"
            )
        if not names:
            return (
                f"a class by its number, or {abstain}, since no text is labelled and so no class has a name; name the classes "
                "in their order by classes (--classes '[ham, spam]')"
            )
        return f"a class by number, one of {names}, or {abstain}"


def _whole(text: str) -> str:
    """Return a whole number without its point, as in 1.0; any other text as it is."""
    return found[1] if (found := _WHOLE.fullmatch(text)) else text
