"""What the report of a run with auxiliary losses shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.axes import Axes

from tutelage.files import read_parquet
from tutelage.reports.plots import DASHES, SIZE, plot
from tutelage.reports.run_folder import RunFolder
from tutelage.reports.wording import Names, compared, fixed, why_served, why_unfrozen

NAMES = Names(
    single="the primary loss alone",
    equal="all losses equally",
    fixed="given constant weights",
    hpo="tuned constant weights",
    refit="MAOAL’s importances, again on all labels",
    ensemble="the mean of several networks",
)
LABELS = {"accuracy": "accuracy", "rmse": "RMSE", "mean_iou": "mean IoU", "pixel_accuracy": "pixel accuracy"}


def view(run: RunFolder) -> dict[str, Any]:
    """Return what the template shows besides the frame, as plain values."""
    metrics = run.metrics
    method, served = metrics["pipeline"]["method"], metrics["choice"]["chosen"]
    figures = [{**figure, "label": LABELS[figure["name"]]} for figure in metrics["task"]["figures"]]
    importance = run.table("importance.parquet", "importances by module are not shown")
    if importance is not None and importance.empty:
        importance = None
    return {
        "names": NAMES,
        "method": method,
        "served": served,
        "figures": figures,
        "first": figures[0],
        "verdicts": [
            *why_served(metrics["choice"], NAMES, points=False),
            *why_unfrozen(metrics.get("unfrozen")),
            *(compared(NAMES[served], NAMES[other], gain) for other, gain in metrics["difference"].items()),
        ],
        "curves": [] if importance is None else list(curves(importance)),
        "last": None if importance is None else last(importance),
        "mean_weights": mean_weights(run.folder / "weights.parquet"),
    }


def curves(importance: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """For each task a plot of its importance in every module over the steps of training (MAOAL's Figure 4)."""
    for place, task in enumerate(dict.fromkeys(importance["task"])):
        own = importance[importance["task"] == task]
        modules = list(dict.fromkeys(own["module"]))
        ends = {module: own[own["module"] == module]["value"].iloc[-1] for module in modules}
        told = ", ".join(f"{module} {fixed(value, 2)}" for module, value in ends.items())
        yield {
            "title": task,
            "caption": f"In the end: {told}.",
            "svg": _plot(
                own, modules, f"importance-{place}", f"Importance of {task} by module over steps. In the end: {told}."
            ),
        }


def _plot(own: pd.DataFrame, modules: list[str], name: str, alt: str) -> Markup:
    shades = colormaps["viridis"](np.linspace(0.0, 0.85, len(modules)))

    def draw(axes: Axes) -> None:
        for place, (module, shade) in enumerate(zip(modules, shades, strict=True)):
            line = own[own["module"] == module]
            dashes = DASHES[place % len(DASHES)]
            axes.plot(line["step"], line["value"], color=shade, linestyle=dashes, linewidth=1.6, label=module)
        low, high = min(0.0, float(own["value"].min())), max(0.0, float(own["value"].max()))
        axes.set_ylim(low, high + 0.05 * ((high - low) or 1.0))
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)

    return plot(draw, "step", "importance", name, alt, (SIZE[0], SIZE[1] + 0.4))


def mean_weights(path: Path) -> dict[str, float]:
    """The mean weight of each task over the training examples, where the method has learned weights of examples."""
    means = read_parquet(path).filter(like="weight_").mean() if path.is_file() else pd.Series(dtype=float)
    return {str(column).removeprefix("weight_"): float(mean) for column, mean in means.items()}


def last(importance: pd.DataFrame) -> dict[str, Any]:
    """The importances at the end of training, a row for each task."""
    end = importance[importance["step"] == importance["step"].max()]
    modules = list(dict.fromkeys(end["module"]))
    rows = [(task, end[end["task"] == task]["value"].tolist()) for task in dict.fromkeys(end["task"])]
    return {"modules": modules, "rows": rows}


def importance_table(
    history: Sequence[Mapping[str, Any]], tasks: Sequence[str], modules: Sequence[str], *, whole: bool = False
) -> pd.DataFrame:
    """Return what a weighting learned of how far each task counts in each module, a row for each number and step.

    Args:
        history: as `tutelage.training.Fitted` has it.
        tasks: all but the first.
        modules: their names.
        whole: list weights of whole losses, too, as those of a module named model.
    """
    rows = [
        (entry["step"], task, module, value)
        for entry in history
        for task, values in zip(tasks, entry.get("importance", []), strict=False)
        for module, value in zip(modules, values, strict=True)
    ]
    rows += [
        (entry["step"], task, "model", value)
        for entry in history
        for task, value in zip(tasks, entry.get("weights", [None])[1:], strict=False)
        if whole
    ]
    table = pd.DataFrame(rows, columns=["step", "task", "module", "value"])
    return table.astype({"step": "int64", "value": "float64"})
