"""What is served? Plain training is always a candidate, and examples that no candidate has learned from choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tutelage.metrics import Interval, bootstrap_rows

RESAMPLES = 500
DOUBT = 0.1
"""In which share of the resamples the candidates together may be no better than plain training, for one to be served."""


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
                name: {"value": value, "gain": None}
                if (gain := self.gains.get(name)) is None
                else {"value": value, "gain": gain.plain(), "better_in": gain.positive}
                for name, value in self.values.items()
            },
        }


def serve_best(
    figure: Callable[..., float],
    answers: Mapping[str, Sequence[NDArray[Any]]],
    truth: Sequence[NDArray[Any]] = (),
    *,
    criterion: str,
    plain: str,
    asked: str,
    seed: int = 0,
) -> Served:
    """Serve plain training, or of the candidates that are surely better the one with the greatest figure.

    Surely better: the figure is greater than that of plain training in 90 % of the resamples of the examples, and with J
    candidates beside it in 1 - 0.1 / J of them (Bonferroni). Where examples are not very few, one candidate whose true gain is
    g standard errors of this comparison is served with probability Phi(g - 1.28): harm is at most 0.02 standard errors on the
    average, whatever g is, and nine tenths stay of gains above 2.6. By the greatest figure alone harm would be up to 0.17. Of
    equal candidates what was asked for is served, then the first.

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
    surely = [
        name
        for name in dict.fromkeys((asked, *answers))
        if name != plain and (gains[name].positive or 0.0) >= 1 - DOUBT / len(gains)
    ]
    chosen = max(surely, key=values.__getitem__, default=plain)  # the first of equal ones
    return Served(criterion, plain, asked, chosen, len(answers[plain][0]), values, gains)
