"""What a training counts as it goes, on the device that trains, and whether it is still worth going on."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.batches import finite_rows, tensors_of
from tutelage.distributed import all_reduce_sum, is_main_process
from tutelage.hardware import precise
from tutelage.signals import Outputs
from tutelage.training.log import Log
from tutelage.training.plan import Plan
from tutelage.weighting import Weighting

SKIPPED = 0.01
GROWN = 1000.0


class Tally:
    """The losses since the last evaluation, and the problems of a training. No step waits for the device.

    Args:
        plan: the training's plan.
        model: what is trained.
        weighting: counts the examples that had no weight.
        signals: how many there are.
        log: where warnings are told, too.
        device: what trains.
    """

    def __init__(
        self, plan: Plan, model: nn.Module, weighting: Weighting, signals: int, log: Log, device: torch.device
    ) -> None:
        self.plan = plan
        self.model = model
        self.weighting = weighting
        self.log = log
        self.sums = torch.zeros(signals + 1, dtype=precise(device), device=device)  # of the losses, and of the examples
        self.first: Tensor | None = None  # the primary signal's mean loss in the first step
        self.seen = 0
        self.warned: list[str] = []
        self.saved: int | None = None  # the last checkpoint's step

    def add(self, losses_BK: Tensor) -> None:
        """Count a step's losses, (B, K)."""
        losses_BK = losses_BK.detach().to(self.sums)
        finite_B = torch.isfinite(losses_BK).all(1)
        step = torch.cat([torch.where(finite_B[:, None], losses_BK, 0).sum(0), finite_B.sum()[None].to(self.sums)])
        if self.first is None:
            self.first = step[0] / step[-1]
        self.sums += step
        self.seen += len(losses_BK)

    def means(self, step: int, lr: float) -> list[float]:
        """Return the signals' mean losses since the last call, over all processes; NaN where no example was finite.

        Raises:
            ValueError: no example had a finite loss, or a weight is not finite.
        """
        self.check_weights(step, lr)
        sums = all_reduce_sum(self.sums).tolist()
        self.sums.zero_()
        if not sums[-1]:
            raise ValueError(
                f"{self.plan.name}: no example had a finite loss since the last evaluation, up to step {step}; see whether the "
                f"inputs are finite, and else {self._cure(lr)}"
            )
        means = [each / sums[-1] for each in sums[:-1]]
        skipped, seen = self._skipped()
        if skipped > SKIPPED * seen:
            self._warn(
                "skipped",
                f"{skipped} of the {seen} examples seen up to step {step} were left out: an input or a loss of theirs was not "
                "finite; see whether the data are",
            )
        if self.first is not None and means[0] > GROWN * max(1.0, self.first.item()):
            self._warn("grown", f"the loss has grown to {means[0]:.3g} at step {step}; {self._cure(lr)}")
        return means

    def check_weights(self, step: int, lr: float) -> None:
        """Refuse to go on, in all processes, with a weight that is not finite.

        Raises:
            ValueError: there is one, with the last good checkpoint and what to change.
        """
        own = [parameter.detach() for parameter in self.model.parameters()]
        finite = torch.stack([torch.isfinite(each).all() for each in own]).all() if own else torch.tensor(True)
        if not finite:
            raise ValueError(f"{self.plan.name}: weights are not finite after step {step}; {self._cure(lr)}")

    def check_outputs(self, outputs: Outputs, step: int, lr: float) -> None:
        """Refuse to go on with a model whose outputs are finite for no example.

        Raises:
            ValueError: they are, with the last good checkpoint and what to change.
        """
        finite_N = finite_rows(outputs, len(next(tensors_of(outputs))))
        if finite_N is not None and not finite_N.any():
            raise ValueError(
                f"{self.plan.name}: the model's outputs are not finite for any of {len(finite_N)} examples after step {step}; "
                f"{self._cure(lr)}"
            )

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds; all processes call it."""
        return {
            "sums": all_reduce_sum(self.sums).cpu(),
            "first": None if self.first is None else self.first.cpu(),
            "seen": self._skipped()[1],
            "warned": list(self.warned),
        }

    def load(self, state: dict[str, Any], step: int) -> None:
        """Go on from a state; what all processes have counted together is the first one's."""
        self.first, self.warned, self.saved = state["first"], state["warned"], step
        if is_main_process():
            self.sums.copy_(state["sums"])
            self.seen = state["seen"]

    def _skipped(self) -> tuple[int, int]:
        counted = torch.stack([self.weighting.skipped.to(self.sums), self.sums.new_tensor(self.seen)])
        skipped, seen = all_reduce_sum(counted).tolist()
        return int(skipped), int(seen)

    def _warn(self, kind: str, text: str) -> None:
        if kind in self.warned:
            return
        self.warned.append(kind)
        self.log.event("warning", name=self.plan.name, text=text)
        if is_main_process():
            warnings.warn(f"{self.plan.name}: {text}", stacklevel=2)

    def _cure(self, lr: float) -> str:
        kept = (
            f"the checkpoint in {self.plan.out} is of step {self.saved}, the last good one"
            if self.saved is not None
            else "there is no checkpoint before it"
        )
        precise = " or hardware.precision=float32" if self.plan.hardware.precision == "bf16" else ""
        section, optimization = self.plan.optimization_name, self.plan.optimization
        value = f"={optimization.lr:g}" if optimization.encoder_lr is None else ""
        return (
            f"the learning rate there was {lr:.3g}: lower {section}.lr{value}, or set {section}.clip_norm or "
            f"{section}.warmup{precise}; {kept}"
        )
