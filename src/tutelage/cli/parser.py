"""Flags from dataclasses, and mistakes answered in one line."""

from __future__ import annotations

import argparse
import re
from dataclasses import fields, is_dataclass, replace
from functools import partial
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import jsonargparse
import yaml

from tutelage.checks import closest
from tutelage.cli.commands import COMMANDS, OURS
from tutelage.files import load_yaml, read_yaml
from tutelage.recipes import load

SCALES = Literal["auto", "pocket", "laptop", "paper"]
WRITTEN = {"tuple": "a list as [one,two]", "dict": "names and values as {name: value}"}

DAILY = {
    *("out", "scale", "seed", "fpr", "duplicates", "method", "weighting", "noise.kind", "noise.rate", "confidence"),
    *("columns.image", "columns.text", "columns.label", "config", "help"),
}
"""The common flags, besides those of a task that are single values: what `--help` lists."""

jsonargparse.set_loader("yaml", partial(load_yaml, load=jsonargparse.get_loader("yaml")), (yaml.YAMLError,))


class Parser(jsonargparse.ArgumentParser):
    """Answers a mistake in one line, and an unknown flag or key with the nearest known one."""

    def format_help(self) -> str:
        """Return the help; classes go by their names, and what a preset gives is not required."""
        text = re.sub(r"<class\s+'(\w+)'>", r"\1", super().format_help())
        return re.sub(r"\(required,\s+(type: [^()]*default:)", r"(\1", text)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what a mistake is answered with."""
        message = re.sub(r"""^Parser key "([^"]*)"|<class '([\w.]+)'>|typing\.""", r"\1\2", message)
        flags = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        group = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message)
        key = re.search(r"Option '([\w.]+)' is not accepted", message)
        if group or key:
            found = ".".join(group.groups()) if group else key[1] if key else ""
            message = f"unknown key {found!r}{nearest(found, [flag[2:] for flag in flags])}"
        elif message.startswith("unrecognized arguments: "):
            unknown = re.split("[ =]", message.removeprefix("unrecognized arguments: "))[0]
            message = f"unknown argument {unknown!r}{nearest(unknown, flags)}"
        elif unread := re.match(r"([\w.]+):\s+Unable to load config '(.*?)'", message):
            near = next((flag[2:] for flag in flags if flag.startswith(f"--{unread[1]}.")), unread[1])
            message = f"{unread[1]}={unread[2]!r} is no value; set what it consists of, such as {near}"
        elif union := re.match(r"(?s)([\w.]+):\s+Does not validate.*Errors:(.*)Given value type.*value: (.*)", message):
            kinds = [kind for kind in re.findall(r"Expected a (\w+)", union[2]) if kind != "NoneType"]
            message = f"{union[1]}: Expected a {' or a '.join(kinds)}. Got value: {union[3]}"
        written = next((how for kind, how in WRITTEN.items() if f"Expected a {kind}." in message), "")
        message += written and f"; write {written}"
        raise ValueError(message) from ex


def nearest(name: str, known: list[str]) -> str:
    """Return the hint at the known name that was probably meant: one that ends in this one, or is written alike."""
    inside = [other for other in known if other.endswith("." + name.lstrip("-"))]
    near = inside or list(filter(None, [closest(name, known)]))
    return f"; did you mean {' or '.join(near)}?" if near else ""


def positional(command: str, arguments: list[str]) -> list[str]:
    """Turn the leading bare words of a command into its flags."""
    names = _words(command)
    given = []
    while names and arguments and not arguments[0].startswith("-"):
        given += [f"--{names.pop(0)}", arguments.pop(0)]
    return given + arguments


def _words(command: str) -> list[str]:
    return [name for name, required in COMMANDS[command].parameters().items() if required]


def _leaves(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Return the fields of nested dataclasses by dotted name."""
    found: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        inside = is_dataclass(value)
        found |= _leaves(value, f"{prefix}{field.name}.") if inside else {prefix + field.name: value}
    return found


def parser_for(name: str, preset: Any = None) -> jsonargparse.ArgumentParser:
    """Return the parser of one command, with every flag's help from the docstrings.

    Args:
        name: one of `COMMANDS`.
        preset: the settings that a recipe's command starts from; those of the pocket scale by default.
    """
    command = COMMANDS[name]
    words = " ".join(word.upper() for word in _words(name))
    parser = Parser(
        prog=f"tutelage {name}",
        usage=f"tutelage {name} {words}".rstrip() + " [--FLAG VALUE ...]",
        description=command.help,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="YAML file of values, such as a run's config.yaml.")
    skip = OURS if command.recipe else set()
    parser.add_function_arguments(command.load(), as_group=False, skip=skip & set(signature(command.load()).parameters))
    if command.recipe is not None:
        preset = load(command.recipe).presets.chosen("pocket")[0] if preset is None else preset
        out = {"required": True} if command.out is None else {"default": command.out}
        parser.add_argument("--out", type=Path, help="Folder of the run.", **out)
        parser.add_argument(
            "--scale",
            type=SCALES,
            default=command.scale,
            help="Preset: paper, laptop (features of a frozen encoder), pocket (a demonstration), or auto.",
        )
        parser.add_class_arguments(type(preset), as_group=False)
        parser.set_defaults(_leaves(preset))
    return parser


def daily_help(name: str, parser: jsonargparse.ArgumentParser) -> str:
    """Return the help of a command's common flags, and how to get that of all; the parser is of no use afterwards."""
    groups = {action.dest.partition(".")[0] for action in parser._actions if "." in action.dest}
    daily = DAILY | set(COMMANDS[name].parameters()) - groups
    hidden = [action for action in parser._actions if action.option_strings and action.dest not in daily]
    flags = len([action for action in hidden if action.dest != "print_config"])
    for action in hidden:
        action.help = argparse.SUPPRESS
    text = parser.format_help()
    return f"{text}\ntutelage {name} --help-all lists the other {flags} flags.\n" if flags else text


def preset_of(name: str, arguments: list[str]) -> tuple[Any, str]:
    """Return the settings of the scale that flags and files name, on which the other flags' defaults depend, and the reason.

    A command without a recipe has none.
    """
    command = COMMANDS[name]
    if command.recipe is None:
        return None, ""
    scale: Any = _given(arguments, "scale", command.scale)
    # A scale that does not exist is the parser's to refuse.
    scale = scale if scale in get_args(SCALES) else command.scale
    sources = ("name", "pretrained", "features")
    encoder = next(filter(None, (_given(arguments, f"encoder.{name}", None) for name in reversed(sources))), None)
    fields_given = str(_given(arguments, "fields", "")) not in ("", "[]", "()", "null", "None")
    preset, why = load(command.recipe).presets.chosen(
        scale, _given(arguments, "data", None), encoder, fields=fields_given and "fields" in command.parameters()
    )
    asked = [unit for unit in ("steps", "epochs") if _given(arguments, f"budget.{unit}", "null") != "null"]
    if asked:  # is done, however many examples there are, and in the place of the preset's
        unit = {"steps": None, "epochs": None, asked[0]: 1} if len(asked) == 1 else {}
        budget = replace(preset.budget, least_steps=None, least_epochs=None, most_epochs=None, **unit)
        preset = replace(preset, budget=budget)
    from tutelage.models import ModelSettings  # which the recipe needs in any case

    others = {  # another model does not take the options of the preset's
        field.name: replace(model, options={})
        for field in fields(preset)
        if isinstance(model := getattr(preset, field.name), ModelSettings)
        and _given(arguments, f"{field.name}.name", model.name) != model.name
    }
    return replace(preset, **others), why


def _given(arguments: list[str], name: str, value: Any) -> Any:
    """Return what flags and files say of a flag, or its default."""
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    for flag, told in pairwise(words):
        if flag == f"--{name}":
            value = told
        elif flag == "--config" and Path(told).is_file():
            found = read_yaml(Path(told))
            for part in name.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            value = value if found is None else found
    return value
