"""Plots as SVG and pictures as PNG, both as text or bytes to inline; no pyplot, no state."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tutelage.reports.run_folder import Training

COLOURS = ("#1d5fa6", "#b3500d", "#5b6b76", "#6d3f9c", "#20744a")
"""Told apart by the colour-blind and in grey, each of at least 4.5:1 contrast on white; dashes double the first two."""
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1.2)))
SIZE = (4.6, 2.9)  # inches; of this size the letters stay readable on a telephone
MUTED = "#56606a"
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:g} %")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters stay letters
    "svg.hashsalt": "tutelage",  # the same plot is the same text
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa4ad",
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.grid": True,
    "grid.color": "#e6e9ec",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Line:
    """One line of `line_plot`.

    Attributes:
        name: in the legend.
        x, y: (n,) numbers.
        step: holds each value until the next x.
        points: (x, y, low, high) drawn with an interval.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    step: bool = False
    points: Sequence[tuple[float, float, float, float]] = field(default=())


def line_plot(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    name: str,
    alt: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    reference: tuple[str, float] | None = None,
    percent: bool = False,
    whole: bool = False,
) -> Markup:
    """Several lines over one another, as SVG.

    Args:
        lines: at most as many as there are `COLOURS`, or colours repeat.
        x_label, y_label: of the axes.
        name: unlike that of any other plot in the same document.
        alt: says in words what the plot shows.
        x_range, y_range: of the axes; what holds the data by default.
        reference: a name and a height at which a dotted line is drawn.
        percent: both axes are shares, shown in percent.
        whole: x counts something, so that only whole numbers are named.
    """

    def draw(axes: Axes) -> None:
        for place, line in enumerate(lines):
            _draw(axes, line, place)
        if reference is not None:
            axes.axhline(reference[1], color=MUTED, linestyle=":", linewidth=1.2, label=reference[0])
        axes.set(**{key: value for key, value in (("xlim", x_range), ("ylim", y_range)) if value is not None})
        if percent:
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
                axis.set_major_formatter(PERCENT)
        if whole:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend(loc="best")

    return plot(draw, x_label, y_label, name, alt)


def histogram(parts: Mapping[str, NDArray[np.float64]], *, x_label: str, y_label: str, name: str, alt: str) -> Markup:
    """How numbers are distributed, each part as shares of its own, over one another, as SVG.

    Args:
        parts: numbers by name in the legend, at most as many parts as there are `COLOURS`; what is not finite is left out.
        x_label, y_label, name, alt: as in `line_plot`.
    """
    finite = {part: values[np.isfinite(values)] for part, values in parts.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(finite.values())), 40)

    def draw(axes: Axes) -> None:
        for place, (part, values) in enumerate(finite.items()):
            shares = np.histogram(values, edges)[0] / max(len(values), 1)
            colour, dashes = COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.25)
            axes.stairs(shares, edges, color=colour, linestyle=dashes, linewidth=1.6, label=part)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PERCENT)
        axes.legend(loc="best")

    return plot(draw, x_label, y_label, name, alt)


def plot(
    draw: Callable[[Axes], None], x_label: str, y_label: str, name: str, alt: str, size: tuple[float, float] = SIZE
) -> Markup:
    """One panel, in the style of all, as SVG; ``draw(axes)`` fills it, and the rest is as in `line_plot`."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot(xlabel=x_label)
        draw(axes)
        _head(axes, y_label)
        return svg(figure, name, alt)


def _head(axes: Axes, text: str) -> None:
    """Name the vertical axis above it, where it reads without turning the head and is never cut off."""
    axes.set_title(text, loc="left", fontsize=9.5, color=MUTED)


def _draw(axes: Axes, line: Line, place: int) -> None:
    colour, dashes = COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]
    drawn = "steps-post" if line.step else "default"
    axes.plot(line.x, line.y, color=colour, linestyle=dashes, linewidth=1.8, drawstyle=drawn, label=line.name)
    for x, y, low, high in line.points:
        error = [[max(0.0, y - low)], [max(0.0, high - y)]]
        axes.errorbar([x], [y], yerr=error, fmt="o", color=colour, markersize=4.5, capsize=3, linewidth=1.2)


def training_curves(trainings: Sequence[Training], name: str, alt: str) -> Markup:
    """One training, or several alike over one another: the losses, and below them the validation where there is one.

    Args:
        trainings: at least one. Of several, each signal keeps one colour.
        name, alt: as in `line_plot`.
    """
    signals = list(dict.fromkeys(signal for training in trainings for signal in training.losses))
    validated = any(np.isfinite(training.val).any() for training in trainings)
    alone = len(trainings) == 1
    width, opacity = (1.8, 1.0) if alone else (0.9, 0.55)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE if not validated else (SIZE[0], 3.6), layout="constrained")
        panels = figure.subplots(1 + validated, 1, sharex=True, squeeze=False)[:, 0]
        for training in trainings:
            marker = "o" if len(training.steps) < 2 else None
            for place, signal in enumerate(signals):
                if signal in training.losses:
                    panels[0].plot(
                        training.steps,
                        training.losses[signal],
                        color=COLOURS[place % len(COLOURS)],
                        linestyle=DASHES[(place + place // len(COLOURS)) % len(DASHES)],
                        linewidth=width,
                        alpha=opacity,
                        marker=marker,
                        label=signal if training is trainings[0] else f"_{signal}",
                    )
            if validated:
                panels[1].plot(
                    training.steps, training.val, color=COLOURS[0], linewidth=width, alpha=opacity, marker=marker
                )
                if np.isfinite(training.val).any():
                    best = int(np.nanargmax(training.val))
                    label = "the weights that were kept" if training is trainings[0] else None
                    panels[1].plot(
                        training.steps[best], training.val[best], "o", color=COLOURS[1], markersize=5, label=label
                    )
        _head(panels[0], "training loss")
        panels[0].set_ylim(bottom=min(0.0, panels[0].get_ylim()[0]))
        if len(signals) > 4:  # a legend of more would hide the lines
            height = 0.1 + 0.2 * ((len(signals) + 1) // 2)
            figure.set_figheight(figure.get_figheight() + height)
            figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        elif signals:
            panels[0].legend(loc="best")
        if validated:
            _head(panels[1], "validation")
            panels[1].legend(loc="best")
        panels[-1].set_xlabel("step")
        panels[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        return svg(figure, name, alt)


def svg(figure: Figure, name: str, alt: str) -> Markup:
    """A figure as an ``<svg>`` element to inline, with a description; its ids start with ``name``, so that none clash."""
    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(
            file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' (width|height)="[^"]*pt"', "", text, count=2)  # the page says how wide
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'xlink:href="#', f'xlink:href="#{name}-', text)
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{escape(alt, quote=True)}"', 1))


def inlined(images: Sequence[NDArray[np.uint8]], columns: int = 1, tile: int = 120) -> str:
    """A picture, or a `montage` of several, as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(montage(images, columns, tile)).decode()}"


def montage(images: Sequence[NDArray[np.uint8]], columns: int, tile: int, gap: int = 4) -> bytes:
    """Several pictures in a grid, as PNG.

    Args:
        images: uint8 (3, H, W), of any sizes.
        columns: pictures side by side.
        tile: about how many pixels a picture's longer side gets. Small pictures are enlarged by a whole factor without
            smoothing, so that what the model saw can be seen.
        gap: pixels between two pictures.

    Raises:
        ValueError: no pictures.
    """
    if not len(images):
        raise ValueError("images is empty: a montage needs at least one picture")
    tiles = [_tile(image, tile) for image in images]
    columns = min(columns, len(tiles))
    width, height = max(picture.width for picture in tiles), max(picture.height for picture in tiles)
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGBA", (columns * (width + gap) - gap, rows * (height + gap) - gap))  # on paper of any colour
    for place, picture in enumerate(tiles):
        row, column = divmod(place, columns)
        sheet.paste(picture, (column * (width + gap), row * (height + gap)))
    file = io.BytesIO()
    sheet.save(file, format="PNG")
    return file.getvalue()


def _tile(image: NDArray[np.uint8], tile: int) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    longer = max(picture.size)
    if longer <= tile:
        factor = tile // longer
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    return ImageOps.contain(picture, (tile, tile), Image.Resampling.LANCZOS)
