"""What lies in the folder of a moderation run, read for its report; whatever may be missing is named."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from safetensors.numpy import load_file

_FACTS = frozenset({"time", "stage", "event", "name", "step", "epoch", "val"})


@dataclass
class Training:
    """What one training logged at its evaluations.

    Attributes:
        name: the training's.
        steps: optimiser steps before each evaluation.
        losses: by signal, its mean since the evaluation before, NaN where it was not logged.
        val: what selects on validation data, higher is better; NaN where nothing does.
    """

    name: str
    steps: list[int] = field(default_factory=list)
    losses: dict[str, list[float]] = field(default_factory=dict)
    val: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class RunFolder:
    """The contents of a run's folder; None for a table that is not there.

    Attributes:
        metrics: of metrics.json.
        examples: one row an image.
        subtasks: one row a sub-task.
        gallery: pictures, uint8 (3, H, W), by their row in ``examples``.
        trainings: in the order in which they were first evaluated.
        finished: seconds since 1970 at the log's last line, or None.
        config: the settings as nested plain values.
        problems: id, reason, detail of what was left out.
        duplicates: group, id, reason and more of the near-duplicates.
        missing: sentences that say what is not there or could not be read.
    """

    metrics: dict[str, Any]
    examples: pd.DataFrame | None
    subtasks: pd.DataFrame | None
    gallery: dict[int, NDArray[np.uint8]]
    trainings: list[Training]
    finished: float | None
    config: dict[str, Any] | None
    problems: pd.DataFrame | None
    duplicates: pd.DataFrame | None
    missing: list[str]


def read_run(folder: Path) -> RunFolder:
    """Read a run's folder.

    Raises:
        FileNotFoundError: it holds no metrics.json, so that there is nothing to report on.
    """
    if not (folder / "metrics.json").is_file():
        raise FileNotFoundError(f"{folder} holds no metrics.json: give the folder of a run that has finished")
    missing: list[str] = []

    def optional(name: str, read: Any, without: str) -> Any:
        if (folder / name).is_file():
            return read(folder / name)
        missing.append(f"{name} is not in the run's folder: {without}.")
        return None

    events, damaged = optional("log.jsonl", _events, "the training curves are not shown") or ([], 0)
    if damaged:
        missing.append(f"log.jsonl: {damaged} lines could not be read, as an interruption leaves them.")
    return RunFolder(
        metrics=json.loads((folder / "metrics.json").read_text(encoding="utf-8")),
        examples=optional("examples.parquet", pd.read_parquet, "no curve on the test and no doubted label is shown"),
        subtasks=optional("subtasks.parquet", pd.read_parquet, "the sub-tasks are not shown"),
        gallery=optional("gallery.safetensors", _gallery, "no pictures are shown") or {},
        trainings=_trainings(events),
        finished=max((event["time"] for event in events if "time" in event), default=None),
        config=optional("config.yaml", _yaml, "the settings are not shown"),
        problems=optional("problems.csv", _csv, "what was left out is not listed"),
        duplicates=optional("duplicates.csv", _csv, "near-duplicates are not listed"),
        missing=missing,
    )


def read_trainings(log: Path) -> list[Training]:
    """Return the trainings that a run's log.jsonl tells of, in the order in which they were first evaluated."""
    return _trainings(_events(log)[0])


def _csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _yaml(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def _gallery(path: Path) -> dict[int, NDArray[np.uint8]]:
    tensors = load_file(path)
    return dict(zip(tensors["rows"].tolist(), tensors["images"], strict=True))


def _events(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The log's events, and how many lines a kill has left unreadable."""
    events: list[dict[str, Any]] = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events, len(lines) - len(events)


def _trainings(events: list[dict[str, Any]]) -> list[Training]:
    """Each training as it stands in the end: evaluations that a resumed or a new attempt took again count once."""
    kept: dict[str, list[dict[str, Any]]] = {}
    continued: set[str] = set()  # trainings that were evaluated or resumed since a stage last started
    for event in events:
        kind, name = event.get("event"), str(event.get("name"))
        if kind == "stage started":
            continued.clear()
        elif kind == "resumed":
            continued.add(name)
            kept[name] = [entry for entry in kept.get(name, []) if entry["step"] <= event["step"]]
        elif kind == "evaluation":
            before = kept.get(name, []) if name in continued else []
            kept[name] = [*(entry for entry in before if entry["step"] < event["step"]), event]
            continued.add(name)
    return [_training(name, entries) for name, entries in kept.items() if entries]


def _training(name: str, entries: list[dict[str, Any]]) -> Training:
    signals = dict.fromkeys(key for entry in entries for key in entry if key not in _FACTS)
    return Training(
        name,
        steps=[int(entry["step"]) for entry in entries],
        losses={key: [float(entry.get(key, np.nan)) for entry in entries] for key in signals},
        val=[float(entry.get("val", np.nan)) for entry in entries],
    )
