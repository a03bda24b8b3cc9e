"""Checkpoints that a kill at any moment cannot spoil."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch

CURRENT, PREVIOUS = "checkpoint.pt", "checkpoint-previous.pt"


class DamagedCheckpoint(UserWarning):
    """A checkpoint could not be read and the one before it is used."""


def write_atomically(path: Path, write: Any) -> None:
    """Call ``write(temporary_path)``, flush it to the disk, then put it in the place of ``path`` in one step."""
    for unfinished in path.parent.glob(f".{path.name}.*"):  # of a process that was killed while it wrote
        unfinished.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write the state, keeping the checkpoint before it; both are complete at any moment.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old checkpoint is still there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    current = folder / CURRENT

    def write(temporary: Path) -> None:
        torch.save(state, temporary)
        if current.exists():
            os.replace(current, folder / PREVIOUS)

    write_atomically(current, write)


def load(folder: Path) -> dict[str, Any] | None:
    """Return the newest state that reads back whole, or None if there is no checkpoint.

    Raises:
        RuntimeError: checkpoints exist and none can be read.
    """
    failures = []
    for name in (CURRENT, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file fails in many ways: zip, pickle, end of file
            failures.append(f"{path}: {error}")
            continue
        if failures:
            warnings.warn(f"going on from {path}, since {failures[0]}", DamagedCheckpoint, stacklevel=2)
        return state
    if failures:
        raise RuntimeError(f"no checkpoint can be read ({'; '.join(failures)}); delete {folder} to start anew")
    return None


def remove(folder: Path) -> None:
    """Delete the checkpoints of a training that has ended."""
    for name in (CURRENT, PREVIOUS):
        (folder / name).unlink(missing_ok=True)
