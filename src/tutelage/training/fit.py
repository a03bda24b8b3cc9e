"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch._functorch.config
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from tutelage.batches import to_device
from tutelage.distributed import (
    all_reduce_sum,
    broadcast,
    end_step,
    join,
    naming_absent,
    require_shared,
)
from tutelage.signals import Objective, Outputs, Signal
from tutelage.training import checkpoint, seeds
from tutelage.training.batches import (
    Batches,
    Examples,
    Loader,
    Shuffled,
    check_examples,
    indices_of,
    left_over,
    own_places,
)
from tutelage.training.fitted import Fitted
from tutelage.training.identity import identity_of
from tutelage.training.interrupt import Interrupt, Interrupted, stoppable
from tutelage.training.log import Lines, Log
from tutelage.training.plan import Plan
from tutelage.training.predict import predict
from tutelage.training.resumption import Checkpoints, Standing
from tutelage.training.tally import Tally
from tutelage.weighting import Equal, Weighting


def fit(
    model: nn.Module,
    train: Examples,
    *,
    signals: Sequence[Signal],
    plan: Plan,
    weighting: Weighting | None = None,
    held_out: Examples | None = None,
) -> Fitted:
    """Train a model on weighted signals, and return it.

    A training with ``plan.out`` checkpoints there. The same call finds the checkpoint and goes on, and on the CPU ends in the
    same bits as if it had never stopped: every random draw is a function of ``plan.seed`` and the step. A call with a larger
    budget goes on, too, where the learning rates do not depend on the budget.

    Several processes make each step together: a batch of ``batch_size`` examples is shared out, so that a budget of steps is
    the same training in less time, and each process owns the examples with ``index % processes == rank``. A checkpoint goes on
    with another number of processes, too: the same examples are left of its epoch, and the steps are the same to rounding.

    Args:
        model: trained in place; called as ``model(batch["input"])``.
        train: a map-style data set of dicts with ``index``, ``input`` and what the signals name.
        signals: the losses, the primary one first; what parameters they have of their own (say, a projection onto a teacher's
            features) are trained with the model, without weight decay.
        plan: how.
        weighting: how far each signal counts; the plain sum by default.
        held_out: examples on which a learned weighting improves the primary signal, every ``plan.adapt_every`` steps.

    Raises:
        TypeError: ``train``, ``held_out`` or ``plan.val`` is no data set, ``plan`` no Plan, or ``signals`` no list.
        ValueError: an empty data set, a weighting that learns without ``held_out``, a batch that the processes cannot share, a
            checkpoint in ``plan.out`` that was made by another call, or weights or losses that are not finite any more.
        Interrupted: SIGTERM or Ctrl-C came; a checkpoint is in ``plan.out``, where that is given.
        ConnectionError: another process has died or stalled.
    """
    if not isinstance(plan, Plan):
        raise TypeError(f"plan={plan!r} must be a Plan, such as Plan(Budget(epochs=10))")
    if isinstance(signals, Signal):
        raise TypeError(f"signals={signals!r} must be a list of losses, the primary one first")
    for argument, examples in (("train", train), ("held_out", held_out), ("val", plan.val)):
        if examples is not None:
            check_examples(f"{plan.name}: {argument}", examples)
    weighting = weighting or Equal()
    if weighting.learns and held_out is None:
        raise ValueError(f"{plan.name}: {type(weighting).__name__} learns from held-out examples; give held_out")
    with torch.random.fork_rng(devices=[]), naming_absent():
        return _Run(model, train, signals, plan, weighting, held_out).go()


@dataclass(eq=False)
class _Run:
    """One call of `fit`: its arguments, and where it stands."""

    model: nn.Module
    train: Examples
    signals: Sequence[Signal]
    plan: Plan
    weighting: Weighting
    held_out: Examples | None

    def __post_init__(self) -> None:
        self.sampler = self.plan.sampler or Shuffled(len(self.train), self.plan.seed)
        self.log = self.plan.log or Log(None if self.plan.out is None else self.plan.out / "log.jsonl", quiet=True)
        join(self.plan.hardware.patience)
        self.accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(),  # else Accelerate takes torchrun's processes for lone ones there
            log_with=list(self.plan.hardware.trackers) or None,
            project_dir=None if self.plan.out is None else str(self.plan.out),
        )
        identity: dict[str, Any] = {}
        if self.plan.out is not None:
            require_shared(self.plan.out)
            identity = identity_of(self.model, self.train, self.signals, self.plan, self.weighting, self.held_out)
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        batch_size = self.plan.optimization.batch_size
        self.size, rest = divmod(batch_size, self.world)
        if rest:
            raise ValueError(
                f"{self.plan.name}: {self.plan.optimization_name}.batch_size={batch_size} is shared by {self.world} processes; "
                f"make it a multiple of {self.world}"
            )
        if self.world > 1 and any(isinstance(module, nn.SyncBatchNorm) for module in self.model.modules()):
            raise ValueError(
                f"{self.plan.name}: the model's SyncBatchNorm would wait for a process that makes fewer passes; leave it as "
                "BatchNorm, and set hardware.sync_batchnorm=True"
            )
        device = self.accelerator.device
        self.model.to(device)
        parts: list[nn.Module] = [*self.signals, self.weighting]
        for part in parts:
            part.to(device)
        if self.plan.hardware.compile:
            # Several backward passes go through one forward pass, and none may reuse its memory.
            torch._functorch.config.donated_buffer = False
        # What compiles a module returns one, and is declared to return a function.
        trained: nn.Module = torch.compile(self.model) if self.plan.hardware.compile else self.model  # type: ignore[assignment]
        self.objective = Objective(trained, self.signals, sync_batchnorm=self.plan.hardware.sync_batchnorm)
        self.probe = Objective(self.model, self.signals)
        self.optimizer = self.plan.optimization.build(self.model, self.plan.heads)
        own = [p for part in parts for p in part.parameters() if p.requires_grad]
        if own:
            self.optimizer.add_param_group({"params": own, "lr": self.plan.optimization.lr, "weight_decay": 0.0})
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.main = self.accelerator.is_main_process
        self.trained = nn.ModuleList([self.model, *self.signals])
        broadcast([*self.trained.parameters(), *self.model.buffers(), *self.weighting.parameters()])
        self.at = Standing()
        self.interrupt, self.saved = Interrupt(), time.monotonic()
        self.said = [False, False]  # what `asked` was in any process at the last step's exchange
        self.tally = Tally(self.plan, self.model, self.weighting, len(self.signals), self.log, device)
        self.loader = Loader(self.train, self.plan.augment, self.plan.hardware.workers)
        self.checkpoints = Checkpoints(
            self.plan,
            self.model,
            self.optimizer,
            self.signals,
            self.weighting,
            self.tally,
            index=indices_of(self.train),
            identity=identity,
            device=device,
        )

    def go(self) -> Fitted:
        if (found := self.checkpoints.resume()) is not None:
            self.at = found
            self.log.event("resumed", name=self.plan.name, step=self.step)
        if self.plan.hardware.trackers:
            self.accelerator.init_trackers(self.plan.name)
        if self.step == 0:
            self.at.epoch_steps = len(self.batches())
            if changed := self.plan.budget.changed(self.at.epoch_steps):
                self.log.say(f"{self.plan.name}: {changed}")
            self.note_learned()
        steps = self.plan.budget.total(self.at.epoch_steps)
        self.saved = time.monotonic()
        with stoppable() as self.interrupt, self.log.progress(steps, self.step, self.plan.name) as bar:
            while self.step < steps and not self.at.finished:
                if self.at.place == 0 and not self.at.dealt:
                    self.begin_epoch()
                stop = False
                batches = self.batches()
                for batch in self.loader.load(batches, self.at.place):
                    self.train_step(batch, steps)
                    bar.update()
                    stop, late = self.asked() if self.world == 1 else self.said
                    if self.step == steps or stop:
                        break
                    if late:
                        self.save()
                        self.saved = time.monotonic()
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

    def batches(self) -> Batches:
        """Return this process's batches of the epoch, or of what other numbers of processes have left of it."""
        epoch, left = self.at.epoch, self.sampler(self.at.epoch)
        for world, done in self.at.dealt:
            left = left_over(left, self.train, world, self.size * self.world // world, done)
        places = own_places(left, self.train, self.rank, self.world)
        if self.at.dealt and len(places) == 1:  # no batch normalisation over one
            places = places[:0]
        if len(places) == 0 and not self.at.dealt:
            raise ValueError(f"{self.plan.name}: epoch {epoch} of the sampler visits no example")
        seed = (self.plan.seed, "batch", epoch, self.rank, *(number for part in self.at.dealt for number in part))
        return Batches(self.train, places, self.size, self.plan.augment, seed)

    def begin_epoch(self) -> None:
        """Let self-labelling signals follow the model, and the weighting look at all examples."""
        places = (indices_of(self.train) % self.world == self.rank).nonzero().squeeze(1)
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
        own = Batches(self.train, places, self.size, None, seed)
        batches = map(self.placed, own.iterate(workers=self.plan.hardware.workers))
        self.weighting.begin_epoch(self.at.epoch, self.probe, batches)

    def placed(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return to_device(batch, self.accelerator.device)

    def train_step(self, batch: dict[str, Tensor], steps: int) -> None:
        batch = self.placed(batch)
        seeds.begin(self.accelerator.device, self.plan.seed, "step", self.step, self.rank)
        factor = self.plan.optimization.factor(self.step, steps)
        for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = lr * factor
        for signal in self.signals:
            signal.begin_step(self.step, self.model, self.optimizer)
        self.model.train()
        if self.weighting.adapts_first:
            self.weighting.adapt(self.probe, batch, self.held_out_batch(self.step), self.optimizer)
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
        if self.held_out is not None and not self.weighting.adapts_first and self.step % self.plan.adapt_every == 0:
            held_out = self.held_out_batch(self.step // self.plan.adapt_every - 1)
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

    def held_out_batch(self, call: int) -> dict[str, Tensor]:
        """Return this process's share of the held-out batch for a call of ``adapt``: shuffled anew after each pass."""
        assert self.held_out is not None
        size = min(self.plan.held_out_batch_size or self.plan.optimization.batch_size, len(self.held_out))
        passes, number = divmod(call, len(self.held_out) // size)
        places = Shuffled(len(self.held_out), seeds.derive(self.plan.seed, "held out"))(passes)
        places = places[: len(places) // size * size].view(-1, size)
        if size >= self.world:  # else all see all of them
            places = places[:, self.rank :: self.world]
        seed = (self.plan.seed, "held out", passes)
        return self.placed(Batches(self.held_out, places.flatten(), places.shape[1], None, seed)[number])

    def evaluate(self, bar: tqdm[Any] | Lines) -> None:
        means = self.tally.means(self.step, self.lr)
        entry: dict[str, Any] = {"step": self.step, "epoch": self.at.epoch}
        entry |= dict(zip(self.objective.names, means, strict=True))
        if self.plan.val is not None and self.plan.select_by is not None:
            outputs, rest = predict(self.model, self.plan.val, workers=self.plan.hardware.workers, shared=True)
            self.tally.check_outputs(outputs, self.step, self.lr)
            value = torch.tensor(float(self.plan.select_by(outputs, rest)), dtype=torch.float64)
            entry["val"] = float(
                all_reduce_sum(value if self.main else torch.zeros_like(value), self.accelerator.device)
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
