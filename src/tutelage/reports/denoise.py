"""The report of a run on rules and few labels: one HTML file that needs nothing else, from what lies in the run's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from tutelage.reports.curves import training_plots
from tutelage.reports.page import write_page
from tutelage.reports.run_folder import read_trainings
from tutelage.reports.sections import settings
from tutelage.reports.wording import verdict

LISTED = 30
MODELS = {
    "model": "Labels and rules",
    "labels_alone": "The same classifier, labels alone",
    "label_model": "The rules' label model alone",
    "majority": "Majority of the rules",
}


def write_denoise_report(run: Path) -> Path:
    """Write ``report.html`` from what lies in a run's folder, and return its path. The same folder gives the same file.

    Raises:
        FileNotFoundError: the folder holds no metrics.json.
    """
    if not (run / "metrics.json").is_file():
        raise FileNotFoundError(f"{run} holds no metrics.json: give the folder of a run that has finished")
    return write_page(run / "report.html", "denoise.html", view(run))


def view(run: Path) -> dict[str, Any]:
    """Everything that the template shows, as plain values."""
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    examples, trust = _table(run / "examples.parquet"), _table(run / "trust.parquet")
    rules, log, config = _table(run / "rules.parquet"), run / "log.jsonl", run / "config.yaml"
    following = run / "label_next.csv"
    return {
        "metrics": metrics,
        "models": {name: title for name, title in MODELS.items() if name in metrics["test"]},
        "verdict": verdict(metrics["difference"]["labels_alone"]["macro_f1"]),
        "rules": None if rules is None else _plain(rules.sort_values("trust", ascending=False, na_position="last")),
        "disagreed": None if examples is None or trust is None else disagreed(examples, trust),
        "suspects": None if examples is None else suspects(examples),
        "next": _plain(pd.read_csv(following, dtype=str, keep_default_na=False).head(LISTED))
        if following.is_file()
        else None,
        "trainings": list(training_plots(read_trainings(log))) if log.is_file() else [],
        "settings": settings(yaml.safe_load(config.read_text(encoding="utf-8"))) if config.is_file() else None,
        "listed": LISTED,
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
    doubted = examples[(examples["label"] != "") & (examples["suspicion"] > 0.5)]
    return _plain(doubted.sort_values("suspicion", ascending=False, kind="stable").head(LISTED))


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as plain values; what is missing is None."""
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): _number(value) for name, value in record.items()} for record in records]


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _table(path: Path) -> pd.DataFrame | None:
    return pd.read_parquet(path) if path.is_file() else None
