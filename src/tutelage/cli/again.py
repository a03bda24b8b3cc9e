"""A finished run's task, read again as its config.yaml says."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

from tutelage import recipes
from tutelage.cli.commands import COMMANDS
from tutelage.cli.parser import parser_for
from tutelage.files import read_yaml


def task_of(run_folder: Path, data: Path | None = None) -> Any:
    """Return what a run of images or fields worked on, None for a run of denoise, whose rules would be run.

    Args:
        run_folder: the run's folder.
        data: where the data lie now; where the run found them by default.

    Raises:
        FileNotFoundError: no finished run, or the data are gone.
        ValueError: the run was started from Python, with a task that no command makes.
    """
    recipe = recipes.recipe_of(run_folder)
    if recipe.name == "denoise":
        return None
    config = read_yaml(run_folder / "config.yaml")
    told = {
        name: len(each.parameters().keys() & config.keys())
        for name, each in COMMANDS.items()
        if each.recipe == recipe.name
        and {flag for flag, needed in each.parameters().items() if needed} <= config.keys()
    }
    name = max(told, key=lambda each: told[each], default="")
    if not told.get(name):
        raise ValueError(
            f"{run_folder} was started from Python with a task of its own; export it there: "
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
