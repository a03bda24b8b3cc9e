"""The report of a multi-label run: one HTML file that needs nothing else, from what lies in the run's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from markupsafe import Markup
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tutelage.reports.page import write_page
from tutelage.reports.plots import Line, line_plot, montage
from tutelage.reports.sections import inlined, settings

SHOWN_LABELS = 8


def write_multilabel_report(run: Path) -> Path:
    """Write ``report.html`` from what lies in a run's folder, and return its path. The same folder gives the same file.

    Raises:
        FileNotFoundError: the folder holds no metrics.json.
    """
    if not (run / "metrics.json").is_file():
        raise FileNotFoundError(f"{run} holds no metrics.json: give the folder of a run that has finished")
    return write_page(run / "report.html", "multilabel.html", view(run))


def view(run: Path) -> dict[str, Any]:
    """Everything that the template shows, as plain values."""
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    labels = _table(run / "labels.parquet")
    coverage = metrics["generations"]["coverage"]
    config = run / "config.yaml"
    told = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else None
    return {
        "metrics": metrics,
        "threshold_given": told is not None and told.get("threshold") is not None,
        "test": metrics["test"],
        "points": {key: value for key, value in metrics["test"].items() if isinstance(value, dict) and "f1" in value},
        "coverage": Markup(_coverage_plot(coverage)) if len(coverage) > 1 else None,
        "appeared": None if labels is None else _appeared(labels),
        "gallery": None if labels is None else _gallery(run, labels),
        "settings": None if told is None else settings(told),
    }


def _table(path: Path) -> pd.DataFrame | None:
    return pd.read_parquet(path) if path.is_file() else None


def _coverage_plot(coverage: list[float]) -> str:
    generations = np.arange(1, len(coverage) + 1, dtype=np.float64)
    return line_plot(
        [Line("labels that the teacher names", generations, np.array(coverage))],
        x_label="generation",
        y_label="labels an image",
        name="coverage",
        alt=f"Labels that each generation's teacher names of an image: {coverage[0]:.2f} in the first, {coverage[-1]:.2f} in "
        "the last.",
        y_range=(0, 1.1 * max(coverage) + 0.1),
        reference=("one an image", 1.0),
        whole=True,
    )


def _appeared(labels: pd.DataFrame) -> list[dict[str, Any]]:
    """New labels by the generation in which they first appeared; the last entry is of the model alone."""
    known = "right" in labels
    found = []
    for generation, members in labels.groupby(labels["generation"].fillna(-1).astype(int)):
        found.append(
            {
                "generation": None if int(str(generation)) < 0 else int(str(generation)),
                "labels": len(members),
                "images": int(members["id"].nunique()),
                "right": float(members["right"].mean()) if known else None,
            }
        )
    return sorted(found, key=lambda entry: entry["generation"] or 10**9)


def _gallery(run: Path, labels: pd.DataFrame) -> list[dict[str, Any]]:
    """Images whose set grew, with what was given and what is new."""
    path, listed = run / "gallery.safetensors", _table(run / "examples.parquet")
    if not path.is_file() or listed is None:
        return []
    tensors = load_file(path)
    by_id = dict(tuple(labels.groupby("id")))
    shown = []
    for row, image in zip(tensors["rows"].tolist(), tensors["images"], strict=True):
        facts = listed.iloc[row]
        new = by_id[facts["id"]].sort_values("score", ascending=False, kind="stable")
        shown.append(
            {
                "id": str(facts["id"]),
                "given": str(facts["given"]) or "no label",
                "picture": inlined(montage([_picture(image)], 1, 120)),
                "new": [
                    {
                        "label": str(entry["label"]),
                        "score": float(entry["score"]),
                        "generation": None if pd.isna(entry["generation"]) else int(entry["generation"]),
                        "right": bool(entry["right"]) if "right" in entry else None,
                    }
                    for entry in new.head(SHOWN_LABELS).to_dict("records")
                ],
                "more": max(0, len(new) - SHOWN_LABELS),
            }
        )
    return shown


def _picture(image: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(image, dtype=np.uint8)
