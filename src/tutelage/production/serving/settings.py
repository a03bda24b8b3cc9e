"""Settings of the service."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.checks import check
from tutelage.decoding import Limits


@dataclass(frozen=True)
class ServiceSettings:
    """How a service works.

    Args:
        batch: Largest batch.
        wait: Seconds that the first request of a batch waits for others.
        queue: Requests that may be in progress or waiting at once; more are answered 429.
        threads: Processors for one batch; all by default.
        max_bytes: Largest body in bytes.
        max_held: Bytes of all bodies that are held at once, also of those that still arrive; more are answered 429.
        max_pixels: Largest image in pixels.
        patience: Seconds within which a request's headers, and then its body, must arrive.
        drain: Seconds that requests have to finish after SIGTERM.
    """

    batch: int = 16
    wait: float = 0.005
    queue: int = 64
    threads: int | None = None
    max_bytes: int = 12 * 2**20
    max_held: int = 256 * 2**20
    max_pixels: int = 25_000_000
    patience: float = 10.0
    drain: float = 30.0

    def __post_init__(self) -> None:
        """Check the values."""
        counts = dict.fromkeys(("batch", "queue", "threads", "max_bytes", "max_held", "max_pixels"), "[1, inf)")
        check(self, "service", wait="[0, 10]", patience="(0, 3600]", drain="[0, 3600]", **counts)
        if self.max_held < self.max_bytes:
            raise ValueError(
                f"service.max_held={self.max_held} is less than service.max_bytes={self.max_bytes}, one body; give "
                "at least that"
            )

    @property
    def limits(self) -> Limits:
        """What an image may be."""
        return Limits(max_bytes=self.max_bytes, max_pixels=self.max_pixels)
