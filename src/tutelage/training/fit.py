"""What everybody calls: a model, data, signals, a weighting and a plan in, a trained model out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch._functorch.config
from torch import nn

from tutelage.distributed import naming_absent
from tutelage.signals import Signal
from tutelage.training.batches import Examples, check_examples
from tutelage.training.fitted import Fitted
from tutelage.training.loop import Loop
from tutelage.training.plan import Plan
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
    # Several backward passes go through one forward pass, and none may reuse its memory.
    compiled = torch._functorch.config.patch(donated_buffer=False) if plan.hardware.compile else nullcontext()
    with torch.random.fork_rng(devices=[]), naming_absent(), compiled:
        return Loop(model, train, signals, plan, weighting, held_out).run()
