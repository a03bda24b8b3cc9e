"""A run's folder belongs to one run at a time, and nothing that a run did not write is touched."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

MARKER, LOCK = "run.json", "run.lock"


@contextmanager
def claimed(out: Path, recipe: str) -> Iterator[None]:
    """Hold a run's folder; nested calls of one process share it.

    ``run.json`` marks the folder as a run's and says which process holds or held it. The lock is the operating system's, which
    a process loses when it ends, however it ends. Of several processes of one run the main process alone calls this.

    Args:
        out: the folder; made where there is none.
        recipe: the recipe that runs.

    Raises:
        NotADirectoryError: it is a file.
        ValueError: it is neither empty nor a run of this recipe, or another process holds it.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"out={str(out)!r} is a file; give a folder")
    marker = out / MARKER
    held = _read(marker)
    if held is None and out.is_dir() and (others := sorted(path.name for path in out.iterdir() if path.name != LOCK)):
        raise ValueError(
            f"out={str(out)!r} holds {others[0]!r} and no run: a run would overwrite files there; give a new or an empty folder"
        )
    if held is not None and held.get("recipe") != recipe:
        raise ValueError(f"out={str(out)!r} holds a run of {held.get('recipe')}, not of {recipe}; give another folder")
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / LOCK, timeout=0, is_singleton=True):
            holder = {"recipe": recipe, "process": os.getpid(), "host": platform.node()}
            marker.write_text(json.dumps(holder) + "\n", encoding="utf-8")
            yield
    except Timeout:
        holder = _read(marker) or {}
        raise ValueError(
            f"out={str(out)!r} is in use by process {holder.get('process')} on {holder.get('host')}; wait for it, or give "
            "another folder"
        ) from None


def _read(marker: Path) -> dict[str, object] | None:
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and "recipe" in found else None
