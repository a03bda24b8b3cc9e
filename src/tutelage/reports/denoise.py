"""What the report of a run on labelling rules and few labels shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tutelage.reports.run_folder import RunFolder
from tutelage.reports.wording import verdict, why_served

LISTED = 30
MODELS = {
    "model": "Labels and rules",
    "all_labels": "The same labels, without rules",
    "before_refit": "Labels and rules, before validation's labels were trained on",
    "labels_alone": "The labels of the row above, without rules",
    "label_model": "The rules' label model alone",
    "majority": "Majority of the rules",
}

CANDIDATES = {"model": "labels and rules", "all_labels": "the labels without rules"}


def view(run: RunFolder) -> dict[str, Any]:
    """Return what the template shows besides the frame, as plain values."""
    metrics = run.metrics
    examples = run.table("examples.parquet", "contradictions and doubted labels are not shown")
    trust = run.table("trust.parquet", "contradictions are not shown")
    rules = run.table("rules.parquet", "the rules are not shown")
    following = run.table("label_next.csv", "no text is proposed")
    return {
        "models": {name: title for name, title in MODELS.items() if name in metrics["test"]},
        "served": metrics["choice"]["chosen"],
        "why": why_served(metrics["choice"], CANDIDATES),
        "verdict": verdict(metrics["difference"]["all_labels"]["macro_f1"]),
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
