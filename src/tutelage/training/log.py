"""What happens, for programs (JSON lines, always) and for the person who watches (a bar, or plain lines)."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tutelage.distributed import is_main_process


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

    def progress(self, total: int, done: int, name: str) -> tqdm[Any]:
        """Return a progress bar: on a terminal only, elsewhere `say` at evaluations is enough."""
        return tqdm(
            total=total,
            initial=done,
            desc=name,
            unit="step",
            leave=False,
            disable=self.quiet or not is_main_process() or not sys.stderr.isatty(),
        )


def _valid(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _valid(item) for key, item in value.items()}
    return [_valid(item) for item in value] if isinstance(value, list | tuple) else value
