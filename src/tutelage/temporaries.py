"""Unfinished files beside the one that they will replace: each writer has its own, and only those of dead writers go."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

ABANDONED = 86_400.0
"""Seconds after which what another machine or container has left is taken for that of a dead process."""
_PROCESS = token_hex(4)  # tells this process from an earlier one of the same number


def _place() -> str:
    """Return where process numbers mean processes: the machine and, on Linux, the container."""
    try:
        numbered = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbered = ""
    return sha256(f"{platform.node()} {numbered}".encode()).hexdigest()[:8]


_PLACE = _place()


def temporary_of(path: Path) -> Path:
    """Return a path beside a file that nobody else writes to."""
    return path.with_name(f".{path.name}.{_PLACE}-{os.getpid()}-{_PROCESS}-{token_hex(4)}")


def temporaries_of(path: Path) -> Iterator[Path]:
    """Yield the unfinished files of all writers of a file."""
    own = _pattern(path)
    yield from (each for each in path.parent.iterdir() if own.fullmatch(each.name))


def remove_abandoned(path: Path) -> None:
    """Remove what processes that are dead have left of a file."""
    for each in temporaries_of(path):
        found = _pattern(path).fullmatch(each.name)
        assert found is not None
        if _abandoned(each, found[1], int(found[2]), found[3]):
            each.unlink(missing_ok=True)


def _pattern(path: Path) -> re.Pattern[str]:
    return re.compile(rf"\.{re.escape(path.name)}\.([0-9a-f]{{8}})-(\d+)-([0-9a-f]{{8}})-[0-9a-f]{{8}}")


def _abandoned(path: Path, place: str, process: int, started: str) -> bool:
    if place != _PLACE:
        try:
            return time.time() - path.stat().st_mtime > ABANDONED
        except FileNotFoundError:
            return False
    if process == os.getpid():
        return started != _PROCESS
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another person's
        return False
    return False
