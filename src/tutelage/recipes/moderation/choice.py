"""Which model is served? Held-out data chooses, wrong labels and all, and plain fine-tuning is a candidate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.metrics import Calibration, auroc, calibrate, label_errors

Floats = NDArray[np.float64]
PLAIN = "fine_tuned"
UNFROZEN = "unfrozen"  # what is served otherwise, with the last block of its encoder trained
ORDER = (PLAIN, "student", "regression", "specialists")
CONFIDENCE = 0.9
SURE = 30.0  # log-odds: not far beyond, a float64 has one number for all probabilities near 1, and no threshold divides them


def probability(log_odds: Floats) -> Floats:
    """Return the probabilities of log-odds."""
    return 0.5 * (1 + np.tanh(0.5 * log_odds))


@dataclass(frozen=True)
class Candidate:
    """A model, or several whose calibrated log-odds are averaged.

    Attributes:
        members: names of the models.
        weights: of each member's log-odds, as they come, in the candidate's.
        calibration: of the candidate's log-odds: ``weights @ members``, scaled and shifted.
        log_odds: calibrated, of every row, (N,).
        auroc: on the held-out examples, by their labels as they are.
        gain: by how much a held-out label is likelier than by plain fine-tuning, on the average, in nats.
        error: the standard error of that.
    """

    members: tuple[str, ...]
    weights: tuple[float, ...]
    calibration: Calibration
    log_odds: Floats
    auroc: float
    gain: float
    error: float

    @property
    def name(self) -> str:
        """The members' names."""
        return "+".join(self.members)

    @property
    def scores(self) -> Floats:
        """The calibrated probability of acceptable of every row, (N,)."""
        return probability(self.log_odds)

    def committee(self) -> tuple[list[float], float]:
        """Return each member's weight and what is added to them: its calibrated log-odds."""
        return [self.calibration.slope * weight for weight in self.weights], self.calibration.offset


@dataclass(frozen=True)
class Choice:
    """What is served, and why.

    Attributes:
        candidates: by name, plain fine-tuning first.
        chosen: the name of the one that is served.
        why: in words.
        errors: the labels' error rates: of true defects that are labelled acceptable, and the other way round.
        judged_on: held-out examples that the candidates were compared on.
    """

    candidates: dict[str, Candidate]
    chosen: str
    why: str
    errors: tuple[float, float]
    judged_on: int

    @property
    def served(self) -> Candidate:
        """The candidate that is served."""
        return self.candidates[self.chosen]

    def plain(self) -> dict[str, Any]:
        """Return it as a metrics file has it."""
        return {
            "chosen": self.chosen,
            "why": self.why,
            "judged_on": self.judged_on,
            "candidates": {
                name: {
                    "held_out_auroc": each.auroc,
                    "gain": each.gain,
                    "standard_error": each.error,
                    "calibration": each.calibration.plain(),
                }
                for name, each in self.candidates.items()
            },
        }


def averaged(parts: Mapping[str, Floats], labels: NDArray[np.int64], held_out: NDArray[np.int64]) -> list[Floats]:
    """Return each model's log-odds, (N,), and the means of two or more, each calibrated without errors first."""
    told = [calibrate(each[held_out], labels[held_out], errors="none").log_odds(each) for each in parts.values()]
    return [np.add.reduce(some) / count for count in range(1, len(told) + 1) for some in combinations(told, count)]


def choose(
    parts: Mapping[str, Floats],
    labels: NDArray[np.int64],
    held_out: NDArray[np.int64],
    judged: NDArray[np.int64],
    level: NDArray[np.int64] | None = None,
) -> Choice:
    """Calibrate the models and the means of their log-odds, and choose one on held-out labels.

    The criterion is the likelihood of a held-out label by the candidate's calibrated score and the labels' error rates: a
    proper score, in which a wrong label that every candidate contradicts costs all the same, while it makes AUROC a draw.
    Candidates are the models, the mean of those that no other model beats with 90 % confidence, and the mean of all. The first
    mean is chosen, since the calibrated log-odds of a model that knows little are nearly constant and do no harm, unless the
    best candidate beats it.

    Args:
        parts: log-odds of acceptable of every row, (N,), by the model's name, one of `ORDER`; plain fine-tuning must be there.
        labels: (N,) 0 defective, 1 acceptable, -1 not labelled.
        held_out: the rows on which scores are calibrated for the comparison.
        judged: the rows on which candidates are compared, which no model has learned from.
        level: the rows on which the candidates' scores are calibrated in the end, ``held_out`` by default.
    """
    models = {name: parts[name] for name in ORDER if name in parts}
    calibrated, rates = _calibrator(models, labels, held_out)
    own = {name: calibrated(each) for name, each in models.items()}
    made: dict[str, tuple[tuple[str, ...], tuple[float, ...], Calibration, Floats]]
    made = {name: ((name,), (1.0,), own[name], raw) for name, raw in models.items()}
    told = {name: own[name].log_likelihood(raw[judged], labels[judged]) for name, raw in models.items()}
    unbeaten = tuple(one for one in models if not any(_beats(told[other] - told[one]) for other in models))
    mean = "+".join(unbeaten)
    for some in (unbeaten, tuple(models)):
        if (name := "+".join(some)) not in made:
            weights = tuple(own[each].slope / len(some) for each in some)
            raw = np.sum([weight * models[each] for each, weight in zip(some, weights, strict=True)], axis=0)
            made[name] = some, weights, calibrated(raw), raw
            told[name] = made[name][2].log_likelihood(raw[judged], labels[judged])
    best = max(made, key=lambda name: told[name].mean())
    chosen = best if _beats(told[best] - told[mean]) else mean
    if level is not None and not np.array_equal(level, held_out):
        calibrated, rates = _calibrator(models, labels, level)
        made = {name: (some, weights, calibrated(raw), raw) for name, (some, weights, _, raw) in made.items()}
    candidates = {}
    for name, (members, weights, exact, raw) in made.items():
        fitted = bounded(exact, raw)
        gain = told[name] - told[PLAIN]
        area = auroc(raw[judged], labels[judged])
        candidates[name] = Candidate(
            members, weights, fitted, fitted.log_odds(raw), area, float(gain.mean()), standard_error(gain)
        )
    return Choice(candidates, chosen, _why(candidates, best, chosen), rates, len(judged))


def bounded(fitted: Calibration, log_odds: Floats) -> Calibration:
    """Return a calibration by which no score is surer than `SURE`: flatter where need be, with the same order of examples.

    Where labels are wrong at a rate, the likeliest curve may be a step: whatever lies above is certain, and all of it alike.
    """
    flatter = SURE / max(SURE, float(np.abs(fitted.log_odds(log_odds)).max()))
    return replace(fitted, slope=flatter * fitted.slope, offset=flatter * fitted.offset)


def _calibrator(
    models: Mapping[str, Floats], labels: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[Callable[[Floats], Calibration], tuple[float, float]]:
    """Return what calibrates log-odds on these rows, and the error rates of their labels."""
    rates = label_errors([each[rows] for each in averaged(models, labels, rows)], labels[rows])
    return lambda log_odds: calibrate(log_odds[rows], labels[rows], errors=rates), rates


def standard_error(values: Floats) -> float:
    """Return the standard error of a mean."""
    return float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else np.inf


def _beats(gain: Floats) -> bool:
    """Return whether a mean is above 0 with 90 % confidence, by its normal approximation."""
    return float(gain.mean()) > NormalDist().inv_cdf(CONFIDENCE) * standard_error(gain)


def _why(candidates: Mapping[str, Candidate], best: str, chosen: str) -> str:
    """Say why a candidate was chosen."""
    if len(candidates) == 1:
        return "there is no other candidate"
    served, first = candidates[chosen], candidates[best]
    told = []
    if chosen != PLAIN:
        error = f"± {served.error:.4f} nats each"
        if abs(served.gain) <= served.error:
            told.append(f"held-out labels are about as likely as by plain fine-tuning ({served.gain:+.4f} {error})")
        else:
            less = "likelier" if served.gain > 0 else "less likely"
            told.append(f"held-out labels are {less} than by plain fine-tuning, by {abs(served.gain):.4f} {error}")
    if chosen == best:
        told.append("no other candidate explains held-out labels better")
    else:
        name = "plain fine-tuning" if best == PLAIN else best.replace("_", " ").replace("+", " + ")
        told.append(
            f"{name}, the best by held-out labels ({first.gain:+.4f}), is not better with {CONFIDENCE:.0%} confidence"
        )
    return "; ".join(told)
