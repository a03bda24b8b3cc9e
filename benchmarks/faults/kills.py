"""Runs that are killed at random moments, and run again until they end: are they what they would have been?"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.faults.smallest import SMALLEST
from tutelage import recipes
from tutelage.training import Interrupted

TOLD = ("log.jsonl", "report.html", "run.json", "run.lock", "started.json")  # which say when and by whom
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


@dataclass(frozen=True)
class Killed:
    """The runs of a recipe that were killed.

    Attributes:
        recipe: its name.
        kills: how many there were.
        runs: how many runs they were shared by.
        same: how many of these ended with every file as a run has it that nobody killed.
        files: how many files were compared in each.
    """

    recipe: str
    kills: int
    runs: int
    same: int
    files: int


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a run that its task and settings determine, by its path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in TOLD)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def small(name: str) -> tuple[Any, Any]:
    """Return a recipe's smallest task and its settings, with a checkpoint after every step."""
    task, settings = SMALLEST[name]()
    return task, replace(settings, hardware=replace(settings.hardware, checkpoint_seconds=0.0))


def in_a_process(work: Callable[[], Any]) -> int:
    """Do work in a copy of this process, and return its number; it ends with 0, or with 1 for an error, which it prints."""
    sys.stdout.flush()
    sys.stderr.flush()
    if process := os.fork():
        return process
    code = 1
    try:
        work()
        code = 0
    except Interrupted:
        code = 128 + signal.SIGTERM
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def killed(name: str, kills: int, folder: Path, seed: int = 0) -> Killed:
    """Kill runs of a recipe's smallest task so many times.

    A run is killed again and again, each time after at most a quarter of what it takes, until it ends; then another one begins.

    Raises:
        RuntimeError: a run ended with an error.
    """
    task, settings = small(name)
    draw = random.Random(f"{seed}/{name}")

    def go(out: Path) -> int:
        return in_a_process(lambda: recipes.run(name, task, settings, out, quiet=True))

    begin = time.monotonic()
    _ended(go(folder / "whole"))
    took = time.monotonic() - begin
    wanted, done, runs, same = contents(folder / "whole"), 0, 0, 0
    while done < kills:
        out, over = folder / f"killed-{runs}", False
        while not over:
            process = go(out)
            if done < kills:
                time.sleep(draw.uniform(0, took / 4))
                os.kill(process, draw.choice(SIGNALS))  # one that has ended stays until it is waited for
            over = _ended(process)
            done += not over
        runs += 1
        same += contents(out) == wanted
        shutil.rmtree(out)
    return Killed(name, done, runs, same, len(wanted))


def _ended(process: int) -> bool:
    """Wait for a process, and return whether it came to its end.

    Raises:
        RuntimeError: it ended with an error of its own.
    """
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return True
    if -code in SIGNALS or code - 128 in SIGNALS:
        return False
    raise RuntimeError(f"the run ended with {code}; see above")
