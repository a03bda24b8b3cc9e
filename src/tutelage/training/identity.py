"""What a training is, in plain values: a checkpoint is continued only by the call that made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from tutelage.configured import plain
from tutelage.data.fingerprint import fingerprint
from tutelage.signals import Signal
from tutelage.training import source
from tutelage.training.batches import Examples
from tutelage.training.plan import Plan
from tutelage.weighting import Weighting


def identity_of(
    model: nn.Module,
    train: Examples,
    signals: Sequence[Signal],
    plan: Plan,
    weighting: Weighting,
    held_out: Examples | None,
) -> dict[str, Any]:
    """Return everything on which the result of `fit` depends, but for the model's first weights and the number of processes.

    Data sets count with their whole content, what else has no plain values of its own with its name and a hash of what it is
    made of.
    """
    return {
        "code": source.version(),
        "model": {
            "class": _name(model),
            "spec": plain(getattr(model, "spec", None), fingerprint),
            "shapes": {name: list(value.shape) for name, value in model.state_dict().items()},
            "frozen": [name for name, value in model.named_parameters() if not value.requires_grad],
        },
        "signals": [_described(signal) for signal in signals],
        "weighting": _described(weighting),
        "budget": asdict(plan.budget),
        "optimization": asdict(plan.optimization),
        "heads": list(plan.heads),
        "seed": plan.seed,
        "precision": plan.hardware.precision,
        "adapt_every": plan.adapt_every,
        "held_out_batch_size": plan.held_out_batch_size,
        "augment": _described(plan.augment),
        "sampler": _described(plan.sampler),
        "select_by": _described(plan.select_by),
        "train": _content(train),
        "held_out": _content(held_out),
        "val": _content(plan.val),
    }


def _content(examples: Examples | None) -> dict[str, Any] | None:
    return None if examples is None else {"examples": len(examples), "content": fingerprint(examples)}


def _described(value: Any) -> Any:
    """Return what an object or a function is: its own ``config()``, else its name and a hash of what it is made of."""
    if value is None:
        return None
    config = getattr(value, "config", None)
    if callable(config):
        return plain(config(), fingerprint)
    return {"name": getattr(value, "name", None) or _name(value), "made of": fingerprint(value)}


def _name(value: Any) -> str:
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
