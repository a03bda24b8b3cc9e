"""What the report of a run on labelling rules and few labels shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tutelage.reports.run_folder import RunFolder
from tutelage.reports.wording import verdict, why_served

LISTED = 30
MODELS = {
    "model": "Served",
    "method": "Labels and rules, by the method",
    "votes": "Labels and the majority of the rules",
    "weighted_votes": "Labels and the rules’ weighted votes",
    "all_labels": "The same labels, without rules",
    "label_model": "The rules' label model alone",
    "majority": "Majority of the rules",
}
"""The rows of the figures; the served model is one of the next four, or the mean of several."""

CANDIDATES = {
    "method": "the method on labels and rules",
    "votes": "a classifier of the labels and the rules' majority",
    "weighted_votes": "one of the labels and the rules’ votes, weighted by how often labels say that they are right",
    "all_labels": "one of the labels without rules",
    "mean": "the mean",
}
FIGURES = {"macro_f1": "macro F1", "accuracy": "accuracy"}
"""What selects, and what the headline says, in words."""

BASELINES = ("all_labels", "majority")
"""What the headline compares with: the first of them that there is."""


def closing(metrics: dict[str, Any]) -> list[str]:
    """Say how good the served model, the labels without rules and the rules alone are, and which row is the best."""
    test, lines = metrics["test"], []
    chosen_by = metrics.get("select_by", "macro_f1")
    if test:
        others = [
            f"{title} {_told(test[name], chosen_by)}"
            for name, title in (("all_labels", "the same labels without rules"), ("majority", "majority of the rules"))
            if name in test
        ]
        figure = FIGURES[chosen_by]
        lines.append(
            "; ".join([f"{figure} of {metrics['tested_on']} test texts: {_told(test['model'], chosen_by)}", *others])
        )
        if metrics["best"] != "model":
            best = test[metrics["best"]][chosen_by]["value"]
            lines.append(f"the best on this test is another: {MODELS[metrics['best']].lower()}, {best:.3f}")
    else:
        lines.append("no text is labelled, so that nothing is known of how good the model is")
    return lines + why(metrics["choice"])


def why(choice: dict[str, Any]) -> list[str]:
    """Say which model is served and why."""
    if choice["judged_on"]:
        return why_served(choice, CANDIDATES)
    members = " and ".join(CANDIDATES[name] for name in choice["members"])
    return [f"Served: {'the mean of ' if len(choice['members']) > 1 else ''}{members}, {choice['why']}."]


def _told(figures: dict[str, dict[str, float]], chosen_by: str) -> str:
    told = figures[chosen_by]
    return f"{told['value']:.3f} [{told['low']:.3f}, {told['high']:.3f}]"


def view(run: RunFolder) -> dict[str, Any]:
    """Return what the template shows besides the frame, as plain values."""
    metrics = run.metrics
    by = metrics.get("select_by", "macro_f1")
    examples = run.table("examples.parquet", "contradictions and doubted labels are not shown")
    trust = run.table("trust.parquet", "contradictions are not shown")
    rules = run.table("rules.parquet", "the rules are not shown")
    following = run.table("label_next.csv", "no text is proposed")
    plain = next((name for name in BASELINES if name in metrics["difference"]), None)
    return {
        "models": {name: title for name, title in MODELS.items() if name in metrics["test"]},
        "why": why(metrics["choice"]),
        "plain": plain,
        "by": by,
        "figure": FIGURES[by],
        "verdict": verdict(metrics["difference"][plain][by]) if plain else None,
        "rules": None if rules is None else _plain(rules.sort_values("trust", ascending=False, na_position="last")),
        "disagreed": None if examples is None or trust is None else disagreed(examples, trust),
        "suspects": None if examples is None else suspects(examples),
        "next": None if following is None else _plain(following.head(LISTED)),
    }


def disagreed(examples: pd.DataFrame, trust: pd.DataFrame) -> list[dict[str, Any]]:
    """The texts on which rules contradict each other most, with each vote and how far it was trusted there."""
    chosen = examples[examples["disagreement"] > 0]
    chosen = chosen.sort_values(["disagreement", "votes"], ascending=False, kind="stable").head(LISTED)
    votes = trust[trust["id"].isin(chosen["id"])].sort_values("trust", ascending=False, kind="stable")
    of = {id: _plain(part) for id, part in votes.groupby("id")}
    return [{**row, "each": of.get(row["id"], [])} for row in _plain(chosen)]


def suspects(examples: pd.DataFrame) -> list[dict[str, Any]]:
    """The labels that the model doubts most."""
    doubted = examples[examples["doubted"]]
    return _plain(doubted.sort_values("suspicion", ascending=False, kind="stable").head(LISTED))


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as plain values; what is missing is None."""
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): _number(value) for name, value in record.items()} for record in records]


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
