"""The command line: one command a job, values only."""

from tutelage.cli.commands import COMMANDS
from tutelage.cli.main import main
from tutelage.cli.parser import parser_for

__all__ = ["COMMANDS", "main", "parser_for"]
