"""Checkpoints that a kill at any moment cannot spoil."""

from __future__ import annotations

import os
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from tutelage.files import write_atomically

CURRENT, PREVIOUS = "checkpoint.pt", "checkpoint-previous.pt"


class DamagedCheckpoint(UserWarning):
    """A checkpoint could not be read and the one before it is used."""


def due(saved: float, seconds: float) -> bool:
    """Return whether a checkpoint made at ``saved``, by the monotonic clock, is that old."""
    return time.monotonic() - saved >= seconds


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write the state, keeping the checkpoint before it; both are complete at any moment.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old checkpoint is still there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    current = folder / CURRENT

    def write(temporary: Path) -> None:
        try:
            with open(temporary, "wb") as file:
                torch.save(state, file)
        except RuntimeError as error:  # of the archive, whose end could not be written either
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
        if current.exists():
            os.replace(current, folder / PREVIOUS)

    write_atomically(current, write)


def load(folder: Path) -> dict[str, Any] | None:
    """Return the newest state that reads back whole, every byte by its checksum, or None if there is no checkpoint.

    Raises:
        ValueError: checkpoints exist and none can be read.
    """
    failures = []
    for name in (CURRENT, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():
                    raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file fails in many ways: zip, pickle, end of file
            failures.append(f"{path}: {error}")
            continue
        if failures:
            warnings.warn(f"going on from {path}, since {failures[0]}", DamagedCheckpoint, stacklevel=2)
        return state
    if failures:
        raise ValueError(f"no checkpoint can be read ({'; '.join(failures)}); delete {folder} to start anew")
    return None


def remove(folder: Path) -> None:
    """Delete the checkpoints of a training that has ended."""
    for name in (CURRENT, PREVIOUS):
        (folder / name).unlink(missing_ok=True)
