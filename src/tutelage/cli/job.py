"""What the commands share.

A command is a frozen dataclass: its fields are its flags, its docstring their help, and `run` does it. Class attributes say
more: `positional` names the fields that may be given as leading bare words; `settings`, for a command that has a job's
settings as further flags, returns those of a scale with a sentence about them; `scale` is the one that it starts from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tutelage.distributed import is_main_process

Preset = Callable[[Any], tuple[Any, str]]
"""From the name of a scale (auto, pocket or paper) to a job's settings, and a sentence that says what was chosen and why."""


def finish(report: Path) -> None:
    """Say where the report is, once for all processes."""
    if is_main_process():
        print(f"report: {report}")


def told(command: Any) -> dict[str, Any]:
    """Return a command's own values for config.yaml, all but the folder in which that lies."""
    return {name: value for name, value in asdict(command).items() if name != "out"}
