"""`tutelage completion`: what a shell needs to complete commands, flags and their values."""

from __future__ import annotations

import argparse
from typing import Literal, get_args, get_origin

import shtab

from tutelage.cli.commands import COMMANDS


def completion(shell: Literal["bash", "zsh", "tcsh"]) -> None:
    """Print a script that completes tutelage's commands, flags and values.

    Args:
        shell: Shell that reads it, as by eval "$(tutelage completion bash)".
    """
    from tutelage.cli.parser import parser_for

    parser = argparse.ArgumentParser("tutelage")
    parser.add_argument("--version", action="store_true", help="Say which version this is.")
    commands = parser.add_subparsers()
    groups = {"": commands}
    for name, command in COMMANDS.items():
        group, _, last = name.rpartition(" ")
        if group not in groups:
            groups[group] = commands.add_parser(group, help="Several commands.", add_help=False).add_subparsers()
        inner = groups[group].add_parser(last, help=command.help, add_help=False)
        for action in parser_for(name)._actions:
            if action.option_strings:
                kind = getattr(action, "_typehint", None)
                choices = get_args(kind) if get_origin(kind) is Literal else None
                told = str(action.help).replace("%", "%%")
                flag = inner.add_argument(*action.option_strings, help=told, choices=choices)
                if choices is None:
                    vars(flag)["complete"] = shtab.FILE
    print(shtab.complete(parser, shell))
