"""A finished run's task, read again as its config.yaml says."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

from tutelage import recipes
from tutelage.cli.commands import COMMANDS
from tutelage.cli.parser import parser_for
from tutelage.recipes.run_lock import MARKER, command_of


def task_of(run_folder: Path, data: Path | None = None) -> Any:
    """Return what a run worked on, None where its folder holds its examples and reading it again would run somebody's code.

    Args:
        run_folder: the run's folder.
        data: where the data lie now; where the run found them by default.

    Raises:
        FileNotFoundError: no finished run, or the data are gone.
        ValueError: no command made the run, or an older version did, which did not note it.
    """
    recipe = recipes.recipe_of(run_folder)
    if not recipe.rereads:
        return None
    name = command_of(run_folder)
    if name not in COMMANDS or COMMANDS[name].recipe != recipe.name:
        raise ValueError(
            f"{run_folder / MARKER} names no command that made the run, so that its data cannot be read again: run the same "
            "command again, or, if it was started from Python with a task of its own, export it there: "
            "tutelage.production.export.export(run_folder, out, task)"
        )
    command, preset = COMMANDS[name], recipe.presets.chosen("pocket")[0]
    parser = parser_for(name, preset)
    source = next((each for each in ("manifest", "data") if each in command.parameters()), None)
    moved = [] if data is None or source is None else [f"--{source}={data}"]
    values = parser.instantiate(
        parser.parse_args(["--config", str(run_folder / "config.yaml"), f"--out={run_folder}", *moved])
    )
    function = command.load()
    settings = type(preset)(**{field.name: getattr(values, field.name) for field in fields(preset)})
    given = {parameter: getattr(values, parameter) for parameter in command.parameters()}
    return function(**given, **({"settings": settings} if "settings" in signature(function).parameters else {}))
