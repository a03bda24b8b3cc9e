"""What happens, for programs (JSON lines, always) and for the person who watches (a bar, or plain lines)."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from tutelage.distributed import is_main_process

PERIOD = 30.0  # seconds between two lines of progress where there is no terminal


class Log:
    """Appends one JSON object a line to a file; nothing is ever rewritten.

    After an interruption a ``resumed`` line says from which step on the lines repeat. A number that is not finite, which
    JSON has no word for, is null. Of several processes only the first one writes and speaks.

    Args:
        path: the file, or None for no file.
        quiet: say nothing on the terminal.
        context: entries that every line carries, such as the stage.
    """

    def __init__(self, path: Path | None, *, quiet: bool = False, **context: Any) -> None:
        self.path = path
        self.quiet = quiet
        self.context = context
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def within(self, **context: Any) -> Log:
        """Return a log to the same file, with more context."""
        return Log(self.path, quiet=self.quiet, **{**self.context, **context})

    def event(self, event: str, **values: Any) -> None:
        """Write one line.

        Raises:
            OSError: it cannot be written.
        """
        if self.path is not None and is_main_process():
            line = {"time": round(time.time(), 3), **self.context, "event": event, **values}
            try:
                with open(self.path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(_valid(line), allow_nan=False, default=str) + "\n")
            except OSError as error:  # a full disk says so without the file's name
                raise OSError(error.errno, error.strerror, str(self.path)) from error

    def say(self, text: str) -> None:
        """Tell the person who watches."""
        if not self.quiet and is_main_process():
            tqdm.write(text, file=sys.stderr)

    def progress(self, total: int, done: int, name: str) -> tqdm[Any] | Lines:
        """Return a progress bar on a terminal or in a notebook, and elsewhere a line every 30 seconds with the time left."""
        silent = self.quiet or not is_main_process()
        if silent or sys.stderr.isatty() or _in_notebook():
            return tqdm(total=total, initial=done, desc=name, unit="step", leave=False, disable=silent)
        return Lines(self.say, total, done, name)


class Lines:
    """Says every 30 seconds how far a training is, and how long the rest will take at the speed so far.

    Args:
        say: tells a line.
        total: steps in all.
        done: steps that were taken before.
        name: what is trained.
    """

    def __init__(self, say: Callable[[str], None], total: int, done: int, name: str) -> None:
        self.say, self.total, self.done, self.name = say, total, done, name
        self.first, self.figures = done, ""
        self.start = self.told = time.monotonic()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        """Say nothing more."""

    def set_postfix(self, figures: Mapping[str, str]) -> None:
        """Remember the last figures on held-out data, to say them too."""
        self.figures = "".join(f", {name} {value}" for name, value in figures.items())

    def update(self, steps: int = 1) -> None:
        """Count steps, and say it where the last line is old."""
        self.done += steps
        now = time.monotonic()
        if now - self.told >= PERIOD and self.done < self.total:
            left = (now - self.start) / (self.done - self.first) * (self.total - self.done)
            self.say(
                f"{self.name or 'training'}: step {self.done:,} of {self.total:,}{self.figures}, about {_minutes(left)} left"
            )
            self.told = now


def _minutes(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60):,} min"


def _in_notebook() -> bool:
    """Whether a notebook shows what is printed; nothing is imported to find out."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", {})


def _valid(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _valid(item) for key, item in value.items()}
    return [_valid(item) for item in value] if isinstance(value, list | tuple) else value
