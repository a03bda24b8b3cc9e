"""The parts of a table scored by the processes of a Ray cluster, in the place of this one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Key = TypeVar("Key")
Part = TypeVar("Part")
Found = TypeVar("Found")
TRIES = 3  # of a part whose process or machine dies


@contextmanager
def cluster(address: str | None, processors: int | None) -> Iterator[None]:
    """Inside, there is a cluster: the one that is named, one that was joined before, or one of this machine alone.

    Args:
        address: ``auto``, ``host:6379`` or ``ray://host:10001``; None starts one here, which ends with the block.
        processors: of one that is started here; all by default.

    Raises:
        ConnectionError: no cluster answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing calls home
    import ray

    if ray.is_initialized():
        yield
        return
    told: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        told |= {"address": "local", "num_cpus": processors, "include_dashboard": False}
    else:
        told["address"] = address
    try:
        ray.init(**told)
    except (ConnectionError, RuntimeError) as error:
        raise ConnectionError(f"no Ray cluster answers at {address or 'this machine'}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def scored_by_cluster(work: Callable[[Part], Found], parts: Iterable[tuple[Key, Part]]) -> Iterator[tuple[Key, Found]]:
    """Yield each part's key and result, as they come; no more parts are under way than two for each processor.

    Args:
        work: what a process of the cluster does with a part; it is sent there once.
        parts: key and part.

    Raises:
        Exception: what `work` raised, or RuntimeError where the process died again and again.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    @ray.remote(num_cpus=1, max_retries=TRIES)
    def worked(part: Part) -> Found:
        return work(part)

    most = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
    running: dict[Any, Key] = {}
    waiting = iter(parts)
    ended = False
    while running or not ended:
        while not ended and len(running) < most:
            if (following := next(waiting, None)) is None:
                ended = True
            else:
                running[worked.remote(following[1])] = following[0]
        if not running:
            return
        done, _ = ray.wait(list(running), num_returns=1)
        try:
            found = ray.get(done[0])
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            raise RuntimeError(
                f"a process of the cluster died {TRIES + 1} times over the same part: {error}"
            ) from error
        yield running.pop(done[0]), found
