"""Processes of a test that can be killed, and that end with it whatever happens."""

import faulthandler
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from typing import Any

import torch
import torch.distributed as dist

PATIENCE = 240.0  # seconds; a busy machine is no failure
FORKSERVER = multiprocessing.get_context("forkserver")
# What a first optimiser step would import, and what runs the tests, so that a process starts in no time.
FORKSERVER.set_forkserver_preload(["tutelage.training", "tutelage.data", "torch._dynamo", "pytest"])


def started(work: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Start a process that can be killed without harm to the tests'."""
    process = FORKSERVER.Process(target=_alone, args=(work, arguments))
    process.start()
    return process


def ranked(world: int, work: Callable[..., None], *arguments: Any) -> list[ForkServerProcess]:
    """Start ``work(rank, ...)`` in that many processes, with the environment that torchrun would give them."""
    port = free_port()
    return [started(_ranked, rank, world, port, work, arguments) for rank in range(world)]


def together(world: int, work: Callable[..., None], *arguments: Any) -> None:
    """Run ``work(rank, ...)`` in that many processes and wait for them; none of them is left behind."""
    processes = ranked(world, work, *arguments)
    try:
        for process in processes:
            process.join(PATIENCE)
        codes = [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * world, codes


@contextmanager
def group() -> Iterator[None]:
    """Be one of the processes of `ranked`, in a gloo group.

    The group is left to the end of the process: destroyed right after an exchange it hangs about once in fifty times,
    since its destructor waits, with the interpreter's lock, for a thread that needs that lock to drop the exchange.
    """
    dist.init_process_group("gloo", timeout=timedelta(seconds=PATIENCE / 2))
    yield
    dist.barrier()  # nobody goes while another one still reads


def free_port() -> int:
    """Return a port of this host on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _alone(work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(PATIENCE - 20)  # where it hangs, before it is killed
    work(*arguments)


def _ranked(rank: int, world: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), **address)
    work(rank, *arguments)
