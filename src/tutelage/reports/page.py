"""From a template and plain values to one self-contained HTML file."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from tutelage.reports.wording import fixed, hundred, percent, rate
from tutelage.training.checkpoint import write_atomically


def write_page(path: Path, template: str, view: dict[str, Any]) -> Path:
    """Render a template of this room to a file, with the house's style as ``style``; the same view gives the same bytes."""
    environment = Environment(
        loader=FunctionLoader(_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"fixed": fixed, "percent": percent, "hundred": hundred, "rate": rate}
    html = environment.get_template(template).render(view | {"style": _style()})
    write_atomically(path, lambda temporary: temporary.write_text(html, encoding="utf-8"))
    return path


def _style() -> Markup:
    """The style of all reports, which stands in the first one's template."""
    found = re.search(r"<style>.*?</style>", _text("moderation.html"), re.DOTALL)
    assert found is not None
    return Markup(found[0])


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
