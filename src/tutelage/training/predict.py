"""A model's outputs for a whole data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tutelage.batches import call, map_tensors
from tutelage.distributed import is_distributed, rank_world
from tutelage.modes import in_eval_mode
from tutelage.signals.base import by_head
from tutelage.training.batches import Augmentation, Batches, Examples


@torch.no_grad()
def predict(
    model: nn.Module,
    examples: Examples,
    *,
    batch_size: int = 256,
    augment: Augmentation | None = None,
    seed: tuple[int | str, ...] = (0,),
    places: Tensor | None = None,
    workers: int = 0,
    shared: bool = False,
) -> tuple[Tensor | dict[str, Tensor], dict[str, Tensor]]:
    """Return (outputs, batch) for all examples, in order, on the CPU, in eval mode and without gradient.

    Args:
        model: evaluated where it lies; the mode of each of its modules is restored.
        examples: the data set.
        batch_size: examples in one forward pass.
        augment: a random change of the input, as in training; drawn from ``seed``.
        seed: what the augmentation is drawn from.
        places: the places to visit, all by default.
        workers: processes that load the data.
        shared: with several processes, all call it, each predicts its share of the batches, and all have everything.

    Returns:
        The outputs, a tensor or a dict by head name, and the batch entries other than ``input``, all of N rows.
    """
    places = torch.arange(len(examples)) if places is None else places
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else torch.get_default_device()
    outputs, rest = [], []
    with in_eval_mode(model):
        batches = Batches(examples, places, batch_size, augment, seed)
        rank, world = rank_world() if shared else (0, 1)
        start, end = (len(batches) * each // world for each in (rank, rank + 1))
        for batch in batches.iterate(start, workers, end):
            output = by_head(call(model, map_tensors(batch["input"], lambda tensor: tensor.to(device))))
            outputs.append(
                output.float().cpu()
                if isinstance(output, Tensor)
                else {head: value.float().cpu() for head, value in output.items() if value.dim()}
            )
            rest.append({key: value for key, value in batch.items() if key != "input"})
    if shared and is_distributed():
        shares: list[Any] = [None] * world
        dist.all_gather_object(shares, (outputs, rest))
        outputs, rest = ([part for share in shares for part in share[kind]] for kind in (0, 1))
    if not outputs:
        raise ValueError("the data set to predict is empty")
    return _joined(outputs), _joined(rest)


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], Tensor):
        return torch.cat(parts) if parts[0].dim() else torch.stack(parts)
    if isinstance(parts[0], Mapping):
        return {key: _joined([part[key] for part in parts]) for key in parts[0]}
    return [item for part in parts for item in part] if isinstance(parts[0], list) else parts
