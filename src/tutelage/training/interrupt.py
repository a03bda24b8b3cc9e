"""A clean stop: SIGTERM, SIGHUP and Ctrl-C end a training at the next step, after a checkpoint."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

from tutelage.distributed import is_distributed

PATIENCE = 20.0


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

    Signals reach the main thread alone; elsewhere this changes nothing. A process that waits for another one cannot see the
    flag; it ends `PATIENCE` seconds after the signal, before a scheduler kills it, and the last checkpoint is kept.
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
        with _impatient(numbers) if is_distributed() else nullcontext():
            yield interrupt
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _impatient(numbers: list[signal.Signals]) -> Iterator[None]:
    """Inside, a thread hears the signals, too, also while the main one is in an exchange that does not end."""
    hears, told = socket.socketpair()
    told.setblocking(False)
    over = threading.Event()

    def watch() -> None:
        while (heard := hears.recv(1)) and heard[0] not in numbers:
            pass
        if heard and not over.wait(PATIENCE):
            os.write(
                2, b"stopped while it waited for another process; run it again to go on from the last checkpoint\n"
            )
            os._exit(128 + heard[0])

    thread = threading.Thread(target=watch, daemon=True)
    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    thread.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        told.close()
        thread.join()
        hears.close()
