"""Processes that wait for one another: folders that only some see, one that stalls, and a signal meanwhile."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import runs

import processes
from tutelage import distributed
from tutelage.signals import CrossEntropy
from tutelage.training import Hardware, Log, Stages, interrupt
from tutelage.weighting import Equal

WORLD = 2


def training(out: Path, jitter: runs.Jitter, **changed: Any) -> None:
    runs.whole_training(out, jitter=jitter, signals=[CrossEntropy()], weighting=Equal(), held_out=None, **changed)


def ends(work: Any, *arguments: Any) -> list[int | None]:
    """Return the exit codes of processes that do the same work."""
    started = processes.ranked(WORLD, work, *arguments)
    for process in started:
        process.join(processes.PATIENCE)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    return codes


def without_shared_files(rank: int, out: Path) -> None:
    distributed.SEEN_WITHIN = 0.2
    distributed.join()
    message = (
        rf"{rank}: process 1 on .* does not see what the first process writes there; give a folder on a file system"
    )
    for attempt in (
        lambda: Stages(out / str(rank), Log(None)),
        lambda: runs.whole_training(out / f"fit {rank}", model=runs.network()),
    ):
        with pytest.raises(ValueError, match=message):
            attempt()
    Stages(out / "both", Log(None))
    distributed.barrier()
    assert list((out / "both").iterdir()) == []


def test_a_folder_that_a_process_does_not_see_is_refused_at_the_start_by_all(tmp_path: Path) -> None:
    assert ends(without_shared_files, tmp_path) == [0, 0]


def stalls(rank: int, out: Path) -> None:
    """The second process comes to no end of its third step."""
    distributed.ANSWERED_WITHIN = 0.5
    jitter = runs.Jitter(at=2, happens=lambda: time.sleep(8) or os._exit(7)) if rank else runs.Jitter()
    with pytest.raises(ConnectionError, match=r"process 0 of 2 waited in vain for process 1, which has died, stalled"):
        training(out, jitter, hardware=Hardware(patience=2.0))


def test_a_process_that_stalls_is_named(tmp_path: Path) -> None:
    assert ends(stalls, tmp_path) == [0, 7]


def dies(rank: int, out: Path) -> None:
    distributed.ANSWERED_WITHIN = 0.5
    jitter = runs.Jitter(at=2, happens=lambda: os._exit(7)) if rank else runs.Jitter()
    with pytest.raises(ConnectionError, match=r"process 0 of 2 waited in vain for process 1"):
        training(out, jitter)


def test_a_process_that_dies_is_named(tmp_path: Path) -> None:
    assert ends(dies, tmp_path) == [0, 7]


def terminated(rank: int, out: Path) -> None:
    """The signal reaches the first process while it waits for the second, which sleeps."""
    interrupt.PATIENCE = 0.3

    def slept() -> None:
        (out / "waits").touch()
        time.sleep(6)
        os._exit(7)

    def send() -> None:
        while not (out / "waits").exists():
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    if rank == 0:
        threading.Thread(target=send, daemon=True).start()
    training(out / "run", runs.Jitter(at=2, happens=slept) if rank else runs.Jitter())


def test_a_signal_ends_a_process_that_waits(tmp_path: Path) -> None:
    assert ends(terminated, tmp_path) == [128 + signal.SIGTERM, 7]
