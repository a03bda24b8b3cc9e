"""What is served? Plain training is always a candidate, and examples that no candidate has learned from choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tutelage.metrics import Interval, bootstrap_rows

RESAMPLES = 500
DOUBT = 0.1
"""In which share of the resamples a candidate may be no better than another one, and surely be better all the same."""
LEAST = 20
"""Of fewer examples the bootstrap says nothing: their resamples are too much alike, and plain training is served."""

Figure = Callable[..., float]
Answers = Mapping[str, Sequence[NDArray[Any]]]


@dataclass(frozen=True)
class Served:
    """Which candidate is served, and how it and the others compare with plain training.

    Attributes:
        criterion: what candidates are compared by, in words; more of it is better.
        plain: the name of plain training.
        asked: the name of what was asked for.
        chosen: the name of the candidate that is served.
        members: the names of the candidates whose mean it is; its own where it is no mean.
        why: of all reasons the one that chose, in words.
        judged_on: how many examples chose.
        values: the criterion of each candidate.
        gains: for each candidate but the plain one the difference to it, with its bootstrap interval over the examples.
        copies: trainings of each member that are in the mean.
    """

    criterion: str
    plain: str
    asked: str
    chosen: str
    members: tuple[str, ...]
    why: str
    judged_on: int
    values: dict[str, float]
    gains: dict[str, Interval]
    copies: int = 1

    def told(self) -> dict[str, Any]:
        """Return it as a metrics file has it."""
        return {
            "criterion": self.criterion,
            "plain": self.plain,
            "asked": self.asked,
            "chosen": self.chosen,
            "members": list(self.members),
            "copies": self.copies,
            "why": self.why,
            "judged_on": self.judged_on,
            "candidates": {
                name: {"value": value, "gain": None}
                if (gain := self.gains.get(name)) is None
                else {"value": value, "gain": gain.plain(), "better_in": gain.positive}
                for name, value in self.values.items()
            },
        }


def serve_best(
    figure: Figure,
    answers: Answers,
    truth: Sequence[NDArray[Any]] = (),
    *,
    criterion: str,
    plain: str,
    asked: str,
    worthless: float | None = None,
    seed: int = 0,
) -> Served:
    """Serve plain training, or of the candidates that are surely better the one with the greatest figure.

    Surely better: the figure is greater than that of plain training in 90 % of the resamples of the examples, and with J
    candidates beside it in 1 - 0.1 / J of them (Bonferroni). Where examples are not very few, one candidate whose true gain is
    g standard errors of this comparison is served with probability Phi(g - 1.28): harm is at most 0.02 standard errors on the
    average, whatever g is, and nine tenths stay of gains above 2.6. By the greatest figure alone harm would be up to 0.17. Of
    equal candidates what was asked for is served, then the first. Of fewer than 20 examples nothing is surely better.

    Where plain training is worthless there is nothing to guard: the greatest figure is served that is not.

    Args:
        figure: of a candidate's answers and the truth to a number, more being better: ``figure(*answers[name], *truth)``.
        answers: of each candidate, arrays with a row for each example; plain training and what was asked for are among them.
        truth: further arrays with a row for each example.
        criterion: what the figure is, in words.
        plain: the name of plain training.
        asked: the name of what was asked for.
        worthless: the figure of what knows nothing; a candidate that is not above it is worthless. None where there is no such.
        seed: of the bootstrap.
    """
    values = {name: float(figure(*columns, *truth)) for name, columns in answers.items()}
    gains = _gains(figure, answers, plain, truth, seed)
    count = len(answers[plain][0])
    others = [name for name in dict.fromkeys((asked, *answers)) if name != plain]
    better = [name for name in others if (gains[name].positive or 0.0) >= 1 - DOUBT / len(gains)]
    if count < LEAST:
        better, why = [], f"since {count} examples are too few to tell whether another candidate is better"
    elif worthless is not None and values[plain] <= worthless and max(values.values()) > worthless:
        better, why = others, "since plain training is worthless"
    else:
        why = "since no other candidate is surely better"
    chosen = max(better, key=values.__getitem__, default=plain)  # the first of equal ones
    if chosen != plain and (gains[chosen].positive or 0.0) >= 1 - DOUBT / len(gains):
        share = 100 * (gains[chosen].positive or 0.0)
        why = "surely better" if gains[chosen].low > 0 else f"probably better (in {share:.0f} % of the resamples)"
    return Served(criterion, plain, asked, chosen, (chosen,), why, count, values, gains)


def unbeaten(figure: Figure, answers: Answers, truth: Sequence[NDArray[Any]] = (), *, seed: int = 0) -> tuple[str, ...]:
    """Return the candidates that no other one beats in 90 % of the resamples of the examples; one of them at least.

    Their mean may be served: networks that examples cannot tell apart err in different places, and where one of them is worse
    than the others it is so by no more than examples can tell. Arguments as in `serve_best`.
    """

    def beats(one: str, other: str) -> bool:
        return (gain_of(figure, answers[one], answers[other], truth, seed).positive or 0.0) >= 1 - DOUBT

    best = max(answers, key=lambda name: figure(*answers[name], *truth))
    return tuple(name for name in answers if name == best or not any(beats(o, name) for o in answers if o != name))


def serve_mean(
    figure: Figure,
    answers: Answers,
    truth: Sequence[NDArray[Any]] = (),
    *,
    mean: str,
    members: tuple[str, ...],
    copies: int = 1,
    criterion: str,
    plain: str,
    asked: str,
    seed: int = 0,
) -> Served:
    """Serve the mean of the candidates that are `unbeaten`, or the only one.

    Args:
        mean: the candidate that is the mean, if there is one.
        members: those that are unbeaten.
        copies: trainings of each of them that are in the mean.

    Further arguments as in `serve_best`.
    """
    values = {name: float(figure(*columns, *truth)) for name, columns in answers.items()}
    gains = _gains(figure, answers, plain, truth, seed)
    why = "none of which is surely worse than another"
    if len(members) == 1:
        why = _why_alone(figure, answers, truth, members[0], mean, seed)
    chosen = mean if mean in answers else members[0]
    return Served(criterion, plain, asked, chosen, members, why, len(answers[plain][0]), values, gains, copies)


def _why_alone(figure: Figure, answers: Answers, truth: Sequence[NDArray[Any]], best: str, mean: str, seed: int) -> str:
    """Say how sure it is that each other candidate is worse than the best: surely where the 95 % interval excludes 0."""
    others = [name for name in answers if name not in (best, mean)]
    gains = [gain_of(figure, answers[best], answers[name], truth, seed) for name in others]
    if not gains:
        return "since there is no other one"
    if all(gain.low > 0 for gain in gains):
        return "since every other one is surely worse"
    share = 100 * min(gain.positive or 0.0 for gain in gains)
    return f"since every other one is probably worse (in {share:.0f} % of the resamples)"


def gain_of(
    figure: Figure,
    ours: Sequence[NDArray[Any]],
    theirs: Sequence[NDArray[Any]],
    truth: Sequence[NDArray[Any]],
    seed: int,
    level: float = 0.95,
) -> Interval:
    """Return by how much a figure of held-out answers is better than another model's, with its interval over the examples.

    Args:
        figure: from a model's columns and the truth to a number, more being better.
        ours, theirs: columns of the two models, with a row for each held-out example.
        truth: further columns.
        seed: of the bootstrap.
        level: of the interval.
    """
    width = len(ours)

    def gain(*columns: NDArray[Any]) -> float:
        own, other, rest = columns[:width], columns[width : 2 * width], columns[2 * width :]
        return figure(*own, *rest) - figure(*other, *rest)

    return bootstrap_rows(gain, *ours, *theirs, *truth, level=level, resamples=RESAMPLES, seed=seed)


def _gains(
    figure: Figure, answers: Answers, plain: str, truth: Sequence[NDArray[Any]], seed: int
) -> dict[str, Interval]:
    """Return the gain of each candidate but plain training over that."""
    return {
        name: gain_of(figure, columns, answers[plain], truth, seed)
        for name, columns in answers.items()
        if name != plain
    }
