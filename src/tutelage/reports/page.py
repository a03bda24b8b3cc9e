"""From a run's folder to its report: one self-contained HTML file. The same folder gives the same file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, UndefinedError

from tutelage.files import write_atomically
from tutelage.reports.curves import training_plots
from tutelage.reports.run_folder import RunFolder
from tutelage.reports.sections import settings
from tutelage.reports.wording import GLOSSARY, fixed, hundred, percent, rate

LISTED = 100  # rows of a table that may be as long as the data


def write_report(run: Path, template: str, view: Callable[[RunFolder], dict[str, Any]]) -> Path:
    """Write ``report.html`` from what lies in a run's folder, and return its path.

    Only metrics.json must be there; what else is missing is named in the report.

    Args:
        run: the run's folder.
        template: a file of this room that extends base.html.
        view: returns the values that are the recipe's own; all that base.html shows is read here.

    Raises:
        FileNotFoundError: the folder holds no metrics.json.
        ValueError: its files lack what a report shows, as those of another version do.
    """
    folder = RunFolder(run)
    try:
        return _written(folder, run, template, view)
    except (KeyError, UndefinedError) as error:
        raise ValueError(
            f"{run} is a run of another version: its files lack what the report shows ({error}); run the same command again, "
            "which goes on from its finished stages"
        ) from error


def _written(folder: RunFolder, run: Path, template: str, view: Callable[[RunFolder], dict[str, Any]]) -> Path:
    own = view(folder)
    problems = folder.table("problems.csv", "what was left out is not listed")
    shared = {
        "metrics": folder.metrics,
        "finished": None if folder.finished is None else datetime.fromtimestamp(folder.finished, UTC),
        "trainings": list(training_plots(folder.trainings)),
        "problems": None if problems is None else problems.to_dict("records"),
        "settings": None if folder.config is None else settings(folder.config),
        "missing": folder.missing,
        "listed": LISTED,
    }
    html = rendered(template, shared | own)
    write_atomically(run / "report.html", lambda temporary: temporary.write_text(html, encoding="utf-8"))
    return run / "report.html"


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """Return the page that a template of this room makes of values."""
    environment = Environment(
        loader=FunctionLoader(lambda name: files(__package__).joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["glossary"] = GLOSSARY
    environment.filters |= {"fixed": fixed, "percent": percent, "hundred": hundred, "rate": rate}
    return environment.get_template(template).render(values)
