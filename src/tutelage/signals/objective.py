"""A model and its signals: the matrix of losses that everything else weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tutelage.batches import (
    Batch,
    arguments_of,
    asked_of_some,
    finite_rows,
    masked_rows,
    rows_of,
    size_of,
    tensors_of,
    usable_rows,
)
from tutelage.distributed import all_reduce_sum, is_distributed
from tutelage.joint_batch_norm import JointBatchNorm
from tutelage.signals.base import Outputs, Signal, by_head, entry, full_precision, observing, unobserved

T = TypeVar("T")


class Objective(nn.Module):
    r"""``objective(batch) -> losses (B, K)``: the loss of example i under signal k.

    The first signal is the primary one. A signal that couples examples fills its column with its scalar, so that a column's
    mean is always that signal's batch loss.

    ``batch["input"]`` is a tensor, or a dict or tuple of tensors, with which the model is called as ``model(**input)`` or
    ``model(*input)``. Losses are computed in float32 or wider, also under automatic mixed precision.

    An example that is not finite (in its input, or in a loss) leaves the graph: its row is a constant NaN, and the others'
    losses, and what the model's buffers remember, are those of a batch without it. Whoever weighs the losses counts it and
    gives it no weight. The -inf of a mask that is added to attention, in an input of several tensors one that holds nothing
    above 0, is nothing wrong where the example's outputs and losses are finite. Rows of examples are what `tutelage.batches`
    takes for them; a mask (T, T) for all examples is given as (1, T, T).

    Args:
        model: returns a tensor, or several by head: a dict, Hugging Face's ``ModelOutput``, a dataclass, or a tuple, whose
            heads are "0", "1", ... A signal without a head reads the head "logits", or a tuple's first.
        signals: at least one; their names must differ.
        sync_batchnorm: with several processes, whether batch normalisation in training is by the batches of all of them. All
            then evaluate the objective together, and a batch of which one has no finite example is left out by all.
    """

    signals: Any  # an nn.ModuleList, whose types say less than that these are signals

    def __init__(self, model: nn.Module, signals: Sequence[Signal], *, sync_batchnorm: bool = False) -> None:
        super().__init__()
        if isinstance(signals, Signal) or not isinstance(signals, Iterable):
            raise ValueError(f"signals is a {type(signals).__name__}; give a list: Objective(model, [signal, ...])")
        signals = list(signals)
        if not signals:
            raise ValueError("signals is empty; give at least one, the primary one first")
        for place, signal in enumerate(signals):
            if not isinstance(signal, nn.Module) or not (hasattr(signal, "name") and hasattr(signal, "separable")):
                called = getattr(signal, "__name__", type(signal).__name__)
                raise ValueError(
                    f"signals[{place}] is {called}, which is no Signal: give one of tutelage.signals, as CrossEntropy(), or "
                    "a subclass of Signal, whose forward(outputs, batch) returns the loss of each example"
                )
        names = [signal.name for signal in signals]
        if len(set(names)) < len(names):
            raise ValueError(f"signals have equal names {names}; pass name= to tell them apart")
        self.model = model
        self.signals = nn.ModuleList(signals)
        self.sync_batchnorm = sync_batchnorm

    @property
    def names(self) -> list[str]:
        """The signals' names, in the order of the columns."""
        return [signal.name for signal in self.signals]

    @property
    def separable(self) -> list[bool]:
        """For each column, whether its examples may be weighted separately."""
        return [signal.separable for signal in self.signals]

    def outputs(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> Outputs:
        """Return the model's outputs; with ``params``, as if those were its parameters, and touching none of its buffers.

        Raises:
            ValueError: ``params`` names what is no parameter of the model.
        """
        arguments, named = arguments_of(entry(batch, "input", "objective"))
        if params is None:
            with JointBatchNorm() if self._joint else nullcontext():
                return by_head(self.model(*arguments, **named))
        replaced = _replaced(self.model, params)
        return by_head(functional_call(self.model, replaced, arguments, named, tie_weights=False))

    def forward(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the losses (B, K), differentiable by the model's parameters, or by ``params`` where they are given.

        ``params`` maps names as in ``model.named_parameters()`` to tensors; that path is free of side effects (batch
        normalisation keeps its statistics, and signals what they remember), so that it can be probed.

        Raises:
            ValueError: an empty batch, one that lacks what the model or a signal reads, or a loss of another shape than
                `Signal` asks for.
        """
        input = entry(batch, "input", "objective")
        if (size := size_of(batch)) == 0:
            raise ValueError("the batch is empty: batch['input'] has 0 rows; leave it out")
        if params is not None:
            with unobserved():
                return self._losses(batch, size, params)
        # One example whose features overflow would stay in the running statistics for good, so they are kept to go back to.
        before = [(held, name, buffer.clone()) for held, name, buffer in _statistics(self.model)]
        watched = [signal for signal in self.signals.modules() if isinstance(signal, Signal) and signal.observing]
        for signal in watched:
            signal.forget_before()
        usable_B = usable_rows(input, size)
        losses_BK = self._losses(batch, size)
        good = torch.isfinite(losses_BK.detach()).all(1)
        usable = torch.ones_like(good) if usable_B is None else usable_B
        if self._everywhere((good & usable).all()):  # the one time that an accelerator is waited for
            return losses_BK
        # Rare: the bad rows go, and the rest is evaluated without them, since 0 * NaN in a backward pass is NaN. Where inputs
        # are to blame they go first: through a normalisation they spoil the others' losses.
        rows = (good if self._everywhere(usable.all()) else usable).nonzero().squeeze(1)
        while True:
            for held, name, value in before:
                held[name].copy_(value)
            for signal in watched:
                signal.undo()
            if not self._everywhere(torch.tensor(len(rows) > 0, device=rows.device)):
                return torch.full_like(losses_BK, torch.nan, requires_grad=False)
            with asked_of_some(batch):
                losses_RK = self._losses(rows_of(batch, rows, size), len(rows))
            good = torch.isfinite(losses_RK.detach()).all(1)
            if self._everywhere(good.all()):
                return torch.full_like(losses_BK, torch.nan, requires_grad=False).index_copy(0, rows, losses_RK)
            rows = rows[good]

    @property
    def _joint(self) -> bool:
        """Whether a pass is one of all processes together: of a training, and not of a probe."""
        return self.sync_batchnorm and self.model.training and observing() and is_distributed()

    def _everywhere(self, holds: Tensor) -> bool:
        """Return whether something holds in each process that takes part in the pass."""
        return bool(all_reduce_sum((~holds).int()) == 0 if self._joint else holds)

    def _losses(self, batch: Batch, size: int, params: Mapping[str, Tensor] | None = None) -> Tensor:
        outputs = self.outputs(batch, params)
        with full_precision(next(tensors_of(outputs)).device):
            columns = [signal(outputs, batch) for signal in self.signals]
        for signal, column in zip(self.signals, columns, strict=True):
            one_each = "one loss an example (a loss that couples examples has the class variable separable = False)"
            if column.shape != ((size,) if signal.separable else ()):
                raise ValueError(
                    f"signal {signal.name!r} returned {tuple(column.shape)} for a batch of {size}; expected "
                    f"{one_each if signal.separable else 'a scalar, since separable = False'}"
                )
        losses_BK = torch.stack([column.expand(size) for column in columns], dim=1)
        masked_B = masked_rows(batch["input"], size)
        finite_B = None if masked_B is None else finite_rows(outputs, size)
        if masked_B is None or finite_B is None:
            return losses_BK
        # Where a mask hides all that there is, a missing label's loss is 0 and its gradient NaN.
        return losses_BK.masked_fill((masked_B & ~finite_B)[:, None], torch.nan)


def _statistics(model: nn.Module) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    """Yield the running statistics that a forward pass may change, where they are: numbers of modules in training mode."""
    for module in model.modules():
        for name, buffer in module._buffers.items() if module.training else ():
            if buffer is not None and (buffer.is_floating_point() or buffer.dim() == 0):
                yield module._buffers, name, buffer


def _replaced(model: nn.Module, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a call with other parameters and copies of the buffers, each by one place in the model."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    if unknown := sorted(set(params) - set(names.values())):
        raise ValueError(f"params names {unknown[0]!r}, which is no name in model.named_parameters()")
    values = {own: params[name] for own, name in names.items() if name in params}
    return places_of(model, values | {id(buffer): buffer.clone() for buffer in model.buffers()})


def places_of(model: nn.Module, values: Mapping[int, T]) -> dict[str, T]:
    """Return values, given by the ``id`` of a parameter or buffer, by one place of it in each module that holds it.

    Of a module that is registered under two names, `functional_call` would replace the same place twice, and then leave the
    replacement in it; so every module is named once, and a tensor that two modules share has a place in both.
    """
    return {
        f"{path}.{own}".lstrip("."): values[id(held)]
        for path, owner in model.named_modules()
        for own, held in (*owner._parameters.items(), *owner._buffers.items())
        if id(held) in values
    }
