"""A model and its signals: the matrix of losses that everything else weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tutelage.batches import Batch, rows_of
from tutelage.signals.base import Outputs, Signal, entry


class Objective(nn.Module):
    r"""``objective(batch) -> losses (B, K)``: the loss of example i under signal k.

    The first signal is the primary one. A signal that couples examples fills its column with its scalar, so that a column's
    mean is always that signal's batch loss.

    An example that is not finite (in its input, or in a loss) leaves the graph: its row is a constant NaN, and the others'
    losses, and what the model's buffers remember, are those of a batch without it. Whoever weighs the losses counts it and
    gives it no weight.

    Args:
        model: called as ``model(batch["input"])``; returns a tensor or a dict of tensors by head name.
        signals: at least one; their names must differ.
    """

    def __init__(self, model: nn.Module, signals: Sequence[Signal]) -> None:
        super().__init__()
        if not signals:
            raise ValueError("signals is empty; give at least one, the primary one first")
        names = [signal.name for signal in signals]
        if len(set(names)) < len(names):
            raise ValueError(f"signals have equal names {names}; pass name= to tell them apart")
        self.model = model
        self.signals = nn.ModuleList(signals)

    @property
    def names(self) -> list[str]:
        """The signals' names, in the order of the columns."""
        return [signal.name for signal in self.signals]  # type: ignore[misc]

    @property
    def separable(self) -> list[bool]:
        """For each column, whether its examples may be weighed apart."""
        return [signal.separable for signal in self.signals]  # type: ignore[misc]

    def outputs(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> Outputs:
        """Return the model's outputs; with ``params``, as if those were its parameters, and touching none of its buffers.

        Raises:
            ValueError: ``params`` names what is no parameter of the model.
        """
        input = entry(batch, "input", "objective")
        if params is None:
            return self.model(input)
        return functional_call(self.model, _replaced(self.model, params), (input,), tie_weights=False)

    def forward(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the losses (B, K), differentiable by the model's parameters, or by ``params`` where they are given.

        ``params`` maps names as in ``model.named_parameters()`` to tensors; that path is free of side effects (batch
        normalisation keeps its statistics), so that it can be probed.
        """
        if params is not None:
            return self._losses(batch, params)
        input = entry(batch, "input", "objective")
        finite_B = torch.ones(len(input), dtype=torch.bool, device=input.device)
        if input.is_floating_point():
            finite_B = torch.isfinite(input.detach()).flatten(1).all(1) if input.dim() > 1 else torch.isfinite(input)
        # One example whose features overflow would stay in the running statistics for good, so they are kept to go back to.
        before = [buffer.clone() for buffer in self.model.buffers()] if self.model.training else []
        if finite_B.all():
            losses_BK = self._losses(batch)
            finite_B = torch.isfinite(losses_BK.detach()).all(1)
            if finite_B.all():
                return losses_BK
        # Rare: the bad rows go, and the rest is evaluated without them, since 0 * NaN in a backward pass is NaN.
        return self._without(batch, finite_B, before)

    def _losses(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> Tensor:
        outputs = self.outputs(batch, params)
        size = len(batch["input"])
        columns = [signal(outputs, batch) for signal in self.signals]
        for signal, column in zip(self.signals, columns, strict=True):
            if column.shape != ((size,) if signal.separable else ()):
                raise ValueError(
                    f"signal {signal.name!r} returned {tuple(column.shape)} for a batch of {size}; expected "
                    f"{'one loss an example' if signal.separable else 'a scalar'}"
                )
        return torch.stack([column.expand(size) for column in columns], dim=1)

    def _without(self, batch: Batch, finite_B: Tensor, before: list[Tensor]) -> Tensor:
        size = len(finite_B)
        while True:
            for buffer, value in zip(self.model.buffers(), before, strict=False):
                buffer.copy_(value)
            rows = finite_B.nonzero().squeeze(1)
            if len(rows) == 0:
                return torch.full((size, len(self.signals)), torch.nan, device=finite_B.device)
            losses_RK = self._losses(rows_of(batch, rows, size))
            good_R = torch.isfinite(losses_RK.detach()).all(1)
            if good_R.all():
                holes_BK = losses_RK.new_full((size, losses_RK.shape[1]), torch.nan)
                return holes_BK.index_copy(0, rows, losses_RK)
            finite_B = finite_B.clone()
            finite_B[rows[~good_R]] = False


def _replaced(model: nn.Module, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a call with other parameters and copies of the buffers, each by one place in the model.

    Of a module that is registered under two names, `functional_call` would replace the same place twice, and then leave the
    replacement in it; so every module is named once, and a tensor that two modules share is given to both.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    if unknown := sorted(set(params) - set(names.values())):
        raise ValueError(f"params names {unknown[0]!r}, which is no name in model.named_parameters()")
    values = {own: params[name] for own, name in names.items() if name in params}
    values |= {id(buffer): buffer.clone() for buffer in model.buffers()}
    return {
        f"{path}.{own}".lstrip("."): values[id(held)]
        for path, owner in model.named_modules()
        for own, held in (*owner._parameters.items(), *owner._buffers.items())
        if id(held) in values
    }
