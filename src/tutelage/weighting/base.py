r"""How far does each loss count, for each example and each module of the model?

Every weighting known to us factors, c[i,k,m] = u[i,k] * a[k,m], so a method states u, or a, or both, and this file turns
them into gradients:

.. math:: g_m = \frac1n \sum_i \sum_k u_{ik}\, a_{km}\, \nabla_{\theta_m} \ell_k(x_i)

with one backward pass when a is all ones. Otherwise there are two ways to the same sum, of which the cheaper is taken: one
pass for each distinct row of a, into the modules where it is not 0; or one for each distinct column, of the losses weighed
for that column's modules, down to those modules and no further. Many losses over few modules are cheap by columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tutelage.configured import Configured, plain
from tutelage.distributed import is_distributed, is_main_process, mean_over_processes
from tutelage.files import save_tensors, write_table
from tutelage.hypergradient import ModuleWeights, Optimizers
from tutelage.hypergradient.passes import keep_compiled_graphs, passes, weighted_gradient
from tutelage.hypergradient.probe import full_types
from tutelage.signals import Batch, Objective

Makers = Mapping[str, Callable[[Mapping[str, Any]], Any]]
"""By the name of an option, what makes its value of the plain values of a file."""


class Weighting(Configured, nn.Module):
    """The base of every weighting; by itself it is the plain sum of all signals.

    Whatever a weighting learns is a parameter or a buffer, so that ``state_dict()`` is all of it. Its parameters that require
    a gradient are learned by the model's own optimiser, to which they are given; what `adapt` learns does not require one.

    With several processes, ``backward``, ``adapt`` and ``state_dict`` are calls that all of them make.

    Attributes:
        name: by which commands and settings know the method; see `tutelage.weighting.registry`.
        title: by which reports do.
        learns: whether `adapt` learns something on held-out examples.
        adapts_first: whether `adapt` is called before ``backward``, on the same batch, at every step.
        shows_wrong_labels: whether it is shown held-out examples with other classes, so that it needs labels that are classes.
        weighs_signals: whether it weighs signals against one another, or examples whose signals keep their proportions.
        made_of: for options that are objects, how each is made of the plain values of a file.
        several_passes: whether `backward` passes through one graph several times, as weights by module do.
        skipped: how many examples have had no weight because a loss of theirs was not finite (a buffer, int64).
    """

    not_identifying = ("model",)
    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    learns: ClassVar[bool] = False
    adapts_first: ClassVar[bool] = False
    shows_wrong_labels: ClassVar[bool] = False
    weighs_signals: ClassVar[bool] = True
    several_passes: ClassVar[bool] = False
    made_of: ClassVar[Makers] = {}
    skipped: Tensor

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Say whether the class learns, and give it a name and a title of its own."""
        super().__init_subclass__(**kwargs)
        cls.learns = cls.adapt is not Weighting.adapt
        cls.several_passes = cls.several_passes or cls.module_weights is not Weighting.module_weights
        if "name" not in cls.__dict__:
            cls.name = f"{cls.__module__}.{cls.__qualname__}"
        if "title" not in cls.__dict__:
            cls.title = cls.__name__

    def __init__(self) -> None:
        super().__init__()
        if self.several_passes:
            keep_compiled_graphs()
        self.register_buffer("skipped", torch.zeros((), dtype=torch.int64))

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor | None:
        """Return u (B, K) without a graph, or None for all ones.

        ``losses_BK`` is detached; the weights of a row that is not finite are not used.
        """
        return None

    def module_weights(self, model: nn.Module) -> ModuleWeights | None:
        """Return a and the partition it refers to, or None for all ones."""
        return None

    def begin_epoch(self, epoch: int, objective: Objective, batches: Iterable[Batch]) -> None:
        """Look at all examples before an epoch of training, counted from 0; most weightings do not.

        Args:
            epoch: which one begins.
            objective: the `Objective` whose losses are weighed.
            batches: every training example once, not augmented, loaded as they are asked for; with several processes each
                brings its share.
        """

    @full_types()
    def backward(self, losses: Tensor, batch: Batch, model: nn.Module, scale: float | Tensor = 1.0) -> None:
        """Add the weighted gradient to ``.grad`` of all that the losses depend on, instead of ``loss.backward()``.

        Args:
            losses: (B, K), as an `Objective` returns them, not scaled: many weights are functions of the losses. A row that is
                not finite is counted in `skipped` and left out; the mean is over the rest, in all processes together. An
                `Objective` has taken such a row out of the graph; losses computed without one must be finite, since
                0 * NaN is NaN in a backward pass. A batch of which one process has nothing to train on is left out by all.
            batch: what the losses were computed from.
            model: the model whose parameters are trained.
            scale: what the gradient is multiplied by: 1 / n to accumulate over n batches, or a `torch.amp.GradScaler`'s
                factor, ``scaler.scale(torch.ones((), device=losses.device))``. A tensor on an accelerator is not looked at, as
                it would have to be waited for.

        Raises:
            ValueError: ``losses`` is no matrix, has no graph, or has another number of signals than the weighting; or
                ``scale`` is not a positive number.
        """
        if losses.dim() != 2:
            raise ValueError(
                f"losses has shape {tuple(losses.shape)}; expected (B, K): one row an example, one column a signal"
            )
        if (not isinstance(scale, Tensor) or scale.is_cpu) and not 0 < float(scale) < math.inf:
            raise ValueError(f"scale={scale} must be a positive number: 1 / n to accumulate the gradients of n batches")
        finite_B = torch.isfinite(losses.detach()).all(1)
        if not losses.requires_grad and finite_B.any():
            raise ValueError(
                "losses have no graph, so nothing could be trained: the model has no parameter that requires a gradient, or "
                "the objective was called under torch.no_grad()"
            )
        count = finite_B.sum()  # stays where it is: a number of it would have to be waited for
        share = _share_of_step(count)
        if not losses.requires_grad or share == 0:
            self.skipped = self.skipped.to(count.device) + len(losses)
            return
        self.skipped = self.skipped.to(count.device) + len(losses) - count
        u_BK = self.example_weights(losses.detach(), batch)
        if u_BK is not None:
            losses = torch.where(finite_B[:, None], u_BK, 0) * losses
        totals_K = torch.where(finite_B[:, None], losses, 0).sum(0) / count.clamp(min=1)
        self.descend(totals_K if share == 1 else share * totals_K, model, scale)

    def descend(self, totals_K: Tensor, model: nn.Module, scale: float | Tensor) -> None:
        """Add the gradient of each signal's total, weighted for each module and times ``scale``, to ``.grad``.

        With several processes a total counts as many times as there are processes, whose gradients are then averaged.
        """
        a = self.module_weights(model)
        if a is None:
            (scale * totals_K.sum()).backward()
        else:
            accumulate(scale * totals_K, a, model)

    def adapt(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> None:
        """Take one step on what the weighting learns; nothing to do for a weighting that learns nothing.

        Args:
            objective: the `Objective` whose losses are weighed.
            batch: training examples.
            held_out: examples that are not trained on; the primary signal's mean loss on them is what is improved.
            optimizer: the model's own, or a list of several; it is read, and its next step on the batch looked ahead. Clipping
                between the backward pass and the step is not.

        Raises:
            ValueError: an optimiser that does not train the model, or no held-out example.
        """

    def config(self) -> dict[str, Any]:
        """Return the name and the arguments, as `tutelage.weighting.build` takes them, without the model."""
        return {"name": self.name, **plain(self._arguments)}

    def learned(self) -> dict[str, Any]:
        """Return what has been learned so far, as a few plain numbers by name, for the curves of a training."""
        return {}

    def module_names(self) -> list[str]:
        """Return the names of the M modules that `learned` distinguishes; none for most weightings."""
        return []

    def last_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor | None:
        """Return the weights of some examples at the end of training, (B, K).

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
            write_table(Path(path), frame)
        return True

    def save(self, path: str | Path) -> None:
        """Write ``state_dict()`` as safetensors; with several processes all call it and the first one writes."""
        state = {name: value.detach().cpu().contiguous().clone() for name, value in self.state_dict().items()}
        if is_main_process():
            save_tensors(state, Path(path))

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
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    reached = {**trained, **other_leaves(totals_K, trained)}
    own = weighted_gradient(totals_K, passes(a, list(reached), len(totals_K)), reached)
    add_gradients(mean_of_trained(own, trained), reached)


def other_leaves(totals_K: Tensor, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what else the totals train: the leaves of their graph that are not the model's, such as a signal's parameters."""
    known = {id(parameter) for parameter in trained.values()}
    found: dict[str, Tensor] = {}
    seen, waiting = set(), [totals_K.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [before for before, _ in node.next_functions]
        leaf = getattr(node, "variable", None) if node.name() == "torch::autograd::AccumulateGrad" else None
        if isinstance(leaf, Tensor) and id(leaf) not in known:
            found[f"leaf {len(found)}"] = leaf
    return found


def mean_of_trained(gradients: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return gradients, the model's being the mean over the processes: ``autograd.grad`` passes its wrappers' hooks by."""
    others = {name: gradient for name, gradient in gradients.items() if name not in trained}
    own = {name: gradient for name, gradient in gradients.items() if name in trained}
    return {**mean_over_processes(own, 1, trained)[0], **others}


def add_gradients(gradients: Mapping[str, Tensor], leaves: Mapping[str, Tensor]) -> None:
    """Add gradients to ``.grad``."""
    for name, gradient in gradients.items():
        leaf = leaves[name]
        leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient


def _share_of_step(count: Tensor) -> float:
    """Return what a mean over this process's examples counts in a mean over the processes; 0 where one of them has none."""
    if not is_distributed():
        return 1.0
    counts = torch.zeros(torch.distributed.get_world_size(), dtype=torch.int64, device=count.device)
    counts[torch.distributed.get_rank()] = count
    torch.distributed.all_reduce(counts)
    each = counts.tolist()
    return each[torch.distributed.get_rank()] * len(each) / sum(each) if min(each) > 0 else 0.0
