"""The models that serve, each under its variant's name, and how a new version takes the place of an old one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.production.answers import Answer
from tutelage.production.card import NAME
from tutelage.production.exported import ExportedModel
from tutelage.production.serving.batcher import Batcher
from tutelage.production.serving.telemetry import Telemetry

logger = logging.getLogger("tutelage.serving")
WATCHED_EVERY = 1.0  # seconds
LONGEST_PAUSE = (
    300.0  # before a version that could not be loaded is tried again: its files may not all have been copied yet
)


class Live:
    """One version of one variant, and its queue."""

    def __init__(self, model: ExportedModel, executor: Executor, batch: int, patience: float, told: Telemetry) -> None:
        self.model = model
        self.score: Batcher[NDArray[Any], Answer] = Batcher(
            self._work, executor, batch, patience, told=told.batches.observe
        )

        self._users = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def _work(self, prepared: Any) -> list[Answer]:
        return self.model.answer(np.stack(prepared))

    def __enter__(self) -> Live:
        """Keep this version until its request is answered."""
        self._users += 1
        self._idle.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if not self._users:
            self._idle.set()

    async def close(self) -> None:
        """Return when every request that uses this version is answered."""
        await self._idle.wait()
        await self.score.close()


class Deployment:
    """Variants by name; the folder of each is watched, and a new export there is served without a dropped request.

    A request is scored by the version that was current when it was prepared. The old version answers what it was given, and
    then goes. A new version that cannot be loaded is told in the log, counted, and tried again; the old one stays.

    Args:
        folders: by variant.
        executor: where models run, one batch at a time.
        batch, patience: see `Batcher`.
        threads: processors for one batch.
        telemetry: what is told of versions.

    Raises:
        FileNotFoundError, ValueError: see `ExportedModel`; variants that take different things.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        executor: Executor,
        batch: int,
        patience: float,
        threads: int | None,
        telemetry: Telemetry,
    ) -> None:
        self.folders = dict(folders)
        self._executor = executor
        self._batch = batch
        self._patience = patience
        self._threads = threads
        self._telemetry = telemetry
        self._seen = {name: _mark(folder) for name, folder in self.folders.items()}
        self._failed: dict[str, tuple[Any, float, float]] = {}  # mark, when it is tried again, and the pause after that
        self._loaded = {name: ExportedModel(folder, threads) for name, folder in self.folders.items()}
        kinds = {model.kind for model in self._loaded.values()}
        if len(kinds) > 1:
            raise ValueError(f"the variants take {' and '.join(sorted(kinds))}; all must take the same")
        self.kind = kinds.pop()
        self.live: dict[str, Live] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to serve, and to watch the folders."""
        for name, model in self._loaded.items():
            self._put(name, model)
        self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Return when everything that was given is answered."""
        if self._watcher is not None:
            self._watcher.cancel()
        await asyncio.gather(*(live.close() for live in self.live.values()), *self._closing)

    def _put(self, name: str, model: ExportedModel) -> None:
        old = self.live.get(name)
        self.live[name] = Live(model, self._executor, self._batch, self._patience, self._telemetry)
        self._telemetry.model.labels(name, model.version).set(1)
        if old is not None:
            self._telemetry.model.remove(name, old.model.version)
            closing = asyncio.create_task(old.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCHED_EVERY)
            for name, folder in self.folders.items():
                mark = _mark(folder)
                if mark is None or mark == self._seen[name]:
                    continue
                failed, due, pause = self._failed.get(name, (None, 0.0, 0.0))
                if mark == failed and due > asyncio.get_running_loop().time():
                    continue
                try:
                    model = await asyncio.to_thread(self._load, folder)
                except Exception as error:  # whatever is wrong with a folder, the old version serves on
                    pause = min(2 * pause, LONGEST_PAUSE) if mark == failed else WATCHED_EVERY
                    self._failed[name] = mark, asyncio.get_running_loop().time() + pause, pause
                    if mark != failed:
                        logger.error("variant %s: the new version in %s is not served: %s", name, folder, error)
                        self._telemetry.failures.labels(name).inc()
                    continue
                self._seen[name] = mark
                if model.version != self.live[name].model.version:
                    logger.info(
                        "variant %s: version %s in the place of %s", name, model.version, self.live[name].model.version
                    )
                    self._put(name, model)

    def _load(self, folder: Path) -> ExportedModel:
        model = ExportedModel(folder, self._threads)
        if model.kind != self.kind:
            raise ValueError(f"it takes {model.kind}, and this service takes {self.kind}")
        model.warm_up(self._batch)
        return model


def _mark(folder: Path) -> tuple[int, int, int] | None:
    try:
        status = (folder / NAME).stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
