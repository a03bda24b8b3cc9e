"""What the processes of a data-parallel run tell each other; every function does nothing where there is one process.

Data parallelism is done by hand: gradients after the backward pass, buffers after the step, and nothing inside the model.
DistributedDataParallel exchanges within the model's passes, so that a process with an example that is not finite, which
runs another number of passes than the rest, would leave the others waiting. Here each step exchanges at the same places,
whatever a process has met. (`JointBatchNorm` does exchange inside; an `Objective` with it agrees on every pass.)
"""

from __future__ import annotations

import platform
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tutelage.hardware import precise

SEEN_WITHIN = 10.0  # seconds in which a file of the main process is seen by the others
ANSWERED_WITHIN = 3.0  # seconds in which those say so who wait, too


def join(patience: float = 1800.0) -> bool:
    """Join the processes that torchrun or accelerate started with this one, if they did; return `is_main_process`.

    A recipe is the same program in all processes: trainings share their batches, predictions are shared out, whatever else is
    computed is computed by each, and the main process writes.

    Args:
        patience: seconds that a process waits for the others; the first call counts.
    """
    from accelerate import PartialState

    PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(seconds=patience))
    return is_main_process()


def require_shared(folder: Path) -> None:
    """Refuse, in all processes, a folder in which not all of them see what the main process writes.

    Raises:
        ValueError: they are on several hosts, without a file system that is shared.
    """
    if not is_distributed():
        return
    token = [uuid.uuid4().hex]
    dist.broadcast_object_list(token, 0)
    mark = folder / f".shared-{token[0]}"
    if is_main_process():
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    barrier()
    until = time.monotonic() + SEEN_WITHIN
    while not mark.exists() and time.monotonic() < until:
        time.sleep(0.05)
    blind: list[Any] = [None] * rank_world()[1]
    dist.all_gather_object(blind, None if mark.exists() else f"process {rank_world()[0]} on {platform.node()}")
    if is_main_process():
        mark.unlink(missing_ok=True)
    if found := ", ".join(filter(None, blind)):
        raise ValueError(
            f"out={folder}: {found} does not see what the first process writes there; give a folder on a file system that "
            "all hosts share"
        )


@contextmanager
def naming_absent() -> Iterator[None]:
    """Let the error of an exchange that failed name the processes that did not come to it.

    Raises:
        ConnectionError: in the place of the library's error, which does not say who.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_distributed() or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        rank, world = rank_world()
        try:
            store: Any = dist.distributed_c10d._get_default_store()
            store.set(f"waiting {rank}", "")
            time.sleep(ANSWERED_WITHIN)
            absent = [other for other in range(world) if not store.check([f"waiting {other}"])]
        except RuntimeError:  # the main process keeps the store
            absent = [0]
        raise ConnectionError(
            f"process {rank} of {world} waited in vain for process {', '.join(map(str, absent)) or 'none'}, which has died, "
            f"stalled or met an error of its own ({str(error).splitlines()[0]})"
        ) from error


def is_distributed() -> bool:
    """Return whether there is more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank_world() -> tuple[int, int]:
    """Return this process's rank and the number of processes."""
    return (dist.get_rank(), dist.get_world_size()) if is_distributed() else (0, 1)


def is_main_process() -> bool:
    """Return whether this process has rank 0."""
    return rank_world()[0] == 0


def barrier() -> None:
    """Wait until all processes are here."""
    if is_distributed():
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def all_reduce_sum(values: Tensor, device: torch.device | None = None) -> Tensor:
    """Return the sum of a tensor over all processes, where the tensor is.

    Args:
        values: one tensor of the same shape and type in each process.
        device: where the processes exchange; the tensor's own device by default.
    """
    if not is_distributed():
        return values
    device = values.device if device is None else device
    message = values.to(device, precise(device) if values.dtype == torch.float64 else values.dtype, copy=True)
    dist.all_reduce(message)
    return message.to(values)


def mean_over_processes(
    sums: Mapping[str, Tensor], count: int, parameters: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], int]:
    """Return (sum of sums) / (sum of counts) and the latter, over all processes, in one exchange.

    Args:
        sums: for each name that this process knows something of, a sum over its own examples.
        count: how many examples that were, below 2^24.
        parameters: every name that may occur in any process, with a tensor of its shape and type, in the same order everywhere.
    """
    if is_distributed():
        known = torch.tensor([*(name in sums for name in parameters), count])
        *summed, told = _summed(
            [*(sums.get(name, torch.zeros_like(like)) for name, like in parameters.items()), known.float()]
        )
        *processes, examples = told.tolist()
        count = int(examples)
        sums = {name: total for name, total, told in zip(parameters, summed, processes, strict=True) if told}
    return {name: value / max(count, 1) for name, value in sums.items()}, count


@torch.no_grad()
def end_step(trained: nn.Module, buffers: Iterable[Tensor], *own: bool) -> list[bool]:
    """Make each ``.grad`` the mean over the processes and each buffer the main process's, in one exchange.

    A gradient that no process has stays None.

    Returns:
        Of each of ``own`` whether any process says so.
    """
    if not is_distributed():
        return list(own)
    parameters, buffers = [p for p in trained.parameters() if p.requires_grad], list(buffers)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    told = torch.tensor([*(p.grad is not None for p in parameters), *own])
    state = [_exact(buffer) if is_main_process() else torch.zeros_like(_exact(buffer)) for buffer in buffers]
    summed = _summed([*gradients, *state, told.float()])
    count = len(parameters)
    said = [processes > 0 for processes in summed[-1].tolist()]
    for parameter, total, known in zip(parameters, summed, said, strict=False):
        parameter.grad = total / rank_world()[1] if known else None
    for buffer, main in zip(buffers, summed[count:], strict=False):
        buffer.copy_(_inexact(main, buffer))
    return said[count:]


def _summed(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return floating-point tensors' sums over the processes, in one message of the type that holds them all."""
    message = torch.cat([tensor.flatten().to(tensors[0].device) for tensor in tensors])
    dist.all_reduce(message)
    pieces = message.split([tensor.numel() for tensor in tensors])
    return [piece.view_as(tensor).to(tensor) for tensor, piece in zip(tensors, pieces, strict=True)]


def _exact(tensor: Tensor) -> Tensor:
    """Return numbers that any floating-point type holds: whole ones as bytes."""
    return tensor if tensor.is_floating_point() else tensor.flatten().view(torch.uint8).float()


def _inexact(numbers: Tensor, like: Tensor) -> Tensor:
    return numbers if like.is_floating_point() else numbers.to(torch.uint8).view(like.dtype).view_as(like)


@torch.no_grad()
def broadcast(tensors: Iterable[Tensor]) -> None:
    """Overwrite the tensors with the main process's, in one message a type."""
    if not is_distributed():
        return
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for same in by_type.values():
        message = torch.cat([tensor.detach().flatten() for tensor in same])
        dist.broadcast(message, 0)
        for tensor, piece in zip(same, message.split([tensor.numel() for tensor in same]), strict=True):
            tensor.copy_(piece.view_as(tensor))


def all_gather_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of all processes, in the order of the processes; each may have another number of them.

    Args:
        tensors: (B, ...), all with the same number of rows.
    """
    if not is_distributed():
        return tensors
    rank, world = rank_world()
    counts = torch.zeros(world, dtype=torch.int64, device=tensors[0].device)
    counts[rank] = len(tensors[0])
    dist.all_reduce(counts)
    return tuple(_gathered_rows(tensor, counts.tolist()) for tensor in tensors)


def _gathered_rows(rows: Tensor, counts: list[int]) -> Tensor:
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def gather_states(state: dict[str, Tensor], device: torch.device) -> list[dict[str, Tensor]]:
    """Return each process's state in the main process, and less in the others; ``device`` is where they exchange."""
    if not is_distributed():
        return [state]
    rank, world = rank_world()
    states: list[dict[str, Tensor]] = [{} for _ in range(1 if rank else world)]
    for name, value in state.items():
        message = value.to(device).contiguous().flatten().view(torch.uint8)  # not all types can be exchanged
        pieces = None if rank else [torch.empty_like(message) for _ in range(world)]
        dist.gather(message, pieces, dst=0)
        for own, piece in zip(states, pieces or [message], strict=True):
            own[name] = piece.view(value.dtype).view(value.shape).cpu()
    return states
