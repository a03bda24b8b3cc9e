"""The command line: one command a job, values only."""

from tutelage.cli.commands import COMMANDS
from tutelage.cli.main import main

__all__ = ["COMMANDS", "main"]
