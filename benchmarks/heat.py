"""A table of numbers as colours."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tutelage.reports.plots import MUTED, STYLE, svg


def heat_map(
    values: NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    y_label: str,
    x_label: str,
    name: str,
    alt: str,
    digits: int = 1,
) -> str:
    """A matrix as SVG: the darker the higher, each number written in its cell; NaN cells stay empty.

    Args:
        values: (rows, columns).
        rows, columns: their names.
        title: above the map.
        y_label, x_label: of the axes.
        name: unlike that of any other plot in the same document.
        alt: says in words what the plot shows.
        digits: decimals.

    Raises:
        ValueError: another shape than the names have.
    """
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"values is {values.shape}; there are {len(rows)} rows and {len(columns)} columns")
    low, high = (float(np.nanmin(values)), float(np.nanmax(values))) if np.isfinite(values).any() else (0.0, 1.0)
    style = STYLE | {"axes.grid": False, "axes.spines.left": False, "axes.spines.bottom": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(1.6 + 0.75 * len(columns), 1.1 + 0.42 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        span = max(high - low, 1e-9)
        axes.imshow(values, cmap="Blues", vmin=low - 0.15 * span, vmax=high + 0.1 * span, aspect="auto")
        for row in range(len(rows)):
            for column in range(len(columns)):
                if np.isfinite(value := values[row, column]):
                    ink = "white" if value > low + 0.6 * span else "#1b2127"
                    axes.text(column, row, f"{value:.{digits}f}", ha="center", va="center", color=ink)
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(length=0)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.set_title(title, loc="left", fontsize=9.5, color=MUTED)
        return svg(figure, name, alt)
