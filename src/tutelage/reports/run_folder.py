"""What lies in a run's folder, read for its report; whatever may be missing is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tutelage.data.table import Images
from tutelage.files import literal, read_parquet, read_yaml, save_tensors

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


class RunFolder:
    """The contents of a run's folder, each file read when it is asked for.

    Args:
        folder: where the run lies.

    Attributes:
        metrics: of metrics.json.
        missing: sentences that say what was asked for and is not there, or could not be read.

    Raises:
        FileNotFoundError: there is no metrics.json, so that there is nothing to report on.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "metrics.json").is_file():
            raise FileNotFoundError(f"{folder} holds no metrics.json: give the folder of a run that has finished")
        self.folder = folder
        self.metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        self.missing: list[str] = []

    def path(self, name: str, without: str) -> Path | None:
        """Return a file's path; where it is not there, note what is missing ``without`` it, and return None."""
        if (self.folder / name).is_file():
            return self.folder / name
        self.missing.append(f"{name} is not in the run's folder: {without}.")
        return None

    def table(self, name: str, without: str) -> pd.DataFrame | None:
        """Return a table, .parquet or .csv (all of whose cells are texts), or None where it is not there."""
        if (path := self.path(name, without)) is None:
            return None
        if path.suffix == ".parquet":
            return read_parquet(path)
        return pd.read_csv(path, dtype=str, keep_default_na=False).map(literal)

    @cached_property
    def gallery(self) -> dict[int, NDArray[np.uint8]]:
        """The pictures, uint8 (3, H, W), by the row of the table that they belong to."""
        if (path := self.path("gallery.safetensors", "no pictures are shown")) is None:
            return {}
        tensors = load_file(path)
        return dict(zip(tensors["rows"].tolist(), tensors["images"], strict=True))

    @cached_property
    def config(self) -> dict[str, Any] | None:
        """The settings as nested plain values."""
        path = self.path("config.yaml", "the settings are not shown")
        return None if path is None else read_yaml(path) or {}

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """The log's events; lines that a kill has left unreadable are counted in ``missing``."""
        if (path := self.path("log.jsonl", "the training curves are not shown")) is None:
            return []
        events: list[dict[str, Any]] = []
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in lines:
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(event, dict):
                events.append(event)
        if damaged := len(lines) - len(events):
            self.missing.append(f"log.jsonl: {damaged} lines could not be read, as an interruption leaves them.")
        return events

    @property
    def finished(self) -> float | None:
        """Seconds since 1970 at the end of the last stage, or None; running a finished run again does not move it."""
        ends = [event["time"] for event in self.events if event.get("event") == "stage done" and "time" in event]
        return max(ends, default=None)

    @property
    def trainings(self) -> list[Training]:
        """Each training as it stands in the end: evaluations that a resumed or a new attempt took again count once."""
        kept: dict[str, list[dict[str, Any]]] = {}
        continued: set[str] = set()  # trainings that were evaluated or resumed since a stage last started
        for event in self.events:
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


def write_gallery(folder: Path, images: Images, rows: Sequence[int]) -> None:
    """Write pictures for a run's report; of data without images there are none.

    Args:
        folder: the run's.
        images: all images.
        rows: of the images and of examples.parquet, those to be shown.
    """
    pictures = images.pictures(rows).contiguous()
    numbers = torch.tensor(rows, dtype=torch.int64)[: len(pictures)]
    save_tensors({"rows": numbers, "images": pictures}, folder / "gallery.safetensors")
