"""Looking at an objective without leaving a trace: the one way in which derivatives evaluate it."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parallel import DataParallel, DistributedDataParallel

from tutelage.batches import Batch, map_tensors, rows_of, size_of
from tutelage.checks import nearest
from tutelage.hypergradient.named import named_parameters
from tutelage.signals import Objective
from tutelage.signals.base import unobserved
from tutelage.signals.objective import places_of

Parameters = Mapping[str, Tensor]
Result = TypeVar("Result")

EXAMPLES_TO_TRY = 8


class Probe:
    """An objective on one batch, as a function of its parameters, see `named_parameters`, and of nothing else.

    However often it runs, each run draws the same dropout masks (those that the next training step would draw), in float32
    or wider and without autocast, in the train or eval mode that the model is in, past the wrappers of `torch.compile` and
    of DistributedDataParallel. Afterwards buffers, random states and gradients are what they were.

    Args:
        objective: the `Objective`, compiled or not; the given one is not touched.
        batch: the examples, (B, ...) each.

    Attributes:
        objective: the objective, past its model's wrappers.
        model: the model, past its wrappers.
        prefix: what the wrappers put before the names of the model's parameters.
        parameters: the parameters by the names of `named_parameters`, detached, float32 or wider.
        trainable: the names of those that require a gradient.
    """

    def __init__(self, objective: Objective, batch: Batch) -> None:
        objective = uncompiled(objective)
        named = named_parameters(objective)
        model, self.prefix = _unwrapped(objective.model)
        if self.prefix:
            objective = _with(objective, model=model)
        self.objective = objective
        self.model = model
        self.batch: Batch = map_tensors(batch, _widened)
        self.parameters = {name: _widened(p.detach()) for name, p in named.items()}
        self.trainable = [name for name, p in named.items() if p.requires_grad]
        if not self.parameters:
            raise ValueError(f"the model {type(model).__name__} has no parameters, so nothing can be derived by them")
        self.device = next(iter(self.parameters.values())).device
        self._inside = _Inside(objective)
        names = {id(p): name for name, p in named.items()}
        buffers = {id(buffer): buffer for buffer in model.buffers()}
        self._parameter_at = places_of(self._inside, names)
        self._buffer_places = places_of(self._inside, buffers)
        self._random_state = torch.get_rng_state()
        if self.device.type != "cpu":
            self._device_random_state = torch.get_device_module(self.device).get_rng_state(self.device)

    def run(self, changed: Parameters, work: Callable[[Tensor], Result]) -> Result:
        """Return ``work(losses)``, the losses (B, K) being those at ``parameters`` with some of them ``changed``.

        The parameters stay changed while ``work`` runs: a checkpointed model computes its activations again, from the
        parameters that it then finds, when ``work`` takes a gradient.
        """
        values = {**self.parameters, **changed}
        copies = {id(buffer): _widened(buffer).clone() for buffer in self._buffer_places.values()}
        replaced = {
            **{place: values[name] for place, name in self._parameter_at.items()},
            **{place: copies[id(buffer)] for place, buffer in self._buffer_places.items()},
        }
        with self._undisturbed():
            return functional_call(self._inside, replaced, (self.batch, work), tie_weights=False)

    def leaves(self, at: Parameters | None = None) -> dict[str, Tensor]:
        """Return the trainable parameters, as they are or ``at`` other values, as new leaves of a graph."""
        values = self.parameters if at is None else {**self.parameters, **at}
        return {name: values[name].detach().requires_grad_() for name in self.trainable}

    def direction(self, given: Parameters) -> dict[str, Tensor]:
        """Return a direction in the parameters' own types.

        Raises:
            ValueError: it names a parameter that model and signals have not, or has another shape.
        """
        for name, value in given.items():
            if name not in self.parameters:
                raise ValueError(
                    f"the direction names {name!r}, which is no name in objective.model.named_parameters() and no "
                    "objective.signals[K].NAME"
                    f"{nearest(name, self.parameters)}"
                )
            if value.shape != self.parameters[name].shape:
                raise ValueError(
                    f"the direction is {tuple(value.shape)} for {name!r}, whose shape is {tuple(self.parameters[name].shape)}"
                )
        return {name: value.detach().to(self.parameters[name]) for name, value in given.items()}

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        devices = [] if self.device.type == "cpu" else [self.device]
        kind = (
            {"device_type": self.device.type} if devices else {}
        )  # without devices, the state of the CPU alone is kept
        fast_attention = torch.backends.mha.get_fastpath_enabled()
        with torch.random.fork_rng(devices, **kind), full_types(), _eagerly():
            torch.set_rng_state(self._random_state)
            if devices:
                torch.get_device_module(self.device).set_rng_state(self._device_random_state, self.device)
            torch.backends.mha.set_fastpath_enabled(False)  # the inference kernels have no derivative
            try:
                yield
            finally:
                torch.backends.mha.set_fastpath_enabled(fast_attention)


def few_of(batch: Batch) -> Batch:
    """Return the first examples of a batch, on which a way to a derivative is tried."""
    size = size_of(batch)
    return rows_of(batch, torch.arange(min(size, EXAMPLES_TO_TRY)), size)


def held_out_probe(objective: Objective, held_out: Batch) -> Probe:
    """Return a probe of the first signal alone: no teacher is asked, and no target of a side task is needed.

    Raises:
        ValueError: the batch is empty, or none.
    """
    if size_of(held_out, "held_out") == 0:
        raise ValueError("the held-out batch is empty, so nothing could be learned from it: give at least one example")
    return Probe(primary_only(objective), held_out)


def primary_only(objective: Objective) -> Objective:
    """Return the objective with its first signal alone."""
    objective = uncompiled(objective)
    return _with(objective, signals=nn.ModuleList([objective.signals[0]]))


def uncompiled(objective: Objective) -> Objective:
    """Return the objective inside of what `torch.compile` makes of it."""
    while "_orig_mod" in objective._modules:
        # The stubs know no kind of module here, and what is compiled twice is no Objective before the last turn.
        objective = objective._modules["_orig_mod"]  # type: ignore[assignment]
    return objective


@contextmanager
def full_types() -> Iterator[None]:
    """Compute in the tensors' own types inside of a caller's autocast too: half precision is too coarse for derivatives."""
    accelerator = torch.accelerator.current_accelerator()
    with ExitStack() as stack:
        for kind in {"cpu"} if accelerator is None else {"cpu", accelerator.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def _with(objective: Objective, **modules: nn.Module) -> Objective:
    """Return an objective of the same kind with other parts, which leaves the given one alone."""
    changed = copy.copy(objective)
    changed._modules = {**objective._modules, **modules}
    return changed


class _Inside(nn.Module):
    """Runs work where the objective's parameters are replaced: `functional_call` undoes that when ``forward`` returns."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Batch, work: Callable[[Tensor], Result]) -> Result:
        with unobserved():
            losses_BK = self.objective(batch)
        return work(losses_BK)


def marked(derivatives_BK: Tensor, losses_BK: Tensor) -> Tensor:
    """Return derivatives with NaN in the row of each example that has a loss which is not finite."""
    return derivatives_BK.masked_fill(~torch.isfinite(losses_BK.detach()).all(1, keepdim=True), torch.nan)


def _unwrapped(model: nn.Module) -> tuple[nn.Module, str]:
    """Return the model inside of its wrappers, and what they put before the names of its parameters."""
    prefix = ""
    while True:
        if isinstance(model, (DistributedDataParallel, DataParallel)):
            model, prefix = model.module, prefix + "module."
        elif "_orig_mod" in model._modules:  # torch.compile's OptimizedModule, without importing the compiler
            model, prefix = model.get_submodule("_orig_mod"), prefix + "_orig_mod."
        else:
            return model, prefix


def _widened(value: Tensor) -> Tensor:
    """Return floats of half precision as float32, and all else as it is."""
    return value.float() if value.is_floating_point() and value.element_size() < 4 else value


def _eagerly() -> AbstractContextManager[object]:
    """Keep compiled parts of the model from being compiled anew for replaced parameters."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
