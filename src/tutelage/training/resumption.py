"""Where a training stands, and what lies in its checkpoints: the same call goes on from there, with any number of processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.configured import differences
from tutelage.distributed import all_reduce_sum, gather_states, is_main_process, rank_world
from tutelage.signals import Signal
from tutelage.training import checkpoint
from tutelage.training.plan import Plan
from tutelage.training.tally import Tally
from tutelage.weighting import Weighting


@dataclass
class Standing:
    """Where a training stands.

    Attributes:
        step: optimiser steps taken.
        epoch: which one it is in.
        place: batches of the epoch that each of the processes has done.
        dealt: what other numbers of processes did of the epoch before: how many processes, how many batches each.
        epoch_steps: the steps of an epoch, as the training began.
        history, best, weighting_history: as in `Fitted`.
        best_state: the selected weights.
        finished: whether ``plan.until`` has said so.
    """

    step: int = 0
    epoch: int = 0
    place: int = 0
    dealt: list[tuple[int, int]] = field(default_factory=list)
    epoch_steps: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    best_state: dict[str, Tensor] | None = None
    weighting_history: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False


class Checkpoints:
    """Writes all that a training is, and puts it back.

    A checkpoint of another number of processes is taken, too: the rest of the epoch is dealt out anew, and what signals
    remember of an example goes to the process that draws it now. The steps that follow are the same to rounding only, since
    sums are added in another order and each process draws its own random numbers.

    Args:
        plan: the training's plan.
        model, optimizer, signals, weighting, tally: its parts.
        index: of the training examples, (n,).
        identity: what the training is (see `identity_of`).
        device: where the processes exchange.
    """

    def __init__(
        self,
        plan: Plan,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        signals: Sequence[Signal],
        weighting: Weighting,
        tally: Tally,
        *,
        index: Tensor,
        identity: dict[str, Any],
        device: torch.device,
    ) -> None:
        self.plan = plan
        self.model = model
        self.optimizer = optimizer
        self.signals = nn.ModuleList(signals)
        self.weighting = weighting
        self.tally = tally
        self.index = index
        self.identity = identity
        self.device = device

    def save(self, at: Standing, lr: float) -> None:
        """Write a checkpoint, where the plan has a folder; all processes call it.

        Raises:
            ValueError: a weight is not finite: the checkpoint that is there is better.
        """
        if self.plan.out is None:
            return
        self.tally.check_weights(at.step, lr)
        state: dict[str, Any] = {  # what several processes put together, so that all of them are needed here
            "weighting": self.weighting.state_dict()
            | {"skipped": all_reduce_sum(self.weighting.skipped, self.device).cpu()},
            "tally": self.tally.state(),
            "signals": gather_states(self.signals.state_dict(), self.device),
        }
        self.tally.saved = at.step
        if not is_main_process():
            return
        state |= {
            "identity": self.identity,
            "processes": rank_world()[1],
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "standing": {each.name: getattr(at, each.name) for each in fields(at)},
        }
        checkpoint.save(self.plan.out, state)

    def resume(self) -> Standing | None:
        """Put the newest checkpoint back and return where it stands; None where there is none.

        Raises:
            ValueError: it was made by another call, or its processes remember what cannot be put together.
        """
        state = None if self.plan.out is None else checkpoint.load(self.plan.out)
        if state is None:
            return None
        self._require_same(state["identity"])
        rank, world = rank_world()
        at = Standing(**state["standing"])
        remembered = state["signals"]
        if state["processes"] != world:
            remembered = [self._together(remembered)] * world
            if at.place:
                at.dealt = [*at.dealt, (state["processes"], at.place)]
                at.place = 0
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.weighting.load_state_dict(state["weighting"])
        self.signals.load_state_dict(remembered[rank])
        self.tally.load(state["tally"], at.step)
        if rank:  # what all processes have counted together is the first one's
            self.weighting.skipped.zero_()
        return at

    def _require_same(self, made_by: dict[str, Any]) -> None:
        if self.plan.optimization.extends and self.plan.budget.extends(made_by["budget"]):
            made_by = made_by | {"budget": self.identity["budget"]}
        if found := next(differences(made_by, self.identity), None):
            key, then, now = found
            why = ""
            if key.startswith("budget"):
                why = (
                    " (a larger one goes on where schedule='constant' and warmup=0; else its learning rates are others)"
                )
            raise ValueError(
                f"{self.plan.name}: the checkpoint in {self.plan.out} was made with {key}={then!r}, this call has {now!r}"
                f"{why}; delete the folder to start anew, or call with what it was made with"
            )

    def _together(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return what the processes remember as one: of each example the row of the process that drew it."""
        world, examples = len(states), int(self.index.max()) + 1
        whole = {}
        for name, first in states[0].items():
            values = [state[name] for state in states]
            if first.dim() and len(first) >= examples:
                owner = torch.arange(len(first)) % world
                values = [torch.stack(values)[owner, torch.arange(len(first))]]
            elif any(not torch.equal(first, other) for other in values):
                place, _, inside = name.partition(".")
                raise ValueError(
                    f"{self.plan.name}: the checkpoint in {self.plan.out} is of {world} processes, of which each keeps its own "
                    f"{inside!r} of the loss {self.signals[int(place)].name!r}; go on with {world} processes, or delete the "
                    "folder to start anew"
                )
            whole[name] = values[0]
        return whole
