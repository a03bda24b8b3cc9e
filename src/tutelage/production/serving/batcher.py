"""Many requests, one call: what arrives close together is worked on together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Given = TypeVar("Given")
Found = TypeVar("Found")


class Batcher(Generic[Given, Found]):
    """Gathers what is given by coroutines of one event loop, and works on it in a thread.

    A batch begins as soon as the last one has ended and either `most` are there or the first has waited for `patience`; under
    load nobody waits, since the next batch gathers while the last one is worked on.

    Args:
        work: from a batch to as many results, in its order; it is called in the executor, one batch at a time.
        executor: where.
        most: the largest batch.
        patience: how long the first of a batch waits for others, in seconds.
        told: called with the size of each batch.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Given]], Sequence[Found]],
        executor: Executor,
        most: int,
        patience: float,
        told: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._work = work
        self._executor = executor
        self._most = most
        self._patience = patience
        self._told = told
        self._waiting: deque[tuple[Given, asyncio.Future[Found], float]] = deque()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._run())

    async def __call__(self, given: Given) -> Found:
        """Return the result for one thing; what goes wrong with its batch is raised."""
        if self._closing:
            raise RuntimeError("the batcher is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Found] = loop.create_future()
        self._waiting.append((given, future, loop.time()))
        self._arrived.set()
        if len(self._waiting) >= self._most:
            self._full.set()
        return await future

    async def close(self) -> None:
        """Return when all that was given is answered; nothing more can be given."""
        self._closing = True
        self._arrived.set()
        await self._task

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            if not self._waiting:
                return  # closing
            left = self._waiting[0][2] + self._patience - loop.time()
            if len(self._waiting) < self._most and left > 0 and not self._closing:
                self._full.clear()
                try:
                    async with asyncio.timeout(left):
                        await self._full.wait()
                except TimeoutError:
                    pass
            batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            if not self._waiting and not self._closing:
                self._arrived.clear()
            batch = [each for each in batch if not each[1].cancelled()]
            if batch:
                await self._answer(batch)

    async def _answer(self, batch: list[tuple[Given, asyncio.Future[Found], float]]) -> None:
        self._told(len(batch))
        try:
            given = [each for each, _, _ in batch]
            found = await asyncio.get_running_loop().run_in_executor(self._executor, self._work, given)
        except Exception as error:
            for _, future, _ in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future, _), each in zip(batch, found, strict=True):
            if not future.done():
                future.set_result(each)
