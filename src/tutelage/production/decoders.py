"""Processes that decode images: what a hostile file does to one of them, it does to no other."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.decoding import Limits, UnreadableImage, decode, locate, read_bytes

Decoded = NDArray[np.uint8] | tuple[str, str]
"""An image's pixels, (3, size, size), or the reason why there are none, and a sentence about it."""
_AT_ONCE = 16


class Decoders:
    """A pool of processes, without PyTorch, that decode files under a folder.

    Args:
        root: the folder; a path that leads out of it is refused.
        size: side of the images in pixels.
        processes: how many.
        limits: what a file may be.
    """

    def __init__(self, root: Path, size: int, processes: int, limits: Limits | None = None) -> None:
        self._given = (root, size, limits or Limits())
        self._processes = processes
        self._pool = self._started()

    def _started(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("forkserver")
        return ProcessPoolExecutor(self._processes, context, initializer=_leave_with_parent)

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, paths: Sequence[str]) -> Iterator[Decoded]:
        """Yield each image in order; no more are held than a few for each process."""
        chunks = deque(paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE))
        running: deque[tuple[Sequence[str], Future[list[Decoded]]]] = deque()
        while chunks or running:
            while chunks and len(running) < 2 * self._processes:
                chunk = chunks.popleft()
                running.append((chunk, self._submit(chunk)))
            chunk, future = running.popleft()
            try:
                found: Iterable[Decoded] = future.result()
            except BrokenProcessPool:
                found = [self._alone(path) for path in chunk]
                running = deque((each, self._submit(each)) for each, _ in running)
            yield from found

    def _submit(self, chunk: Sequence[str]) -> Future[Any]:
        try:
            return self._pool.submit(decoded, *self._given, list(chunk))
        except BrokenProcessPool:
            self._pool = self._started()
            return self._pool.submit(decoded, *self._given, list(chunk))

    def _alone(self, path: str) -> Decoded:
        """Decode one image of a chunk in which a process died."""
        try:
            return self._submit([path]).result()[0]
        except BrokenProcessPool:
            return "crashed", "the process that decoded it died"


def _leave_with_parent() -> None:
    """Let this process end when the one that started the pool is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def decoded(root: Path, size: int, limits: Limits, paths: list[str]) -> list[Decoded]:
    """Return the images, or why there are none."""
    found: list[Decoded] = []
    for path in paths:
        try:
            found.append(decode(read_bytes(locate(root, path), limits), size, limits))
        except UnreadableImage as error:
            found.append((error.reason, error.detail))
    return found
