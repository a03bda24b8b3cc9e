"""Pictures of the tables as files that stand alone: on any page, in a light and in a dark scheme."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape

PAPER = (
    "<style>.paper{fill:#fff}@media (prefers-color-scheme:dark){svg{filter:invert(.92) hue-rotate(180deg)}}"
    'text{font-family:system-ui,sans-serif !important}</style><rect class="paper" width="100%" height="100%"/>'
)


def standalone(svg: str) -> str:
    """Return a picture with a size and a ground of its own, which turn dark with the reader's scheme.

    Raises:
        ValueError: it is no picture of `tutelage.reports.plots.svg`.
    """
    found = re.match(r'<svg [^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>', svg)
    if found is None:
        raise ValueError(f"svg={svg[:60]!r} has no viewBox")
    width, height = (round(4 / 3 * float(points)) for points in found.groups())  # of 72 in an inch, pixels of 96
    return f'<svg width="{width}" height="{height}" {found[0][5:]}{PAPER}{svg[found.end() :]}\n'


def shown(pictures: Mapping[str, str]) -> str:
    """Return Markdown that shows pictures, by file, each with its description as the text beside it."""
    told = {file: re.search(r'aria-label="([^"]*)"', svg) for file, svg in pictures.items()}
    return "\n".join(f"![{unescape(alt[1]) if alt else file}]({file})\n" for file, alt in told.items())
