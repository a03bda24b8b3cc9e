"""A run's folder belongs to one run at a time, and nothing that a run did not write is touched."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from tutelage.configured import differences, plain
from tutelage.files import load_yaml, read_yaml, write_atomically
from tutelage.temporaries import temporaries_of

MARKER, LOCK, CONFIG = "run.json", "run.lock", "config.yaml"
FREE = (
    *("processes", "encoder.cache", "encoder.batch_size"),
    *(
        f"hardware.{name}"
        for name in ("compile", "workers", "checkpoint_seconds", "patience", "image_cache", "trackers")
    ),
)
"""Settings on which no result depends, so that a run goes on with others."""


@contextmanager
def claimed(
    out: Path, recipe: str, values: Mapping[str, Any] | None = None, command: str | None = None
) -> Iterator[None]:
    """Hold a run's folder; nested calls of one process share it.

    ``run.json`` marks the folder as a run's, and says which command made it and which process holds or held it. The lock is the
    operating system's, which a process loses when it ends, however it ends. Of several processes of one run the main process
    alone calls this.

    Args:
        out: the folder; made where there is none.
        recipe: the recipe that runs.
        values: the run's settings and what else its command was given, as config.yaml has them.
        command: of the command line, which made the run's task; None where it was made in Python.

    Raises:
        NotADirectoryError: it is a file.
        ValueError: it is neither empty nor a run of this recipe with these values, or another process holds it.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"out={str(out)!r} is a file; give a folder")
    marker = out / MARKER
    held = _read(marker)
    ours = marker.is_file() and (out / LOCK).is_file()  # though a disk may have spoilt what the marker says
    inside = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    first = (
        {path.name for path in temporaries_of(marker)} if inside else set()
    )  # a run writes its marker before all else
    others = [name for name in inside if not name.startswith(LOCK) and name not in first]
    if held is None and not ours and others:
        raise ValueError(
            f"out={str(out)!r} holds {others[0]!r} and no run: a run would overwrite files there; give a new or an empty folder"
        )
    if held is not None and held.get("recipe") != recipe:
        raise ValueError(f"out={str(out)!r} holds a run of {held.get('recipe')}, not of {recipe}; give another folder")
    if values is not None and (out / CONFIG).is_file():
        _require_same(out, values)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / LOCK, timeout=0, is_singleton=True):
            holder = {"recipe": recipe, "command": command, "process": os.getpid(), "host": platform.node()}
            text = json.dumps(holder) + "\n"
            write_atomically(marker, lambda temporary: temporary.write_text(text, encoding="utf-8"))
            yield
    except Timeout:
        found = _read(marker) or {}
        raise ValueError(
            f"out={str(out)!r} is in use by process {found.get('process')} on {found.get('host')}; wait for it, or give "
            "another folder"
        ) from None


def command_of(run_folder: Path) -> str | None:
    """Return the command that made a run, None where it was started from Python, or by a version that did not note it."""
    command = (_read(run_folder / MARKER) or {}).get("command")
    return command if isinstance(command, str) else None


def config_text(values: Mapping[str, Any]) -> str:
    """Return what config.yaml holds."""
    return yaml.safe_dump(plain(values), sort_keys=False, allow_unicode=True)


def _require_same(out: Path, values: Mapping[str, Any]) -> None:
    """Refuse other values than those of config.yaml, each by its name; what only one of both knows is not compared."""
    try:
        then, now = read_yaml(out / CONFIG), load_yaml(config_text(values))
    except (yaml.YAMLError, UnicodeDecodeError):
        then = None
    if not isinstance(then, dict):
        raise ValueError(f"{out / CONFIG} is damaged; delete it, and run the same command again")
    shared = [name for name in now if name in then]
    found = differences({name: then[name] for name in shared}, {name: now[name] for name in shared})
    others = [
        f"{key} was {old!r} and is {new!r}"
        for key, old, new in found
        if not key.startswith(FREE) and not _one_file(old, new)
    ]
    if others:
        raise ValueError(
            f"out={str(out)!r} holds a run with other settings: {'; '.join(others)}; give another folder, or "
            "delete its config.yaml: the stages that this does not concern are kept then, and all else is overwritten"
        )


def _one_file(old: object, new: object) -> bool:
    """Return whether two texts are paths of the same file or folder, such as an absolute and a relative one."""
    try:
        return isinstance(old, str) and isinstance(new, str) and Path(old).samefile(new)
    except (OSError, ValueError):  # one of them is no path, or leads nowhere
        return False


def _read(marker: Path) -> dict[str, object] | None:
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and "recipe" in found else None
