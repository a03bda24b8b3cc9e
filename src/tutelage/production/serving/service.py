"""One request from its body to its answer: admitted, decoded, scored, decided once."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from tutelage.decoding import UnreadableImage
from tutelage.hardware import available_cpus
from tutelage.production.answers import NOT_FINITE, Answer
from tutelage.production.decisions import Decision
from tutelage.production.serving.batcher import Batcher
from tutelage.production.serving.deployment import Deployment, Live
from tutelage.production.serving.held import Held
from tutelage.production.serving.reading import Example
from tutelage.production.serving.refusals import Refused, unreadable
from tutelage.production.serving.settings import ServiceSettings
from tutelage.production.serving.telemetry import Telemetry
from tutelage.production.variants import assign, shadows

logger = logging.getLogger("tutelage.serving")
_LOGGED_AT_ONCE = 256
_REMEMBERED = 64  # times of recent answers, from which it is said when to come again


class Log(Protocol):
    """Where decisions go; `production.decisions.DecisionLog` is one."""

    def record_all(self, given: Iterable[Decision]) -> list[Decision]:
        """Record decisions once each; return those that stand."""

    def close(self) -> None:
        """Give back what is held."""


class Service:
    """Scores ads by the variant that each is assigned to, and logs each decision before it is answered.

    Args:
        folders: exported models by variant.
        weights: of the variants, see `assign`; one of weight 0 scores every ad and decides none.
        settings: sizes and times.

    Attributes:
        held: the bodies in memory.
        log: where decisions about ads with a name go; nowhere if None. It is set before the service runs, and closed by it.

    Raises:
        FileNotFoundError, ValueError: see `Deployment` and `assign`.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        weights: Mapping[str, float],
        settings: ServiceSettings,
    ) -> None:
        if set(folders) != set(weights):
            raise ValueError(f"weights name {sorted(weights)}, and the variants are {sorted(folders)}")
        assign("", weights)  # refuses what cannot be
        self.settings = settings
        self.weights = dict(weights)
        self.telemetry = Telemetry()
        self.log: Log | None = None
        self._models = ThreadPoolExecutor(1, "model")
        self._decoders = ThreadPoolExecutor(available_cpus(), "decode")
        self._writer = ThreadPoolExecutor(1, "log")
        self.deployment = Deployment(
            folders, self._models, settings.batch, settings.wait, settings.threads, self.telemetry
        )
        self.default = max(self.weights, key=lambda name: self.weights[name])
        self.held = Held(settings.max_held)
        self.running = 0
        self.draining = False
        self._answered: deque[float] = deque(maxlen=_REMEMBERED)
        self._shadowing: set[asyncio.Task[None]] = set()
        self._record: Batcher[Decision, Decision] | None = None

    @asynccontextmanager
    async def running_service(self) -> AsyncIterator[None]:
        """Inside, requests are answered; on the way out every one that was admitted is."""
        await self.deployment.start()
        if self.log is not None:
            self._record = Batcher(self.log.record_all, self._writer, _LOGGED_AT_ONCE, 0.0)
        try:
            yield
        finally:
            self.draining = True
            await asyncio.gather(*self._shadowing)
            await self.deployment.close()
            if self._record is not None:
                await self._record.close()
            for executor in (self._models, self._decoders, self._writer):
                executor.shutdown()
            if self.log is not None:
                self.log.close()

    @asynccontextmanager
    async def admitted(self, examples: int = 1) -> AsyncIterator[None]:
        """Inside, so many examples count as running.

        Raises:
            Refused: 429, the queue is full.
        """
        if self.running + examples > self.settings.queue and self.running:
            raise Refused(
                429,
                "overloaded",
                f"{self.running} requests are being scored; come again later",
                retry_after=str(self.come_again()),
            )
        self.running += examples
        self.telemetry.running.set(self.running)
        try:
            yield
        finally:
            self.running -= examples
            self.telemetry.running.set(self.running)
            self._answered.append(asyncio.get_running_loop().time())

    def come_again(self) -> int:
        """Return in how many seconds a full queue is answered, at the pace of the last answers; at least 1."""
        if len(self._answered) < 2:
            return 1
        pace = (self._answered[-1] - self._answered[0]) / (len(self._answered) - 1)
        return min(60, max(1, math.ceil(pace * self.running)))

    async def answer(self, example: Example, variant: str | None = None) -> dict[str, Any]:
        """Return the answer for one example, with the variant and version that gave it.

        An ad with a name gets the decision that stands: the first that was recorded for it and the version.

        Raises:
            Refused: the image is unreadable, there are other features than the model reads, the decision cannot be recorded, or
                the name's decision is about other content.
        """
        named = example.id is not None and variant is None
        chosen = variant or (assign(str(example.id), self.weights) if named else self.default)
        with self.deployment.live[chosen] as live:
            found = await self._scored(live, example)
            version = live.model.version
        if named and self._record is not None and "decision" in found:
            stands = await self._recorded(self._record, example, found, version, chosen)
            found = {**found, "score": stands.score, "decision": stands.decision, "subtask": stands.subtask}
        if named:  # only now, so that no variant looks on at what is refused
            for name in shadows(self.weights):
                self._look_on(name, example)
        self._tell(chosen, found, shadow=False)
        return {"id": example.id, "variant": chosen, "model_version": version, **found}

    async def _scored(self, live: Live, example: Example) -> Answer:
        prepare = partial(live.model.prepare, example.content, self.settings.limits)
        try:
            prepared = await asyncio.get_running_loop().run_in_executor(self._decoders, prepare)
        except UnreadableImage as error:
            raise unreadable(error) from None
        except ValueError as error:
            raise Refused(422, "features", str(error)) from None
        found = dict(await live.score(prepared))
        if not found:
            raise Refused(422, live.model.kind, NOT_FINITE)
        return found

    async def _recorded(
        self,
        record: Batcher[Decision, Decision],
        example: Example,
        found: Answer,
        version: str,
        variant: str,
        shadow: bool = False,
    ) -> Decision:
        decision = Decision(
            str(example.id),
            version,
            found["score"],
            found["decision"],
            variant,
            shadow,
            impressions=example.impressions,
            image=example.path,
            headline=example.headline,
            subtask=found.get("subtask"),
            content=await asyncio.get_running_loop().run_in_executor(self._decoders, example.digest),
        )
        try:
            stands = await record(decision)
        except ConnectionError as error:
            logger.error("decisions cannot be logged: %s", error)
            raise Refused(
                503,
                "log_unavailable",
                "the decision could not be logged, so none is given; come again",
                retry_after="5",
            ) from None
        if stands.content != decision.content:
            what = "other content" if stands.content else "content that was not noted"
            raise Refused(
                409,
                "other_content",
                f"id {example.id!r:.200} is that of an ad with {what}, about which this version has decided; this is "
                "another ad: send it with an id of its own",
            )
        return stands

    def _look_on(self, variant: str, example: Example) -> None:
        """Score an ad by a variant that decides nothing; under load, or where that fails, it is left out and counted."""
        if self.running > self.settings.queue // 2 or len(self._shadowing) > self.settings.queue:
            self.telemetry.shadowless.inc()
            return
        task = asyncio.create_task(self._shadow(variant, example))
        self._shadowing.add(task)
        task.add_done_callback(self._shadowing.discard)

    async def _shadow(self, variant: str, example: Example) -> None:
        try:
            with self.deployment.live[variant] as live:
                found = await self._scored(live, example)
                version = live.model.version
            if self._record is not None and "decision" in found:
                await self._recorded(self._record, example, found, version, variant, shadow=True)
            self._tell(variant, found, shadow=True)
        except Refused:
            self.telemetry.shadowless.inc()
        except Exception:
            logger.exception("variant %s could not look on", variant)
            self.telemetry.shadowless.inc()

    def _tell(self, variant: str, found: Answer, shadow: bool) -> None:
        if "decision" in found:
            self.telemetry.scores.labels(variant).observe(found["score"])
            self.telemetry.decisions.labels(variant, found["decision"], str(shadow).lower()).inc()
