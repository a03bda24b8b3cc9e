"""A small shop: weeks of advertisements that two variants decided about, with impressions."""

from datetime import UTC, datetime, time, timedelta

import numpy as np

from tutelage.production.decisions import Decision, DecisionLog, monday, week_of
from tutelage.production.variants import assign

FIRST = "2026-W02"


def weeks(count: int) -> list[str]:
    return [week_of(monday(FIRST) + timedelta(weeks=k)) for k in range(count)]


def fill(
    log: DecisionLog, count: int, ads: int = 60, rates: dict[str, float] | None = None, begins: int = 0, seed: int = 0
) -> dict[str, bool]:
    """Decide about so many advertisements a week, and return which have a defect; the variant new begins in week `begins`."""
    generator = np.random.default_rng(seed)
    rates = rates or {"old": 0.2, "new": 0.1}
    defects: dict[str, bool] = {}
    decided, shown = [], []
    for k, week in enumerate(weeks(count)):
        moment = datetime.combine(monday(week), time(12), UTC)
        for i in range(ads):
            name = f"{week}-{i:04d}"
            variant = assign(name, {"old": 1, "new": 1 if k >= begins else 0})
            passes = generator.random() < 0.8
            defects[name] = bool(passes and generator.random() < rates[variant])
            verdict = "acceptable" if passes else "defective"
            facts = {"image": f"{name}.png", "headline": f"Buy {name}", "subtask": "sub-task 1", "decided_at": moment}
            score = generator.normal(2 if passes else -2)
            decided.append(Decision(name, f"model-{variant}", score, verdict, variant, **facts))
            shown.append((name, week, float(generator.lognormal(3, 1))))
    log.record_all(decided)
    log.add_impressions(shown)
    return defects
