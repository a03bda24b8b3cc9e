"""A source of supervision: one loss for each example, never reduced."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from tutelage.batches import Batch, call, require_named, size_of, tensors_of
from tutelage.configured import Configured

Outputs = Tensor | Mapping[str, Tensor]
_observing: ContextVar[bool] = ContextVar("observing", default=True)
_precision: ContextVar[torch.dtype | None] = ContextVar("precision", default=None)


class Signal(Configured, nn.Module, ABC):
    """One source of supervision: ``signal(outputs, batch) -> (B,)``.

    A signal is a module, so that whatever it remembers (self-labels, moving averages) is a buffer that moves, saves and
    loads with the rest. Anything with one row per example is indexed by ``batch["index"]``, never by position in a batch.

    Supervision that an example lacks (no teacher, an abstaining rule, an unlabelled image) is a loss of exactly 0 with no
    gradient, chosen by a mask; it is never a made-up target.

    ``separable = False`` marks a loss that couples the examples of a batch (pairwise, mixed): it returns one scalar,
    and no weighting may weight its examples separately.

    ``config()`` are the arguments that it was made with, in plain values: of a teacher its class and a hash of its weights.
    """

    separable: bool = True

    def __init__(self, name: str, head: str | None = None) -> None:
        super().__init__()
        self.name = name
        self.head = head
        self._written: dict[str, tuple[Any, Tensor]] = {}

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move; a float64 buffer becomes float32 on a device that has no float64."""

        def moved(tensor: Tensor) -> Tensor:
            try:
                return fn(tensor)
            except TypeError:
                if tensor.dtype != torch.float64:
                    raise
                return fn(tensor.float())

        return super()._apply(moved, recurse)

    @abstractmethod
    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the loss of each example, (B,), or a scalar when not ``separable``."""

    def begin_epoch(self, epoch: int, predict_fn: Any) -> None:
        """Let the targets of a self-labelling signal follow the model, before an epoch of training.

        ``predict_fn(augmented=...)`` gives (index, outputs): the ``index`` of every training example, of those that this
        process owns where there are several, and the model's outputs for them in eval mode. Most signals have fixed
        targets and do nothing here.
        """

    def begin_step(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Let a signal that follows the model from step to step act before a step of training, counted from 0.

        A signal whose teacher is an earlier state of the model takes it here, and may put other weights into the model.
        Most signals do nothing here.
        """

    @property
    def observing(self) -> bool:
        """Whether ``forward`` is to `remember` something of the examples: in training, not in a probe or an evaluation."""
        return observing()

    def remember(self, name: str, at: Any, values: Tensor) -> None:
        """Write values into rows of a buffer; an `Objective` undoes this if an example is not finite."""
        buffer = getattr(self, name)
        self._written[name] = (at, buffer[at].clone())
        buffer[at] = values

    def undo(self) -> None:
        """Undo what was remembered since `forget_before`."""
        for name, (at, before) in self._written.items():
            getattr(self, name)[at] = before

    def forget_before(self) -> None:
        """Make permanent what has been remembered."""
        self._written.clear()

    def own_output(self, outputs: Any) -> Tensor:
        """Return the tensor that this signal judges: the whole output, or the head it names; see `head_of`."""
        return head_of(outputs, self.head, f"signal {self.name!r}")


def by_head(outputs: Any) -> Outputs:
    """Return what a model returns as a tensor, or as its tensors by head name.

    A mapping (Hugging Face's ``ModelOutput``), a named tuple and a dataclass have heads by the names of their entries, a tuple
    or a list has the heads "0", "1", ... Entries that are no tensors, such as None or a tuple of hidden states, are left out.

    Raises:
        ValueError: the model returns something else.
    """
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        named: Mapping[str, Any] = outputs
    elif isinstance(outputs, tuple | list):
        named = dict(zip(getattr(outputs, "_fields", map(str, range(len(outputs)))), outputs, strict=True))
    elif is_dataclass(outputs):
        named = {field.name: getattr(outputs, field.name) for field in fields(outputs)}
    else:
        raise ValueError(
            f"the model returns a {type(outputs).__name__}; expected a tensor, or a dict, tuple or dataclass of tensors"
        )
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def head_of(outputs: Any, head: str | None, whose: str, argument: str = "head") -> Tensor:
    """Return one tensor of what a model returns; without a head, the only one, the one named "logits", or a tuple's first.

    Half precision, which is what automatic mixed precision returns, becomes float32: its 8 to 11 bits are too few for
    a loss, and for the targets that follow the logits' type.

    Args:
        outputs: see `by_head`.
        head: its name, or None.
        whose: who reads it, and what its argument for the head is called, for the error.
        argument: the same.

    Raises:
        ValueError: there are several heads and none is named, or the other way round.
    """
    outputs = by_head(outputs)
    if not isinstance(outputs, Tensor):
        known = [head] if head is not None else ["logits", "0"]
        found = next((outputs[name] for name in known if name in outputs), None)
        if found is None:
            raise ValueError(
                f"{whose} reads head {head!r}, but the model returns {sorted(outputs)}; set {argument}= to one"
            )
        outputs = found
    elif head is not None:
        raise ValueError(
            f"{whose} reads head {head!r}, but the model returns one tensor; "
            f"return a dict by head name, or leave {argument}=None"
        )
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs


def entry(batch: Batch, key: str, whose: str) -> Tensor:
    """Return ``batch[key]``, a tensor with a row for each example; only ``input`` may be something else.

    Args:
        batch: the batch.
        key: the entry.
        whose: who needs it, such as a signal by its name, for the error.

    Raises:
        ValueError: the batch is no dict, lacks the entry, or the entry has another number of rows than the batch.
    """
    require_named(batch)
    if key not in batch:
        cure = "; tutelage.data.Indexed(dataset) adds it to any map-style data set" if key == "index" else ""
        if key == "input":
            cure = '; put what the model takes there: batch["input"] = {"input_ids": ..., "attention_mask": ...}'
        raise ValueError(f"{whose!r} needs batch[{key!r}], but the batch holds {sorted(batch)}{cure}")
    value = batch[key]
    if key == "input":
        return value
    found = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    if key == "index" and (
        not isinstance(value, Tensor) or value.dtype not in (torch.int64, torch.int32) or value.dim() != 1
    ):
        raise ValueError(f"batch['index'] is {found}; {whose} needs an int64 tensor (B,), a place for each example")
    if not isinstance(value, Tensor):
        raise ValueError(f"{whose!r} reads batch[{key!r}], which is {found}; give a tensor")
    if any(tensor.dim() for name in ("input", "index") for tensor in tensors_of(batch.get(name))):
        size, rows = size_of(batch), len(value) if value.dim() else None
        if rows != size:
            raise ValueError(f"{whose!r} reads batch[{key!r}], which has {rows} rows in a batch of {size}")
    return value


def masked(losses_B: Tensor, present_B: Tensor) -> Tensor:
    """Return the losses where supervision is present, and a constant 0 elsewhere."""
    return torch.where(present_B, losses_B, torch.zeros_like(losses_B))


def possible(log_BC: Tensor) -> Tensor:
    """Return logarithms of probabilities with 0 in the place of -inf, to be multiplied by probabilities that are 0 there.

    A model masks a class by a logit of -inf; 0 * -inf would be NaN, and the gradient, too.
    """
    return log_BC.masked_fill(log_BC == -torch.inf, 0)


def observing() -> bool:
    """Return whether this evaluation is a step of the training, not a probe."""
    return _observing.get() and torch.is_grad_enabled()


def probing() -> bool:
    """Return whether this evaluation is a probe: for a derivative, or a second look at a batch."""
    return not _observing.get()


@contextmanager
def unobserved() -> Iterator[None]:
    """Evaluate signals without updating what they remember of the examples, as a probe must."""
    token = _observing.set(False)
    try:
        yield
    finally:
        _observing.reset(token)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute without automatic mixed precision; a teacher that is asked meanwhile (`ask`) has it back."""
    kind = device.type
    if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        yield
        return
    token = _precision.set(torch.get_autocast_dtype(kind))
    try:
        with torch.autocast(kind, enabled=False):
            yield
    finally:
        _precision.reset(token)


def teaching_precision(input: Any) -> tuple[str, torch.dtype] | None:
    """Return the kind of device and the type in which automatic mixed precision runs a teacher; None where it is off."""
    kind = next((tensor.device.type for tensor in tensors_of(input)), "cpu")
    dtype = _precision.get()
    if dtype is None and torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    return None if dtype is None else (kind, dtype)


@torch.no_grad()
def ask(teacher: nn.Module, input: Any) -> Any:
    """Return what a teacher returns for a batch's input, without gradient, in the precision that the model is trained in."""
    precision = teaching_precision(input)
    with nullcontext() if precision is None else torch.autocast(*precision):
        return call(teacher, input)
