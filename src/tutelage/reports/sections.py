"""What the report shows of a run's sub-tasks, doubted labels, duplicates and settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tutelage.reports.plots import inlined
from tutelage.reports.wording import percent

PICTURES = 12  # of a sub-task
CARDS = 48  # sub-tasks with pictures, of the kept and of the dropped
SUSPECTS = 48
LABELS = {0: "defective", 1: "acceptable"}


def subtasks(
    table: pd.DataFrame,
    examples: pd.DataFrame | None,
    gallery: dict[int, NDArray[np.uint8]],
    names: Mapping[int, str],
) -> Iterator[dict[str, Any]]:
    """The sub-tasks, most useful first: the kept ones, then by competence, then by number."""
    ranked = table.sort_values(["kept", "competence", "subtask"], ascending=[False, False, True], na_position="last")
    place: Counter[bool] = Counter()
    for row in ranked.to_dict("records"):
        facts = {str(name): value for name, value in row.items()}
        number = int(facts["subtask"])
        facts["name"] = names.get(number)
        place[facts["kept"]] += 1
        if place[facts["kept"]] > CARDS:
            yield {**facts, "subtask": number, "shown": False}
            continue
        members = None if examples is None else members_of(examples, number)
        shown = [] if members is None else [row for row in members.index if row in gallery][:PICTURES]
        yield {
            **facts,
            "subtask": number,
            "shown": True,
            "pictures": len(shown),
            "montage": inlined([gallery[row] for row in shown], 4, 72) if shown else None,
            "truth": None if members is None else true_make_up(members),
        }


def members_of(examples: pd.DataFrame, subtask: int) -> pd.DataFrame:
    """A sub-task's examples, the surest first."""
    members = examples[examples["subtask"] == subtask]
    return members.sort_values("subtask_confidence", ascending=False, kind="stable")


def true_make_up(members: pd.DataFrame) -> str | None:
    """What a sub-task is made of, where that is known: its three most frequent parts."""
    if "true_subtask" not in members or members.empty:
        return None
    shares = members["true_subtask"].value_counts(normalize=True).head(3)
    names = ("acceptable (a wrong label)" if part == -1 else f"true sub-task {part}" for part in shares.index)
    return ", ".join(f"{percent(share)} {name}" for name, share in zip(names, shares, strict=True))


def suspects(examples: pd.DataFrame, gallery: dict[int, NDArray[np.uint8]]) -> dict[str, Any]:
    """The labels that the model doubts most: those of which it holds the other one for likelier."""
    labelled = examples[(examples["label"] >= 0) & (examples["split"] != "left_out")]
    doubted = labelled[labelled["suspicion"] > 0.5].sort_values("suspicion", ascending=False, kind="stable")
    known = "true_label" in doubted
    wrong = doubted["true_label"] != doubted["label"] if known else pd.Series(dtype=bool)
    shown = [
        {
            "id": str(facts["id"]),
            "label": LABELS[int(facts["label"])],
            "score": float(facts["score"]),
            "split": str(facts["split"]),
            "headline": str(facts["headline"]) if isinstance(facts.get("headline"), str) else None,
            "picture": inlined([gallery[row]]) if row in gallery else None,
            "wrong": bool(wrong[row]) if known else None,
        }
        for row, facts in zip(doubted.index[:SUSPECTS], doubted.head(SUSPECTS).to_dict("records"), strict=True)
    ]
    return {
        "shown": shown,
        "doubted": len(doubted),
        "labelled": len(labelled),
        "wrong_shown": int(wrong.head(SUSPECTS).sum()) if known else None,
        "wrong": int(wrong.sum()) if known else None,
    }


def duplicate_groups(table: pd.DataFrame) -> dict[str, Any]:
    """The groups of near-duplicates, and how many images they hold."""
    groups = [
        {
            "ids": members["id"].tolist(),
            "reason": ", ".join(sorted({reason for reason in members["reason"] if reason})),
            "conflict": "conflict" in members and bool((members["conflict"] == "True").any()),
        }
        for _, members in table.groupby("group", sort=False)
    ]
    return {"groups": groups, "images": len(table)}


def settings(config: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """The settings by section, flat: names with dots, and values as they would be typed."""
    sections: dict[str, list[tuple[str, str]]] = {"general": []}
    for name, value in config.items():
        if isinstance(value, dict):
            sections[str(name)] = list(_flat(value))
        else:
            sections["general"].append((str(name), _typed(value)))
    return {name: pairs for name, pairs in sections.items() if pairs}


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _typed(value)


def _typed(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_typed(item) for item in value) or "none"
    return "none" if value == {} else str(value)
