"""From the words of a command line to the job that they ask for."""

from __future__ import annotations

import os
import re
import signal
import sys
import warnings
from contextlib import nullcontext
from dataclasses import asdict, fields
from inspect import signature
from typing import NoReturn

from tutelage.checks import nearest
from tutelage.cli.commands import COMMANDS


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        from tutelage import __version__

        print(f"tutelage {__version__}")
        sys.exit(0)
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    length = 2 if " ".join(words[:2]) in COMMANDS else 1
    if not words or " ".join(words[:length]) not in COMMANDS:
        _usage(words)
    _execute(" ".join(words[:length]), words[length:])


def _execute(command: str, rest: list[str]) -> None:
    import torch
    import yaml

    from tutelage.cli.parser import positional
    from tutelage.hardware import available_cpus
    from tutelage.training import Interrupted

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(available_cpus())
    formatted = warnings.formatwarning
    warnings.formatwarning = lambda text, *_: f"warning: {_with_flags(str(text), command, rest)}\n"
    try:
        _run(command, positional(command, rest))
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except (ValueError, OSError, ImportError, yaml.YAMLError) as error:
        print(f"tutelage {command}: {_with_flags(' '.join(str(error).split()), command, rest)}", file=sys.stderr)
        sys.exit(2)
    finally:
        warnings.formatwarning = formatted


def _with_flags(message: str, command: str, given: list[str]) -> str:
    """Write the names of settings in a message as the flags that set them."""
    from tutelage.cli.parser import parser_for

    if message.startswith("unknown "):  # key of a file, or an argument, which has its dashes
        return message
    typed = [re.split("[ =]", word[2:])[0] for word in given if word.startswith("--")]
    known = {action.dest for action in parser_for(command)._actions if action.option_strings} | set(typed)

    def flag(found: re.Match[str]) -> str:
        name = found[1]
        like = [each for each in typed if each.rpartition(".")[2] == name.rpartition(".")[2]]
        if (
            f"{name}=" == found[0] and name not in known and len(like) == 1
        ):  # a part of the settings does not know where it is used
            name = like[0]
        return f"--{name}{found[2]}" if name in known and ("." in name or found[2] == "=") else found[0]

    return re.sub(r"(?<![\w./'\"-])([a-z_]+(?:\.[a-z_]+)*)(=?)", flag, message)


def _run(name: str, arguments: list[str]) -> None:
    import jsonargparse

    from tutelage import recipes
    from tutelage.cli.parser import daily_help, parser_for, preset_of
    from tutelage.distributed import join
    from tutelage.recipes.run_lock import claimed

    command = COMMANDS[name]
    preset, why = preset_of(name, arguments)
    parser = parser_for(name, preset)
    if {"-h", "--help", "--help-all"} & set(arguments):
        print(parser.format_help() if "--help-all" in arguments else daily_help(name, parser), end="")
        sys.exit(0)
    parsed = parser.parse_args(arguments)
    for action in parser._actions:
        group, _, inner = action.dest.partition(".")
        if inner not in ("", "help") and not isinstance(parsed[group], jsonargparse.Namespace):
            raise ValueError(f"{group}={parsed[group]!r} is no value; set what it consists of, such as {group}.{inner}")
    values = parser.instantiate(parsed)
    given = {parameter: getattr(values, parameter) for parameter in command.parameters()}
    function = command.load()
    if command.recipe is None:
        function(**given)
        return
    print(why, file=sys.stderr)
    settings = type(preset)(**{field.name: getattr(values, field.name) for field in fields(preset)})
    listing = {"out": values.out} if "out" in signature(function).parameters else {}
    main_process = join()
    told = {**given, **asdict(settings)}
    with claimed(values.out, command.recipe, told, name) if main_process else nullcontext():
        task = function(**given, settings=settings, **listing)
        done = recipes.run(command.recipe, task, settings, values.out, command=name, command_args=given)
    if main_process:
        print(f"report: {done.report}")


def _usage(words: list[str]) -> NoReturn:
    print("usage: tutelage COMMAND [...]\n", file=sys.stderr)
    for name, command in COMMANDS.items():
        print(f"  {name:<12} {command.help}", file=sys.stderr)
    if words and words[0] not in ("-h", "--help"):
        begun = any(name.startswith(f"{words[0]} ") for name in COMMANDS)  # a command of two words
        asked = " ".join(words[:2]) if begun else words[0]
        print(f"\nunknown command {asked!r}{nearest(asked, COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    print(
        "\ntutelage help COMMAND lists a command's flags, tutelage --version says which version this is.",
        file=sys.stderr,
    )
    sys.exit(0 if words else 2)
