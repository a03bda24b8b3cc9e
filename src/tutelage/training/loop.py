"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from tutelage.batches import to_device
from tutelage.distributed import all_reduce_sum, broadcast, end_step, join, require_shared
from tutelage.signals import Objective, Outputs, Signal
from tutelage.training import checkpoint, seeds
from tutelage.training.batches import Batches, Examples, Loader, indices_of
from tutelage.training.deal import Deal
from tutelage.training.fitted import Fitted
from tutelage.training.identity import identity_of
from tutelage.training.interrupt import Interrupt, Interrupted, stoppable
from tutelage.training.log import Lines, Log
from tutelage.training.plan import Plan
from tutelage.training.predict import predict
from tutelage.training.resumption import Checkpoints, Standing
from tutelage.training.tally import Tally
from tutelage.weighting import Weighting


class Loop:
    """One call of `fit`: its arguments, the parts that are made of them, and where it stands."""

    def __init__(
        self,
        model: nn.Module,
        train: Examples,
        signals: Sequence[Signal],
        plan: Plan,
        weighting: Weighting,
        held_out: Examples | None,
    ) -> None:
        self.model, self.train, self.signals, self.plan, self.weighting = model, train, signals, plan, weighting
        self.log = plan.log or Log(None if plan.out is None else plan.out / "log.jsonl", quiet=True)
        join(plan.hardware.patience)
        self.accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(),  # else Accelerate takes torchrun's processes for lone ones there
            log_with=list(plan.hardware.trackers) or None,
            project_dir=None if plan.out is None else str(plan.out),
        )
        identity: dict[str, Any] = {}
        if plan.out is not None:
            require_shared(plan.out)
            identity = identity_of(model, train, signals, plan, weighting, held_out)
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.deal = Deal(plan, train, held_out, self.rank, self.world)
        self.objective, self.probe = self._objectives()
        self.optimizer = self._optimizer()
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.trained = nn.ModuleList([model, *signals])
        broadcast([*self.trained.parameters(), *model.buffers(), *weighting.parameters()])
        self.at, self.interrupt, self.saved = Standing(), Interrupt(), time.monotonic()
        self.said = [False, False]  # what `asked` was in any process at the last step's exchange
        device = self.accelerator.device
        self.tally = Tally(plan, model, weighting, len(signals), self.log, device)
        self.loader = Loader(train, plan.augment, plan.hardware.workers)
        self.checkpoints = Checkpoints(
            plan,
            model,
            self.optimizer,
            signals,
            weighting,
            self.tally,
            index=indices_of(train),
            identity=identity,
            device=device,
        )

    def _objectives(self) -> tuple[Objective, Objective]:
        """Return what is trained, compiled where the plan says so, and what a weighting probes, both on the device."""
        hardware = self.plan.hardware
        if self.world > 1 and any(isinstance(module, nn.SyncBatchNorm) for module in self.model.modules()):
            raise ValueError(
                f"{self.plan.name}: the model's SyncBatchNorm would wait for a process that makes fewer passes; leave it as "
                "BatchNorm, and set hardware.sync_batchnorm=True"
            )
        for part in (self.model, *self.signals, self.weighting):
            part.to(self.accelerator.device)
        # What compiles a module returns one, and is declared to return a function.
        trained: nn.Module = torch.compile(self.model) if hardware.compile else self.model  # type: ignore[assignment]
        objective = Objective(trained, self.signals, sync_batchnorm=hardware.sync_batchnorm)
        return objective, Objective(self.model, self.signals)

    def _optimizer(self) -> torch.optim.Optimizer:
        """Return the model's optimizer, with the parameters that signals and weighting have of their own."""
        optimizer = self.plan.optimization.build(self.model, self.plan.heads)
        parts: list[nn.Module] = [*self.signals, self.weighting]
        own = [p for part in parts for p in part.parameters() if p.requires_grad]
        if own:
            optimizer.add_param_group({"params": own, "lr": self.plan.optimization.lr, "weight_decay": 0.0})
        return optimizer

    def run(self) -> Fitted:
        """Train from where the checkpoint stands to the end."""
        self._begin()
        steps = self.plan.budget.total(self.at.epoch_steps)
        self.saved = time.monotonic()
        with stoppable() as self.interrupt, self.log.progress(steps, self.step, self.plan.name) as bar:
            while self.step < steps and not self.at.finished:
                self._epoch(steps, bar)
        return self._finish()

    def _begin(self) -> None:
        """Take up a checkpoint, or note what there is before the first step."""
        if (found := self.checkpoints.resume()) is not None:
            self.at = found
            self.log.event("resumed", name=self.plan.name, step=self.step)
        if self.plan.hardware.trackers:
            self.accelerator.init_trackers(self.plan.name)
        if self.step == 0:
            self.at.epoch_steps = len(self.deal.batches(self.at))
            if changed := self.plan.budget.changed(self.at.epoch_steps):
                self.log.say(f"{self.plan.name}: {changed}")
            self.note_learned()

    def _epoch(self, steps: int, bar: tqdm[Any] | Lines) -> None:
        """Train to the end of the epoch, of the budget, or until a request to stop, which is then answered."""
        if self.at.place == 0 and not self.at.dealt:
            self.begin_epoch()
        batches = self.deal.batches(self.at)
        stop = self._train_on(batches, steps, bar)
        epoch_over = self.at.place >= len(batches)
        if epoch_over or self.step == steps:
            self.evaluate(bar)
            if epoch_over:
                self.at.epoch, self.at.place, self.at.dealt = self.at.epoch + 1, 0, []
            finished = epoch_over and self.plan.until is not None and self.plan.until()
            stop, self.at.finished = self.agreed(stop or self.interrupt.requested, finished)
        if stop:
            self.save()
            kept = "run it again to go on" if self.plan.out is not None else "nothing is kept, since out=None"
            raise Interrupted(f"{self.plan.name} stopped at step {self.step} of {steps}; {kept}")

    def _train_on(self, batches: Batches, steps: int, bar: tqdm[Any] | Lines) -> bool:
        """Take a step on each batch that is left, and return whether a process was asked to stop."""
        for batch in self.loader.load(batches, self.at.place):
            self.train_step(batch, steps)
            bar.update()
            stop, late = self.asked() if self.world == 1 else self.said
            if self.step == steps or stop:
                return stop
            if late:
                self.save()
                self.saved = time.monotonic()
        return False

    def _finish(self) -> Fitted:
        """Save the end, and return it with the selected weights."""
        self.save()
        if self.at.best_state is not None:
            self.model.load_state_dict(self.at.best_state)
        for tracker in self.accelerator.trackers:  # not `end_training`, which takes the process group with it
            tracker.finish()
        skipped = int(all_reduce_sum(self.weighting.skipped, self.accelerator.device))
        return Fitted(self.model, self.step, self.at.history, self.at.best, skipped, self.at.weighting_history)

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return self.at.step

    def save(self) -> None:
        """Write a checkpoint."""
        self.checkpoints.save(self.at, self.lr)

    def asked(self) -> tuple[bool, bool]:
        """Return whether this process is asked to stop, and whether to save."""
        return self.interrupt.requested, checkpoint.due(self.saved, self.plan.hardware.checkpoint_seconds)

    def agreed(self, *own: bool) -> list[bool]:
        """Return of each whether any process says so, so that all of them act together."""
        if self.world == 1:
            return list(own)
        return [
            said > 0 for said in all_reduce_sum(torch.tensor(own, dtype=torch.int32), self.accelerator.device).tolist()
        ]

    def begin_epoch(self) -> None:
        """Let self-labelling signals follow the model, and the weighting look at all examples."""
        places = self.deal.own()
        seed = (self.plan.seed, "outlook", self.at.epoch, self.rank)

        def predict_fn(augmented: bool) -> tuple[Tensor, Outputs]:
            outputs, rest = predict(
                self.model,
                self.train,
                augment=self.plan.augment if augmented else None,
                seed=seed,
                places=places,
                workers=self.plan.hardware.workers,
            )
            self.tally.check_outputs(outputs, self.step, self.lr)
            return rest["index"], outputs

        for signal in self.signals:
            signal.begin_epoch(self.at.epoch, predict_fn)
        own = Batches(self.train, places, self.deal.size, None, seed)
        batches = map(self.placed, own.iterate(workers=self.plan.hardware.workers))
        self.weighting.begin_epoch(self.at.epoch, self.probe, batches)

    def placed(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a batch on the device."""
        return to_device(batch, self.accelerator.device)

    def train_step(self, batch: dict[str, Tensor], steps: int) -> None:
        """Take one step, and let a weighting learn when its turn has come."""
        batch = self.placed(batch)
        seeds.begin(self.accelerator.device, self.plan.seed, "step", self.step, self.rank)
        factor = self.plan.optimization.factor(self.step, steps)
        for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = lr * factor
        for signal in self.signals:
            signal.begin_step(self.step, self.model, self.optimizer)
        self.model.train()
        if self.weighting.adapts_first:
            self.weighting.adapt(self.probe, batch, self.placed(self.deal.held_out_batch(self.step)), self.optimizer)
        with torch.autocast(self.accelerator.device.type, torch.bfloat16, self.plan.hardware.precision == "bf16"):
            losses_BK = self.objective(batch)
        self.weighting.backward(losses_BK, batch, self.model)
        self.said = end_step(self.trained, self.model.buffers(), *self.asked())
        if self.plan.optimization.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.trained.parameters(), self.plan.optimization.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.tally.add(losses_BK)
        self.at.step += 1
        self.at.place += 1
        if (
            self.deal.held_out is not None
            and not self.weighting.adapts_first
            and self.step % self.plan.adapt_every == 0
        ):
            held_out = self.placed(self.deal.held_out_batch(self.step // self.plan.adapt_every - 1))
            self.weighting.adapt(self.probe, batch, held_out, self.optimizer)
        if self.step % self.plan.adapt_every == 0:
            self.note_learned()

    @property
    def lr(self) -> float:
        """The largest learning rate of the last step."""
        return max(group["lr"] for group in self.optimizer.param_groups)

    def note_learned(self) -> None:
        """Add what the weighting has learned to its history."""
        if learned := self.weighting.learned():
            self.at.weighting_history.append({"step": self.step, **learned})

    def evaluate(self, bar: tqdm[Any] | Lines) -> None:
        """Note the mean losses and what the validation part says, and keep the best weights."""
        means = self.tally.means(self.step, self.lr)
        entry: dict[str, Any] = {"step": self.step, "epoch": self.at.epoch}
        entry |= dict(zip(self.objective.names, means, strict=True))
        if self.plan.val is not None and self.plan.select_by is not None:
            outputs, rest = predict(self.model, self.plan.val, workers=self.plan.hardware.workers, shared=True)
            self.tally.check_outputs(outputs, self.step, self.lr)
            value = torch.tensor(float(self.plan.select_by(outputs, rest)), dtype=torch.float64)
            entry["val"] = float(
                all_reduce_sum(
                    value if self.accelerator.is_main_process else torch.zeros_like(value), self.accelerator.device
                )
            )
            if not math.isnan(entry["val"]) and (self.at.best is None or entry["val"] > self.at.best["val"]):
                self.at.best = entry
                self.at.best_state = {
                    key: value.detach().cpu().clone() for key, value in self.model.state_dict().items()
                }
        self.at.history.append(entry)
        self.log.event("evaluation", name=self.plan.name, **entry)
        if self.plan.hardware.trackers:
            self.accelerator.log(entry, step=self.step)
        bar.set_postfix({key: f"{value:.3g}" for key, value in entry.items() if key not in ("step", "epoch")})
