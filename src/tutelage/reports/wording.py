"""Figures in words: how a number, a share, a rate and a verdict are written in a report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tutelage.weighting import WEIGHTINGS

DASH = "–"
GLOSSARY = {
    "FPR": "False-positive rate: the share of the defective images that pass.",
    "NPV": "Negative predictive value: the share of defective images among those that are blocked.",
    "AUROC": "Area under the ROC curve: how often a random acceptable image scores above a random defective one.",
    "F1": "The harmonic mean of precision and recall.",
    "Macro F1": "The mean over the classes of F1, the harmonic mean of precision and recall.",
}
"""What a term means, for whoever points at it."""


class Names(dict[str, str]):
    """What methods are called, by their names in settings: a report's own words, and else the weightings' titles."""

    def __missing__(self, name: str) -> str:
        return WEIGHTINGS[name].title if name in WEIGHTINGS else name


def fixed(value: float | None, digits: int = 3, sign: str = "") -> str:
    """A number with so many decimals and a true minus, with a plus where ``sign`` is one; a dash for none."""
    return DASH if value is None or not math.isfinite(value) else f"{value:{sign}.{digits}f}".replace("-", "−")


def pluralise(count: int, one: str, several: str | None = None) -> str:
    """A number with what is counted: 1 label, 2 labels, 1,200 labels."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def percent(share: float, digits: int = 0) -> str:
    """A measured share in percent, rounded."""
    return f"{fixed(100 * share, digits)}\u00a0%"


def rate(share: float | str) -> str:
    """A share that was asked for, in percent and in full: 0.005 is 0.5 %."""
    return f"{100 * float(share):g}\u00a0%"


def hundred(share: float) -> int:
    """How many of a hundred."""
    return round(100 * share)


def verdict(difference: dict[str, float]) -> str:
    """What the interval of a difference allows to say: better, worse or open."""
    return "better" if difference["low"] > 0 else "worse" if difference["high"] < 0 else "open"


def compared(ours: str, theirs: str, gain: dict[str, float], *, points: bool = False) -> str:
    """Say what the interval of a difference allows to say; a positive difference is better.

    Args:
        ours, theirs: the two methods in words.
        gain: value, low and high.
        points: write the difference in percentage points.
    """
    scale, digits, unit = (100, 1, " points") if points else (1, 4, "")
    value, low, high = (fixed(scale * gain[key], digits, "+") for key in ("value", "low", "high"))
    between = f"{value}{unit}, with a 95 % interval from {low} to {high}"
    claims = {"better": f"Better than {theirs}", "worse": f"Worse than {theirs}"}
    return f"{claims.get(verdict(gain), f'This test cannot tell {ours} from {theirs}')}: {between}."


def why_unfrozen(told: dict[str, Any] | None) -> list[str]:
    """Say whether the encoder's last block was trained, and whether the result is served; nothing if that was not asked for.

    Args:
        told: as `tutelage.recipes.unfreezing.Unfrozen.told` returns it.
    """
    if told is None:
        return []
    value, low, high = (fixed(told["gain"][key], 4, "+") for key in ("value", "low", "high"))
    share = f"{told['block']}, {told['trained']:,} of {told['of']:,} weights"
    verdict = "and the result is served" if told["kept"] else "but the encoder is served without that"
    return [
        f"The encoder’s last block ({share}) was trained with the heads, {verdict}: {told['criterion']} changed by {value} "
        f"({told['judged_on']:,} examples, {told['gain']['level']:.0%} interval {low} to {high}; kept where that is above 0)."
    ]


def why_served(choice: dict[str, Any], names: Mapping[str, str], *, points: bool = True) -> list[str]:
    """Say which candidate is served and how sure that is; nothing where there was no other.

    Args:
        choice: as `tutelage.recipes.served.Served.told` returns it.
        names: of the candidates, in words.
        points: write differences in percentage points.
    """
    if len(choice["candidates"]) < 2:
        return []
    scale, digits, unit = (100, 1, " points") if points else (1, 3, "")
    asked, plain, members = names[choice["asked"]], names[choice["plain"]], [names[each] for each in choice["members"]]
    several = f"{', '.join(members[:-1])} and {members[-1]}" if len(members) > 1 else members[0]
    copies = f"{choice['copies']} trainings of {'each of ' if len(members) > 1 else ''}" if choice["copies"] > 1 else ""
    chosen = several if len(members) == 1 and not copies else f"the mean of {copies}{several}"
    by = f"by {choice['criterion']} ({choice['judged_on']:,} examples)"
    others = {name: each for name, each in choice["candidates"].items() if name != choice["plain"]}
    told_of = choice["chosen"]
    if told_of == choice["plain"]:
        told_of = choice["asked"] if choice["asked"] in others else max(others, key=lambda name: others[name]["value"])
    gain = others[told_of]["gain"]
    value, low, high = (fixed(scale * gain[key], digits, "+") for key in ("value", "low", "high"))
    instead = "" if choice["asked"] in choice["members"] else f", not {asked}"
    there = "it" if told_of == choice["chosen"] else names[told_of]
    between = f"with a 95 % interval from {low} to {high}"
    return [
        f"Served: {chosen}{instead}, {choice['why']} {by}. There {there} is at {value}{unit} against {plain}, {between}."
    ]
