"""What is served? Plain training is always a candidate, and examples that no candidate has learned from choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tutelage.metrics import Interval, bootstrap_rows

RESAMPLES = 500


@dataclass(frozen=True)
class Served:
    """Which candidate is served, and how it and the others compare with plain training.

    Attributes:
        criterion: what candidates are compared by, in words; more of it is better.
        plain: the name of plain training.
        asked: the name of what was asked for.
        chosen: the name of the candidate that is served.
        judged_on: how many examples chose.
        values: the criterion of each candidate.
        gains: for each candidate but the plain one the difference to it, with its bootstrap interval over the examples.
    """

    criterion: str
    plain: str
    asked: str
    chosen: str
    judged_on: int
    values: dict[str, float]
    gains: dict[str, Interval]

    def told(self) -> dict[str, Any]:
        """Return it as a metrics file has it."""
        return {
            "criterion": self.criterion,
            "plain": self.plain,
            "asked": self.asked,
            "chosen": self.chosen,
            "judged_on": self.judged_on,
            "candidates": {
                name: {"value": value, "gain": self.gains[name].plain() if name in self.gains else None}
                for name, value in self.values.items()
            },
        }


def choose_served(
    figure: Callable[..., float],
    answers: Mapping[str, Sequence[NDArray[Any]]],
    truth: Sequence[NDArray[Any]] = (),
    *,
    criterion: str,
    plain: str,
    asked: str,
    seed: int = 0,
) -> Served:
    """Serve the candidate with the greatest figure; of equal ones plain training, then what was asked for, then the first.

    The greatest figure alone decides, without a margin for either side: a margin in favour of what was asked for would serve
    it where it harms, and one in favour of plain training would give up small gains. How sure the choice is, is said by the
    intervals of the gains.

    Args:
        figure: of a candidate's answers and the truth to a number, more being better: ``figure(*answers[name], *truth)``.
        answers: of each candidate, arrays with a row for each example; plain training and what was asked for are among them.
        truth: further arrays with a row for each example.
        criterion: what the figure is, in words.
        plain: the name of plain training.
        asked: the name of what was asked for.
        seed: of the bootstrap.
    """
    values = {name: float(figure(*columns, *truth)) for name, columns in answers.items()}
    order = dict.fromkeys((plain, asked, *answers))
    chosen = max(order, key=values.__getitem__)  # the first of equal ones
    width = len(answers[plain])

    def gain(*columns: NDArray[Any]) -> float:
        return figure(*columns[:width], *columns[2 * width :]) - figure(
            *columns[width : 2 * width], *columns[2 * width :]
        )

    gains = {
        name: bootstrap_rows(gain, *columns, *answers[plain], *truth, resamples=RESAMPLES, seed=seed)
        for name, columns in answers.items()
        if name != plain
    }
    return Served(criterion, plain, asked, chosen, len(answers[plain][0]), values, gains)
