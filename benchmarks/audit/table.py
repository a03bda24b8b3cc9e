"""Do the audit's intervals and tests keep their promises? Simulated audits, of which the truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.only import check_only
from benchmarks.results_table import ResultRow
from tutelage.production.estimates import Rate, Stratum, relative_change, weighted_rate
from tutelage.production.sampling import inclusion_probabilities, pivotal
from tutelage.production.sequential import confidence_sequence, log_e_values
from tutelage.recipes.base import Scale

AUDITS = 1000
POPULATIONS = 20  # that a seed's audits are drawn from
WEEKS, LOOKS = 16, (4, 8, 16)
ALPHA = 0.05
FIRST_SEED = 500
COVERED, WIDTH, WALD = (
    "95 % intervals: cover the truth, %",
    "95 % intervals: mean width, points",
    "95 % intervals: Wald's cover, %",
)
ALARMS = "16 weekly looks: false alarms, %"
FOUND = tuple(f"16 weekly looks: halved rate found by week {week}, %" for week in LOOKS)
HELD = "16 weekly looks: held at all looks, %"


@dataclass(frozen=True)
class Case:
    """What is audited.

    Attributes:
        ads: number of advertisements of each week and variant.
        verdicts: drawn from each.
        rates: the share of advertisements with a defect, by week.
        skew: standard deviation of the logarithm of impressions.
        missing: share of the verdicts that nobody gave.
    """

    ads: int = 2000
    verdicts: int = 100
    rates: tuple[float, ...] = (0.03,)
    skew: float = 1.2
    missing: float = 0.0


CASES = {
    "3 % defects, one week": Case(),
    "0.5 % defects, 200 verdicts": Case(verdicts=200, rates=(0.005,)),
    "30 % defects": Case(rates=(0.3,)),
    "few advertisements have most impressions": Case(ads=1000, skew=2.5),
    "four weeks, the rate rises from 1 % to 4 %": Case(ads=1000, verdicts=50, rates=(0.01, 0.02, 0.03, 0.04)),
    "a fifth of the verdicts missing": Case(missing=0.2),
}
CHANGE = "relative change of 6 % to 3 %, four weeks"
SEQUENTIAL, EVERY_WEEK, ONCE, SEQUENCE = (
    "always-valid test",
    "z-test at 5 % every week",
    "z-test at 5 % after the last week alone",
    "confidence sequence of a drifting rate",
)
ROWS = (*CASES, CHANGE, SEQUENTIAL, EVERY_WEEK, ONCE, SEQUENCE)


@dataclass(frozen=True)
class Week:
    """One week's advertisements of one variant, and how they are drawn."""

    impressions: NDArray[np.float64]
    defective: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    @classmethod
    def made(cls, case: Case, rate: float, generator: np.random.Generator) -> Week:
        """Draw the advertisements."""
        x = generator.lognormal(0, case.skew, case.ads)
        y = (generator.random(case.ads) < rate).astype(np.float64)
        return cls(x, y, inclusion_probabilities(x, case.verdicts))

    @property
    def truth(self) -> float:
        """The share of impressions that went to defects."""
        return float(self.impressions @ self.defective / self.impressions.sum())

    def audited(self, generator: np.random.Generator, missing: float = 0.0) -> Stratum:
        """Draw a sample, and judge it without mistakes."""
        drawn = pivotal(self.probabilities, generator)
        said = self.defective[drawn]
        if missing:
            said[generator.random(len(said)) < missing] = math.nan
        return Stratum(self.impressions[drawn], self.probabilities[drawn], said, float(self.impressions.sum()))


def results(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> tuple[list[ResultRow], list[str]]:
    """Return the figures and what is to know about them.

    Raises:
        ValueError: a scale other than pocket, of which there is one, or an unknown row.
    """
    if scale != "pocket":
        raise ValueError(f"scale={scale!r}: simulated audits need no accelerator; leave --scale out")
    check_only(only, ROWS, "row")
    found: dict[tuple[str, str], dict[int, float]] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        for place, row in enumerate(ROWS):
            if not only or row in only:
                for metric, value in _measured(row, seed, np.random.default_rng((seed, place))).items():
                    found.setdefault((row, metric), {})[seed] = value
    return [ResultRow.over_seeds(row, metric, values) for (row, metric), values in found.items()], _notes()


def _measured(row: str, seed: int, generator: np.random.Generator) -> dict[str, float]:
    if row in CASES:
        return _intervals(CASES[row], generator)
    if row == CHANGE:
        return _change(generator)
    if row == SEQUENCE:
        return _sequence(seed)
    return _tested(row, seed)


def _over_populations(audit: Callable[[], Callable[[], dict[str, float]]]) -> dict[str, float]:
    """The means of what audits of several populations find."""
    each = AUDITS // POPULATIONS
    found = [draw() for draw in (audit() for _ in range(POPULATIONS)) for _ in range(each)]
    return {metric: 100 * float(np.mean([one[metric] for one in found])) for metric in found[0]}


def _intervals(case: Case, generator: np.random.Generator) -> dict[str, float]:
    def population() -> Callable[[], dict[str, float]]:
        weeks = [Week.made(case, rate, generator) for rate in case.rates]
        total = sum(week.impressions.sum() for week in weeks)
        truth = sum(week.truth * week.impressions.sum() for week in weeks) / total

        def audit() -> dict[str, float]:
            rate = weighted_rate([week.audited(generator, case.missing) for week in weeks])
            wald = abs(rate.value - truth) <= 1.96 * math.sqrt(rate.variance)
            return {COVERED: rate.low <= truth <= rate.high, WIDTH: rate.high - rate.low, WALD: wald}

        return audit

    return _over_populations(population)


def _change(generator: np.random.Generator) -> dict[str, float]:
    case = Case(ads=1000)

    def population() -> Callable[[], dict[str, float]]:
        new, old = ([Week.made(case, rate, generator) for _ in range(4)] for rate in (0.03, 0.06))

        def truth_of(weeks: Sequence[Week]) -> float:
            return float(sum(w.impressions @ w.defective for w in weeks) / sum(w.impressions.sum() for w in weeks))

        truth = truth_of(new) / truth_of(old) - 1

        def audit() -> dict[str, float]:
            rates: list[Rate] = [weighted_rate([week.audited(generator) for week in weeks]) for weeks in (new, old)]
            value, low, high = relative_change(*rates)
            spread = math.sqrt(sum(rate.variance / max(rate.value, 1e-9) ** 2 for rate in rates)) * (1 + value)
            return {COVERED: low <= truth <= high, WIDTH: min(high, 9) - low, WALD: abs(value - truth) <= 1.96 * spread}

        return audit

    return _over_populations(population)


@dataclass(frozen=True)
class Looks:
    """Defects and draws by audit and week, (AUDITS, WEEKS), and each week's truth: the same weeks, audited again and again."""

    defects: NDArray[np.float64]
    draws: NDArray[np.float64]
    truth: NDArray[np.float64]


@cache
def _looks(seed: int, halved: bool) -> Looks:
    generator = np.random.default_rng((seed, halved))
    case = Case(ads=1000, verdicts=60, skew=1.0)
    weeks = [Week.made(case, rate / (2 if halved else 1), generator) for rate in np.linspace(0.03, 0.08, WEEKS)]
    draws = np.broadcast_to([week.audited(generator).draws for week in weeks], (AUDITS, WEEKS))
    values = np.array([[_value(week.audited(generator)) for week in weeks] for _ in range(AUDITS)])
    return Looks(values * draws, draws, np.broadcast_to([week.truth for week in weeks], (AUDITS, WEEKS)))


def _value(stratum: Stratum) -> float:
    """The estimate alone, where every verdict is given."""
    weights = stratum.impressions_n / stratum.probabilities_n
    return float(weights @ stratum.defective_n / weights.sum())


def _tested(row: str, seed: int) -> dict[str, float]:
    """Alarms in either direction: of two audits of the same weeks, and where one variant has half the other's rate."""
    old, better = _looks(seed, False), _looks(seed, True)
    again = Looks(np.roll(old.defects, 1, axis=0), old.draws, old.truth)
    found = _alarms(row, better, old)
    by_week = {name: 100 * float(found[:, :week].any(axis=1).mean()) for name, week in zip(FOUND, LOOKS, strict=True)}
    return {ALARMS: 100 * float(_alarms(row, again, old).any(axis=1).mean())} | by_week


def _alarms(row: str, new: Looks, old: Looks) -> NDArray[np.bool_]:
    figures = (new.defects, new.draws, old.defects, old.draws)
    if row == SEQUENTIAL:
        better, worse = log_e_values(*figures), log_e_values(*figures[2:], *figures[:2])
        return np.maximum(better, worse) >= math.log(2 / ALPHA)
    s, n, s_, n_ = (np.cumsum(each, axis=1) for each in figures)
    pooled = (s + s_) / (n + n_)
    z = (s / n - s_ / n_) / np.sqrt(np.maximum(pooled * (1 - pooled) * (1 / n + 1 / n_), 1e-12))
    alarms = np.abs(z) >= 1.96
    if row == ONCE:
        alarms[:, :-1] = False
    return alarms


def _sequence(seed: int) -> dict[str, float]:
    looks = _looks(seed, False)
    low, high = confidence_sequence(looks.defects, looks.draws, ALPHA)
    means = np.cumsum(looks.truth * looks.draws, axis=1) / np.cumsum(looks.draws, axis=1)
    return {HELD: 100 * float(((low <= means) & (means <= high)).all(axis=1).mean())}


def _notes() -> list[str]:
    return [
        f"Each seed is {AUDITS:,} audits of simulated advertisements with lognormal impressions, drawn and judged by the code "
        "of `tutelage audit`; verdicts are without mistakes. Seeds draw other advertisements.",
        "Intervals: 1,000 audits tell a coverage of 95 % to about 1.4 points. Wald's interval is the estimate and 1.96 of the "
        "same design's standard errors: it fails where defects are few.",
        f"Weekly looks: two variants with 60 verdicts each in each of {WEEKS} weeks, whose rate rises from 3 % to 8 %; an alarm"
        " is any look at which a difference in either direction is claimed at 5 %. The z-test looked at every week is what a "
        "dashboard invites to; looked at once it is right, but says nothing before.",
        f"The confidence sequence is held if it contains the mean of the weeks so far at all {WEEKS} looks.",
    ]
