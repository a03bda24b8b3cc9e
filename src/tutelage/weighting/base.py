r"""How far does each loss count, for each example and each module of the model?

Every weighting known to us factors, c[i,k,m] = u[i,k] * a[k,m], so a method states u, or a, or both, and this file turns
them into gradients:

.. math:: g_m = \frac1n \sum_i \sum_k u_{ik}\, a_{km}\, \nabla_{\theta_m} \ell_k(x_i)

with one backward pass when a is all ones. Otherwise there are two ways to the same sum, of which the cheaper is taken: one
pass for each distinct row of a, into the modules where it is not 0; or one for each distinct column, of the losses weighed
for that column's modules, down to those modules and no further. Many losses over few modules are cheap by columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tutelage.batches import rows_of
from tutelage.configured import Configured, plain
from tutelage.distributed import is_distributed, is_main_process, mean_over_processes
from tutelage.hypergradient.field import columns_are_cheaper
from tutelage.signals import Batch


@dataclass(frozen=True)
class ModuleWeights:
    """a: how far each signal counts in each module.

    Attributes:
        values_KM: the weights, on the model's device.
        module_of: the module (a column of ``values_KM``) of each parameter, by its name in ``model.named_parameters()``.
            A parameter that is not named, such as a head that only its own loss trains, has weight 1 for every signal.
    """

    values_KM: Tensor
    module_of: Mapping[str, int]


class Weighting(Configured, nn.Module):
    """The base of every weighting; by itself it is the plain sum of all signals.

    Whatever a weighting learns is a parameter or a buffer, so that ``state_dict()`` is all of it. Its parameters that require
    a gradient are learned by the model's own optimiser, to which they are given; what `adapt` learns does not require one.

    With several processes, ``backward``, ``adapt`` and ``state_dict`` are calls that all of them make.

    Attributes:
        name: by which commands and settings know the method; see `tutelage.weighting.registry`.
        learns: whether `adapt` learns something on held-out examples.
        adapts_first: whether `adapt` is called before ``backward``, on the same batch, at every step.
        weighs_signals: whether it weighs signals against one another, or examples whose signals keep their proportions.
        skipped: how many examples have had no weight because a loss of theirs was not finite (a buffer, int64).
    """

    not_identifying = ("model",)
    name: ClassVar[str] = ""
    learns: ClassVar[bool] = False
    adapts_first: ClassVar[bool] = False
    weighs_signals: ClassVar[bool] = True
    skipped: Tensor

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Say whether the class learns, and give it a name of its own."""
        super().__init_subclass__(**kwargs)
        cls.learns = cls.adapt is not Weighting.adapt
        if "name" not in cls.__dict__:
            cls.name = f"{cls.__module__}.{cls.__qualname__}"

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("skipped", torch.zeros((), dtype=torch.int64))

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor | None:
        """Return u (B, K) without a graph, or None for all ones. ``losses_BK`` is detached and finite."""
        return None

    def module_weights(self, model: nn.Module) -> ModuleWeights | None:
        """Return a and the partition that it speaks of, or None for all ones."""
        return None

    def begin_epoch(self, epoch: int, objective: Any, batches: Iterable[Batch]) -> None:
        """Look at all examples before an epoch of training, counted from 0; most weightings do not.

        Args:
            epoch: which one begins.
            objective: the `Objective` whose losses are weighed.
            batches: every training example once, not augmented, loaded as they are asked for; with several processes each
                brings its share.
        """

    def backward(self, losses: Tensor, batch: Batch, model: nn.Module) -> None:
        """Add the weighted gradient to ``.grad`` of the model's parameters, in the place of ``loss.backward()``.

        Args:
            losses: (B, K), as an `Objective` returns them. A row that is not finite is counted in `skipped` and left
                out; the mean is over the rest, in all processes together. A batch of which one process has nothing to
                train on is left out by all.
            batch: what the losses were computed from.
            model: the model whose parameters are trained.

        Raises:
            ValueError: ``losses`` is no matrix, has no graph, or has another number of signals than the weighting.
        """
        if losses.dim() != 2:
            raise ValueError(
                f"losses has shape {tuple(losses.shape)}; expected (B, K): one row an example, one column a signal"
            )
        finite_B = torch.isfinite(losses.detach()).all(1)
        count = int(finite_B.sum())
        if count and not losses.requires_grad:
            raise ValueError(
                "losses have no graph, so nothing could be trained: the model has no parameter that requires a gradient, or "
                "the objective was called under torch.no_grad()"
            )
        self.skipped += len(losses) - count
        share = _share_of_step(count, losses.device)
        if share == 0:
            self.skipped += count
            return
        if count < len(losses):
            rows = finite_B.nonzero().squeeze(1)
            losses = losses[rows]
            batch = rows_of(batch, rows, len(finite_B))
        u_BK = self.example_weights(losses.detach(), batch)
        totals_K = (losses if u_BK is None else u_BK * losses).mean(0)
        self.descend(totals_K if share == 1 else share * totals_K, model)

    def descend(self, totals_K: Tensor, model: nn.Module) -> None:
        """Add the gradient of each signal's total, weighed for each module, to ``.grad``.

        With several processes a total counts as many times as there are processes, whose gradients are then averaged.
        """
        a = self.module_weights(model)
        if a is None:
            totals_K.sum().backward()
        else:
            accumulate(totals_K, a, model)

    def adapt(self, objective: Any, batch: Batch, held_out: Batch, optimizer: torch.optim.Optimizer) -> None:
        """Take one step on what the weighting learns; nothing to do for a weighting that learns nothing.

        Args:
            objective: the `Objective` whose losses are weighed.
            batch: training examples.
            held_out: examples that are not trained on; the primary signal's mean loss on them is what is improved.
            optimizer: the model's own, whose step is looked ahead.
        """

    def config(self) -> dict[str, Any]:
        """Return the name and the arguments, as `tutelage.weighting.build` takes them, without the model."""
        return {"name": self.name, **plain(self._arguments)}

    def learned(self) -> dict[str, Any]:
        """Return what has been learned so far, as few plain numbers by name, to be followed over a training."""
        return {}

    def module_names(self) -> list[str]:
        """Return the names of the modules that `learned` tells apart, M of them; none for most weightings."""
        return []

    def last_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor | None:
        """Return how far each signal of some examples counts when training has ended, (B, K).

        None for a weighting whose weights of a batch are forgotten with it.
        """
        u_BK = self.example_weights(losses_BK, batch)
        return torch.ones_like(losses_BK) if u_BK is None else u_BK

    def columns(self, names: Sequence[str] | None) -> dict[str, Tensor]:
        """Return what is kept for each example of the data set, as columns (N); nothing for most weightings.

        Args:
            names: the signals' names.
        """
        return {}

    def export(self, path: str | Path, names: Sequence[str] | None = None, ids: Sequence[str] | None = None) -> bool:
        """Write the examples' weights as parquet, one row for each, and return whether there are any.

        With several processes all call it and the first one writes.

        Args:
            path: the file.
            names: the signals' names, as ``objective.names`` has them.
            ids: an id for each example that outlives the order of the data set.

        Raises:
            ValueError: another number of names than of signals, or of ids than of examples.
        """
        columns = self.columns(names)
        if not columns:
            return False
        import pandas as pd

        count = len(next(iter(columns.values())))
        if ids is not None and len(ids) != count:
            raise ValueError(
                f"ids names {len(ids)} examples of {count}; give one id for each index, in the order of index"
            )
        if is_main_process():
            frame = pd.DataFrame({"index": range(count), **({} if ids is None else {"id": list(ids)})})
            for name, values in columns.items():
                frame[name] = values.cpu().numpy()
            frame.to_parquet(path, index=False)
        return True

    def save(self, path: str | Path) -> None:
        """Write ``state_dict()`` as safetensors; with several processes all call it and the first one writes."""
        state = {name: value.detach().cpu().contiguous().clone() for name, value in self.state_dict().items()}
        if is_main_process():
            save_file(state, path)

    def load(self, path: str | Path) -> None:
        """Read what `save` wrote; the number of processes may be another.

        Raises:
            RuntimeError: it is the state of another weighting.
        """
        self.load_state_dict(load_file(path))


def accumulate(totals_K: Tensor, a: ModuleWeights, model: nn.Module) -> None:
    """Add sum_k a[k, m] * grad_m totals[k] to ``.grad``.

    Raises:
        ValueError: another number of signals in one than in the other.
    """
    if len(a.values_KM) != len(totals_K):
        raise ValueError(f"the weighting was made for {len(a.values_KM)} signals, the objective has {len(totals_K)}")
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rows = torch.unique(a.values_KM, dim=0)
    columns = torch.unique(a.values_KM, dim=1)
    way = _by_columns if columns_are_cheaper(len(rows), columns.shape[1]) else _by_rows
    gradients = way(totals_K, a, trained)
    add_gradients(mean_over_processes(gradients, 1, trained)[0], trained)


def _by_rows(totals_K: Tensor, a: ModuleWeights, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    rows, row_of_K = torch.unique(a.values_KM, dim=0, return_inverse=True)
    gradients: dict[str, Tensor] = {}
    for row, weights in enumerate(rows.tolist()):
        scales = {name: weights[a.module_of[name]] if name in a.module_of else 1.0 for name in trained}
        active = {name: p for name, p in trained.items() if scales[name] != 0}
        total = totals_K[row_of_K == row].sum()
        for name, gradient in gradients_of(total, active, retain_graph=row + 1 < len(rows)).items():
            scaled = gradient if scales[name] == 1 else scales[name] * gradient
            gradients[name] = gradients[name] + scaled if name in gradients else scaled
    return gradients


def _by_columns(totals_K: Tensor, a: ModuleWeights, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    columns, column_of_M = torch.unique(a.values_KM, dim=1, return_inverse=True)
    column_of = {name: int(column_of_M[a.module_of[name]]) if name in a.module_of else -1 for name in trained}
    weights = {-1: torch.ones_like(totals_K), **dict(enumerate(columns.T.to(totals_K)))}
    wanted = sorted(set(column_of.values()))
    gradients: dict[str, Tensor] = {}
    for place, column in enumerate(wanted):
        active = {name: p for name, p in trained.items() if column_of[name] == column}
        counts_K = weights[column] != 0  # a loss of weight 0 is not passed through
        total = (weights[column][counts_K] * totals_K[counts_K]).sum()
        gradients |= gradients_of(total, active, retain_graph=place + 1 < len(wanted))
    return gradients


def gradients_of(total: Tensor, parameters: Mapping[str, Tensor], retain_graph: bool) -> dict[str, Tensor]:
    """Return the gradient of a scalar by each of the parameters that it depends on."""
    if not parameters or not total.requires_grad:
        return {}
    found = torch.autograd.grad(total, list(parameters.values()), retain_graph=retain_graph, allow_unused=True)
    return {name: gradient for name, gradient in zip(parameters, found, strict=True) if gradient is not None}


def add_gradients(gradients: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> None:
    """Add gradients to ``.grad``; those of all processes, since ``autograd.grad`` passes the wrappers' hooks by."""
    for name, gradient in gradients.items():
        parameter = trained[name]
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _share_of_step(count: int, device: torch.device) -> float:
    """Return what a mean over this process's examples counts in a mean over the processes; 0 where one of them has none."""
    if not is_distributed():
        return float(count > 0)
    counts = torch.zeros(torch.distributed.get_world_size(), dtype=torch.int64, device=device)
    counts[torch.distributed.get_rank()] = count
    torch.distributed.all_reduce(counts)
    each = counts.tolist()
    return count * len(each) / sum(each) if min(each) > 0 else 0.0
