"""How far each loss of each example counts when training has ended."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tutelage.batches import to_device
from tutelage.signals import Objective
from tutelage.training.batches import Batches
from tutelage.weighting import Weighting
from tutelage.weighting.crust import in_eval_mode


@torch.no_grad()
def example_weights(weighting: Weighting, objective: Objective, examples: Any, count: int) -> Tensor | None:
    """Return how far each loss of each example counts when training ends, (N, K), NaN for those not among them.

    Weights that are a function of the losses are those of the examples unaugmented and of the model that was kept. None for a
    method that forgets the weights of a batch. The model is looked at as in evaluation, and then as it was.
    """
    found = torch.full((count, len(objective.signals)), torch.nan)
    device = next(objective.model.parameters()).device
    with in_eval_mode(objective):
        for batch in Batches(examples, torch.arange(len(examples)), 256, None, (0,)).iterate():
            batch = to_device(batch, device)
            losses_BK = objective(batch)
            u_BK = weighting.last_weights(losses_BK, batch)
            if u_BK is None:
                return None
            found[batch["index"].cpu()] = u_BK.float().cpu()
    return found
