"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from tutelage.batches import to_device
from tutelage.distributed import all_reduce_gradients, all_reduce_sum, broadcast, gather_states
from tutelage.signals import Objective, Outputs, Signal
from tutelage.training import checkpoint, seeds
from tutelage.training.batches import Batches, Examples, Shuffled, indices_of, own_places
from tutelage.training.identity import difference, identity_of
from tutelage.training.interrupt import Interrupted, stoppable
from tutelage.training.log import Log
from tutelage.training.plan import Plan
from tutelage.training.predict import predict
from tutelage.weighting import Equal, Weighting


@dataclass
class Fitted:
    """What a training returns.

    Attributes:
        model: the trained model, on the CPU or where it was trained; with the selected weights where something selects.
        steps: optimiser steps taken.
        history: one entry for each evaluation: step, epoch, the signals' mean losses since the one before (NaN where no
            example was finite), the validation's value.
        best: the selected evaluation's entry, or None where nothing selects.
        skipped: examples that had no weight because a loss was not finite.
        weighting_history: what the weighting had learned (see `Weighting.learned`), with the step: before the first step
            and after every ``adapt_every`` steps; empty for a weighting that learns nothing.
    """

    model: nn.Module
    steps: int
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    skipped: int = 0
    weighting_history: list[dict[str, Any]] = field(default_factory=list)


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
    same bits as if it had never stopped: every random draw is a function of ``plan.seed`` and the step.

    Args:
        model: trained in place; called as ``model(batch["input"])``.
        train: a map-style data set of dicts with ``index``, ``input`` and what the signals name.
        signals: the losses, the primary one first.
        plan: how.
        weighting: how far each signal counts; the plain sum by default.
        held_out: examples on which a learned weighting improves the primary signal, every ``plan.adapt_every`` steps.

    Raises:
        ValueError: an empty data set, a weighting that learns without ``held_out``, or a checkpoint in ``plan.out`` that was
            made by another call.
        Interrupted: SIGTERM or Ctrl-C came; a checkpoint is in ``plan.out``, where that is given.
    """
    if len(train) == 0:
        raise ValueError(f"{plan.name}: the training data set is empty")
    weighting = weighting or Equal()
    if weighting.learns and held_out is None:
        raise ValueError(f"{plan.name}: {type(weighting).__name__} learns from held-out examples; give held_out")
    with torch.random.fork_rng(devices=[]):
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
        self.accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(),  # else Accelerate takes torchrun's processes for lone ones there
            log_with=list(self.plan.hardware.trackers) or None,
            project_dir=None if self.plan.out is None else str(self.plan.out),
        )
        self.identity: dict[str, Any] = {}
        if self.plan.out is not None:
            arguments = self.model, self.train, self.signals, self.plan, self.weighting, self.held_out
            self.identity = identity_of(*arguments, self.accelerator.num_processes)
        device = self.accelerator.device
        self.model.to(device)
        parts: list[nn.Module] = [*self.signals, self.weighting]
        for part in parts:
            part.to(device)
        trained: nn.Module = torch.compile(self.model) if self.plan.hardware.compile else self.model  # type: ignore[assignment]
        self.objective = Objective(trained, self.signals)
        self.probe = Objective(self.model, self.signals)
        self.optimizer = self.plan.optimization.build(self.model, self.plan.heads)
        learned = [p for p in self.weighting.parameters() if p.requires_grad]
        if learned:
            self.optimizer.add_param_group({"params": learned, "lr": self.plan.optimization.lr, "weight_decay": 0.0})
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.main = self.accelerator.is_main_process
        broadcast([*self.model.parameters(), *self.model.buffers(), *self.weighting.parameters()])
        self.step = self.epoch = self.place = 0
        self.best: dict[str, Any] | None = None
        self.best_state: dict[str, Tensor] | None = None
        self.history: list[dict[str, Any]] = []
        self.weighting_history: list[dict[str, Any]] = []
        self.sums = torch.zeros(len(self.signals) + 1, dtype=torch.float64)  # of the losses, and of the examples
        self.finished = False

    def go(self) -> Fitted:
        self.resume()
        if self.plan.hardware.trackers:
            self.accelerator.init_trackers(self.plan.name)
        if self.step == 0:
            self.note_learned()
        steps = self.plan.budget.total(len(self.batches(0)))
        saved = time.monotonic()
        with stoppable() as interrupt, self.log.progress(steps, self.step, self.plan.name) as bar:
            while self.step < steps and not self.finished:
                if self.place == 0:
                    self.begin_epoch()
                stop = False
                for batch in self.batches(self.epoch).iterate(self.place, self.plan.hardware.workers):
                    self.train_step(batch, steps)
                    bar.update()
                    stop = self.agreed(interrupt.requested)
                    if self.step == steps or stop:
                        break
                    wait = self.plan.hardware.checkpoint_seconds
                    if self.plan.out is not None and self.agreed(checkpoint.due(saved, wait)):
                        self.save()
                        saved = time.monotonic()
                epoch_over = self.place >= len(self.batches(self.epoch))
                if epoch_over or self.step == steps:
                    self.evaluate(bar)
                if epoch_over:
                    self.epoch, self.place = self.epoch + 1, 0
                    self.finished = self.plan.until is not None and self.agreed(self.plan.until())
                if stop:
                    self.save()
                    kept = "run it again to go on" if self.plan.out is not None else "nothing is kept, since out=None"
                    raise Interrupted(f"{self.plan.name} stopped at step {self.step} of {steps}; {kept}")
        if self.best_state is not None:
            self.model.load_state_dict(self.best_state)
        self.save()
        if self.plan.hardware.trackers:
            self.accelerator.end_training()
        skipped = int(all_reduce_sum(self.weighting.skipped, self.accelerator.device))
        return Fitted(self.model, self.step, self.history, self.best, skipped, self.weighting_history)

    def agreed(self, own: bool) -> bool:
        """Return whether any process says so, so that all of them act together."""
        if self.accelerator.num_processes == 1:
            return own
        return bool(self.accelerator.reduce(torch.tensor(float(own), device=self.accelerator.device)) > 0)

    def batches(self, epoch: int) -> Batches:
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        places = own_places(self.sampler(epoch), self.train, rank, world)
        if len(places) == 0:
            raise ValueError(f"{self.plan.name}: epoch {epoch} of the sampler visits no example")
        return Batches(
            self.train,
            places,
            self.plan.optimization.batch_size,
            self.plan.augment,
            (self.plan.seed, "batch", epoch, rank),
        )

    def begin_epoch(self) -> None:
        """Let self-labelling signals follow the model, and the weighting look at all examples."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        places = (indices_of(self.train) % world == rank).nonzero().squeeze(1)
        seed = (self.plan.seed, "outlook", self.epoch, rank)

        def predict_fn(augmented: bool) -> tuple[Tensor, Outputs]:
            outputs, rest = predict(
                self.model,
                self.train,
                augment=self.plan.augment if augmented else None,
                seed=seed,
                places=places,
                workers=self.plan.hardware.workers,
            )
            return rest["index"], outputs

        for signal in self.signals:
            signal.begin_epoch(self.epoch, predict_fn)
        own = Batches(self.train, places, self.plan.optimization.batch_size, None, seed)
        batches = map(self.placed, own.iterate(workers=self.plan.hardware.workers))
        self.weighting.begin_epoch(self.epoch, self.probe, batches)

    def placed(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return to_device(batch, self.accelerator.device)

    def train_step(self, batch: dict[str, Tensor], steps: int) -> None:
        batch = self.placed(batch)
        torch.manual_seed(seeds.derive(self.plan.seed, "step", self.step, self.accelerator.process_index))
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
        all_reduce_gradients(self.model)
        if self.plan.optimization.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.optimization.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        broadcast(self.model.buffers())
        seen_BK = losses_BK.detach().cpu().double()
        finite_B = torch.isfinite(seen_BK).all(1)
        self.sums += torch.cat([seen_BK[finite_B].sum(0), finite_B.sum()[None]])
        self.step += 1
        self.place += 1
        if self.held_out is not None and not self.weighting.adapts_first and self.step % self.plan.adapt_every == 0:
            held_out = self.held_out_batch(self.step // self.plan.adapt_every - 1)
            self.weighting.adapt(self.probe, batch, held_out, self.optimizer)
        if self.step % self.plan.adapt_every == 0:
            self.note_learned()

    def note_learned(self) -> None:
        """Add what the weighting has learned to its history."""
        if learned := self.weighting.learned():
            self.weighting_history.append({"step": self.step, **learned})

    def held_out_batch(self, call: int) -> dict[str, Tensor]:
        """Return the batch of held-out examples for a call of ``adapt``: shuffled anew after each pass over them."""
        assert self.held_out is not None
        size = min(self.plan.held_out_batch_size or self.plan.optimization.batch_size, len(self.held_out))
        passes, number = divmod(call, len(self.held_out) // size)
        places = Shuffled(len(self.held_out), seeds.derive(self.plan.seed, "held out"))(passes)
        places = places[: len(places) // size * size]
        return self.placed(Batches(self.held_out, places, size, None, (self.plan.seed, "held out", passes))[number])

    def evaluate(self, bar: tqdm[Any]) -> None:
        sums = all_reduce_sum(self.sums, self.accelerator.device)
        means = (sums[:-1] / sums[-1]).tolist()
        entry: dict[str, Any] = {"step": self.step, "epoch": self.epoch}
        entry |= dict(zip(self.objective.names, means, strict=True))
        self.sums = torch.zeros_like(self.sums)
        if self.plan.val is not None and self.plan.select_by is not None:
            outputs, rest = predict(self.model, self.plan.val, workers=self.plan.hardware.workers)
            value = torch.tensor(float(self.plan.select_by(outputs, rest)), dtype=torch.float64)
            entry["val"] = float(
                all_reduce_sum(value if self.main else torch.zeros_like(value), self.accelerator.device)
            )
            if not math.isnan(entry["val"]) and (self.best is None or entry["val"] > self.best["val"]):
                self.best = entry
                self.best_state = {key: value.detach().cpu().clone() for key, value in self.model.state_dict().items()}
        self.history.append(entry)
        self.log.event("evaluation", name=self.plan.name, **entry)
        if self.plan.hardware.trackers:
            self.accelerator.log(entry, step=self.step)
        bar.set_postfix({key: f"{value:.3g}" for key, value in entry.items() if key not in ("step", "epoch")})

    def save(self) -> None:
        if self.plan.out is None:
            return
        device = self.accelerator.device
        state: dict[str, Any] = {  # what several processes put together, so that all of them are needed here
            "weighting": self.weighting.state_dict()
            | {"skipped": all_reduce_sum(self.weighting.skipped, device).cpu()},
            "sums": all_reduce_sum(self.sums, device),
            "signals": gather_states(nn.ModuleList(self.signals).state_dict(), device),
        }
        if not self.main:
            return
        state |= {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{key: getattr(self, key) for key in _STANDING},
        }
        checkpoint.save(self.plan.out, state)

    def resume(self) -> None:
        state = None if self.plan.out is None else checkpoint.load(self.plan.out)
        if state is None:
            return
        if found := difference(state["identity"], self.identity):
            key, then, now = found
            raise ValueError(
                f"{self.plan.name}: the checkpoint in {self.plan.out} was made with {key}={then!r}, this call has {now!r}; "
                "delete the folder to start anew, or call with what it was made with"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.weighting.load_state_dict(state["weighting"])
        nn.ModuleList(self.signals).load_state_dict(state["signals"][self.accelerator.process_index])
        self.sums = state["sums"]
        if not self.main:  # what all processes have counted together is the first one's
            self.sums.zero_()
            self.weighting.skipped.zero_()
        for key in _STANDING:
            setattr(self, key, state[key])
        self.log.event("resumed", name=self.plan.name, step=self.step)


_STANDING = ("step", "epoch", "place", "best", "best_state", "history", "weighting_history", "finished")
