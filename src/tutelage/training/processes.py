"""Data parallelism by hand: gradients after the backward pass, buffers after the step, and nothing inside the model.

DistributedDataParallel exchanges within the model's passes, so that a process with an example that is not finite, which
runs another number of passes than the rest, would leave the others waiting. Here each step exchanges at the same places,
whatever a process has met. Every function does nothing where there is one process.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn

from tutelage.hypergradient.processes import mean_over_processes, several


def join() -> bool:
    """Join the processes that torchrun or accelerate started with this one, if they did; return whether this is the first.

    A recipe is the same program in all processes: trainings share their batches, whatever else is computed is computed by
    each, and the first one writes.
    """
    PartialState(cpu=not torch.accelerator.is_available())
    return is_first()


def is_first() -> bool:
    """Return whether this process is the first, or the only one."""
    return not several() or dist.get_rank() == 0


def count() -> int:
    """Return how many processes there are."""
    return dist.get_world_size() if several() else 1


def meet() -> None:
    """Wait until all processes are here."""
    if several():
        PartialState().wait_for_everyone()


def share_gradients(model: nn.Module) -> None:
    """Make each ``.grad`` the mean over the processes; one that no process has stays None."""
    if not several():
        return
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    own = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    means, _ = mean_over_processes(own, 1, parameters)
    for name, parameter in parameters.items():
        parameter.grad = means.get(name)


@torch.no_grad()
def follow_first(tensors: Iterable[Tensor]) -> None:
    """Overwrite the tensors with the first process's, in one message a type."""
    if not several():
        return
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for same in by_type.values():
        message = torch.cat([tensor.detach().flatten() for tensor in same])
        dist.broadcast(message, 0)
        for tensor, piece in zip(same, message.split([tensor.numel() for tensor in same]), strict=True):
            tensor.copy_(piece.view_as(tensor))


def total(values: Tensor, device: torch.device) -> Tensor:
    """Return the sum over the processes, on the CPU; ``device`` is where they exchange."""
    if several():
        values = values.to(device, copy=True)
        dist.all_reduce(values)
    return values.cpu()


def gathered(state: dict[str, Tensor], device: torch.device) -> list[dict[str, Tensor]]:
    """Return each process's state in the first process, and less in the others; ``device`` is where they exchange."""
    if not several():
        return [state]
    first, world = dist.get_rank() == 0, dist.get_world_size()
    states: list[dict[str, Tensor]] = [{} for _ in range(world if first else 1)]
    for name, value in state.items():
        message = value.to(device).contiguous().flatten().view(torch.uint8)  # not all types can be exchanged
        pieces = [torch.empty_like(message) for _ in range(world)] if first else None
        dist.gather(message, pieces, dst=0)
        for own, piece in zip(states, pieces or [message], strict=True):
            own[name] = piece.view(value.dtype).view(value.shape).cpu()
    return states
