"""How many bytes of bodies a service holds at once, whoever sends them, and however slowly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Held:
    """The bytes of all bodies that are in memory.

    Args:
        most: how many there may be.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.bytes = 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Inside, a request may take its share, which is given back on the way out."""
        share = Share(self)
        try:
            yield share
        finally:
            share.give_back()


class Share:
    """What one request holds."""

    def __init__(self, whole: Held) -> None:
        self._whole = whole
        self._bytes = 0

    def take(self, count: int) -> bool:
        """Take so many bytes more, or return that there are none left."""
        if self._whole.bytes + count > self._whole.most:
            return False
        self._whole.bytes += count
        self._bytes += count
        return True

    def give_back(self) -> None:
        """Give all back."""
        self._whole.bytes -= self._bytes
        self._bytes = 0
