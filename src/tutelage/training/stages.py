"""A run is a folder of named stages; a finished stage is not run again unless what it depends on has changed."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.configured import plain
from tutelage.data.fingerprint import fingerprint, hashing_once
from tutelage.distributed import barrier, is_main_process, require_shared
from tutelage.files import flush, write_atomically
from tutelage.training import checkpoint, source
from tutelage.training.log import Log

DONE, STARTED = "done.json", "started.json"
_NO_RESULTS = (DONE, STARTED, checkpoint.CURRENT, checkpoint.PREVIOUS, "log.jsonl")


@dataclass(frozen=True)
class Stage:
    """A finished stage.

    Attributes:
        folder: what its work has written.
        facts: the plain values that its work returned.
    """

    folder: Path
    facts: dict[str, Any]


class Stages:
    """The stages of one run.

    Each stage writes into a folder of its own and returns plain facts. Its key covers what it depends on, the keys of the
    stages that it names, and the code (`source.version_of`), so that a change runs it and all that follows from it anew. An
    unfinished stage whose key is the same finds its folder again and goes on from its checkpoints, which go when it is done.
    A stage is done when its files are on the disk; their checksums are kept, and a file that was damaged since is not used.

    Several processes run a stage together: each calls ``work`` with the same folder, computes the same and writes the same; the
    first one keeps the keys, and none goes on before all are done.

    Args:
        folder: the run's folder.
        log: where starts and ends are told.

    Raises:
        ValueError: the processes are on hosts that share no file system.
    """

    def __init__(self, folder: Path, log: Log) -> None:
        require_shared(folder)
        self.folder = folder
        self.log = log
        self.keys: dict[str, str] = {}

    def run(
        self, name: str, work: Callable[[Path], dict[str, Any]], *, cache_key: Any, after: Sequence[str] = ()
    ) -> Stage:
        """Run ``work(folder)`` unless it is done, and return its folder and its facts.

        Args:
            name: the stage, and its folder under the run's.
            work: does the work in the folder that it is given; what it returns must be plain values.
            cache_key: everything that the result depends on besides the code and the stages before it.
            after: the stages whose results it uses; they must have been run.

        Raises:
            ValueError: a file of the finished stage is damaged.
        """
        key = fingerprint(name, cache_key, source.version_of(work), [self.keys[before] for before in after])
        self.keys[name] = key
        folder = self.folder / "stages" / name
        barrier()  # with the keys as the stages before left them
        if (done := _read(folder / DONE)) is not None and done["fingerprint"] == key:
            _verify(folder, done["files"])
            self.log.event("stage kept", stage=name)
            return Stage(folder, done["facts"])
        barrier()
        if is_main_process():
            _begin(folder, key)
        barrier()
        self.log.event("stage started", stage=name)
        with hashing_once():  # the stage's trainings see the same images
            facts = plain(work(folder))
        barrier()
        if is_main_process():
            results = sorted(path for path in folder.rglob("*") if path.name not in _NO_RESULTS)
            for path in results:
                flush(path)
            files = {path.relative_to(folder).as_posix(): _checksum(path) for path in results if path.is_file()}
            _write(folder / DONE, {"fingerprint": key, "facts": facts, "files": files})
            for inside in (folder, *(path for path in folder.iterdir() if path.is_dir())):
                checkpoint.remove(inside)
        self.log.event("stage done", stage=name, **{k: v for k, v in facts.items() if isinstance(v, int | float | str)})
        return Stage(folder, facts)


def _begin(folder: Path, key: str) -> None:
    """Clear the folder of other work, and mark it as begun."""
    started = _read(folder / STARTED)
    if folder.exists() and (started is None or started["fingerprint"] != key):
        for marker in (DONE, STARTED):  # first, so that a kill in the middle leaves nothing that looks whole
            (folder / marker).unlink(missing_ok=True)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / STARTED, {"fingerprint": key})


def _checksum(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            value = zlib.crc32(part, value)
    return value


def _verify(folder: Path, files: dict[str, int]) -> None:
    for name, value in files.items():
        path = folder / name
        if not path.is_file() or _checksum(path) != value:
            state = "is damaged: it is not as the stage left it" if path.is_file() else "is gone"
            raise ValueError(f"{path} {state}; delete {folder}, and run the same command again to make it anew")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # cut short, or zeros where a disk lost power
        return None
    return found if isinstance(found, dict) and "fingerprint" in found else None


def _write(path: Path, value: dict[str, Any]) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(value, indent=1), encoding="utf-8"))
