"""One run for all recipes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from tutelage import distributed
from tutelage.configured import plain
from tutelage.files import read_parquet, write_atomically, write_table
from tutelage.recipes.encoding import encoded, outlined, with_features
from tutelage.recipes.finished import report
from tutelage.recipes.registry import load
from tutelage.recipes.relabel import FILE
from tutelage.recipes.run_lock import CONFIG, claimed, config_text
from tutelage.recipes.task import Task
from tutelage.training import Log


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run: its folder, its figures (as in metrics.json), and its report, which a notebook shows."""

    folder: Path
    metrics: dict[str, Any]
    report: Path

    def __repr__(self) -> str:
        """Return what the run says in the end."""
        pipeline = self.metrics["pipeline"]
        told = load(pipeline["recipe"]).closing(self.metrics)
        return "\n  ".join([f"{pipeline['recipe']}: {pipeline['title']}", *told, f"report: {self.report}"])

    def _repr_html_(self) -> str:
        """Return the report in a frame of its own, so that its style and scripts stay there."""
        text = escape(self.report.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{text}" title="report" style="width: 100%; height: 80vh; border: 0"></iframe>'


def run(
    name: str,
    task: Task,
    settings: Any,
    out: Path,
    *,
    command: str | None = None,
    command_args: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Run:
    """Train by a recipe, evaluate, and write a report.

    A run that was killed goes on where it was, and finished stages are kept; the figures do not depend on it. Of several
    processes (``torchrun``) all train, and the main process writes.

    Args:
        name: a recipe, one of `RECIPES`.
        task: what is worked on, of the recipe's own kind.
        settings: the recipe's settings.
        out: the run's folder: config.yaml, problems.csv, log.jsonl, stages/, the recipe's tables, each as Parquet and as CSV,
            model/, metrics.json (written when all others are there) and report.html.
        command: the command that made the task, by which it can be read again.
        command_args: further values for config.yaml, such as the data that a command was given.
        quiet: print nothing.

    Raises:
        ValueError: the task cannot be worked on, a training cannot be done as the settings say, or the folder is not free for
            this run (see `claimed`), with what to do.
        Interrupted: SIGTERM or Ctrl-C came; run it again to go on.
    """
    recipe, out = load(name), Path(out)
    main = distributed.join(settings.hardware.patience)
    values = {**(command_args or {}), **asdict(settings)}
    with claimed(out, name, values, command) if main else nullcontext():
        distributed.barrier()  # with a folder that the main process has found fit
        recipe.rehearse(with_features(task, settings, outlined) if recipe.encodes else task, settings)
        log = Log(out / "log.jsonl", quiet=quiet)
        path = out / "metrics.json"
        if main:
            config = config_text(values)
            write_atomically(out / CONFIG, lambda temporary: temporary.write_text(config, encoding="utf-8"))
            task.problems.write(out)  # at once: it also explains a run that comes to no end
            for line in task.problems.warnings():
                log.say(line)
        if recipe.encodes:
            task = with_features(task, settings, encoded)
            if settings.encoder.features is not None:
                log.say(
                    f"features are those of {settings.encoder.features}: the model reads features, too, and no images"
                )
        trained = recipe.train(task, settings, out, log)
        if main:
            path.unlink(missing_ok=True)  # of a former run on other data, whose tables are overwritten now
            for former in out.glob("*.parquet"):  # of that one
                former.with_suffix(".csv").unlink(missing_ok=True)
            found = recipe.evaluate(task, settings, trained, out)
            for table in sorted(out.glob("*.parquet")):
                write_table(table.with_suffix(".csv"), read_parquet(table))
            pipeline = {"recipe": name, "title": task.title, "seed": settings.seed, **found.pop("pipeline", {})}
            text = json.dumps(plain({"pipeline": pipeline, **found}), indent=2) + "\n"
            write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
            if recipe.doubts is not None:
                write_table(out / FILE, recipe.doubts(out))
            report(out)
        distributed.barrier()
    metrics = json.loads(path.read_text(encoding="utf-8"))
    for line in recipe.closing(metrics):
        log.say(line)
    return Run(out, metrics, out / "report.html")
