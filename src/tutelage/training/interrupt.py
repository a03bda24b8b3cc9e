"""A clean stop: SIGTERM, SIGHUP and Ctrl-C end a training at the next step, after a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """Training was asked to stop, and did, with everything saved; the same call goes on from there."""


class Interrupt:
    """Whether somebody has asked to stop."""

    def __init__(self) -> None:
        self.requested = False

    def request(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Ask to stop; a signal handler. Who asks a second time does not want to wait for the step's end.

        Raises:
            KeyboardInterrupt: the second request.
        """
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def stoppable() -> Iterator[Interrupt]:
    """Inside, SIGTERM, SIGINT and SIGHUP (unless it is ignored, as under nohup) only set a flag.

    Signals reach the main thread alone; elsewhere this changes nothing.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    numbers = [signal.SIGTERM, signal.SIGINT]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = [signal.signal(number, interrupt.request) for number in numbers]
    try:
        yield interrupt
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
