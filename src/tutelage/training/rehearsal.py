"""A training tried on two examples, before anything long: what cannot work is refused in the first second."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from tutelage.batches import call, map_tensors
from tutelage.distributed import rank_world
from tutelage.signals import Outputs, Signal
from tutelage.signals.base import by_head
from tutelage.training import seeds
from tutelage.training.batches import Augmentation, Examples, fetch
from tutelage.training.optimization import Optimization

Model = TypeVar("Model", bound=nn.Module)


def rehearse(
    section: str,
    make: Callable[[], Model],
    examples: Examples,
    *,
    optimization: Optimization,
    optimization_name: str = "training",
    weights: str | None = None,
    augment: Augmentation | None = None,
    signals: Sequence[Signal] = (),
    weigh: Callable[[Model], object] | None = None,
) -> Model:
    """Try a training on two examples: the model, its outputs, every loss, the optimiser and the weighting.

    A model without stored weights is built and asked on the ``meta`` device, where nothing is computed and no memory taken;
    what cannot be done there is done for real. The losses are those of outputs that are 0.

    Args:
        section: the settings in question, as a message should begin: ``student.name='vit_tiny', image_size=7``.
        make: builds the model, with its first weights.
        examples: the training data.
        optimization: how the model is trained.
        optimization_name: the settings' name of that.
        weights: where the first weights are read from; None where they are random.
        augment: the random change of the training images.
        signals: the losses.
        weigh: makes the weighting of a model, or several.

    Returns:
        The model that was tried, an outline if it could be one.

    Raises:
        ValueError: something of it does not work, with ``section`` and the reason.
    """
    world = rank_world()[1]
    if optimization.batch_size % world:
        raise ValueError(
            f"{optimization_name}.batch_size={optimization.batch_size} is shared by {world} processes; make it a multiple of "
            f"{world}"
        )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the training itself gives the same warnings
        with about(section), seeds.fixed(0, "rehearsal"):
            batch = fetch(examples, range(min(2, len(examples))))
            if augment is not None:
                batch["input"] = augment(batch["input"])
        with about(section):
            model, outputs = outline(make, batch["input"], real=weights is not None)
        with about(optimization_name):
            optimization.build(model, getattr(model, "heads", ()))
        for signal in signals:
            with about(f"{section}, the loss {signal.name!r}"), torch.no_grad():
                signal(outputs, batch)
        if weigh is not None:
            with about("weighting"):
                weigh(model)
    return model


def outline(
    make: Callable[[], Model],
    input: Any,
    ask: Callable[[Model, Any], Outputs] = lambda model, input: call(model, input),
    *,
    real: bool = False,
) -> tuple[Model, Outputs]:
    """Return a model and its outputs, all of them 0: an outline without memory where it can be one.

    Args:
        make: builds the model.
        input: of a few examples.
        ask: from (model, input) to the outputs.
        real: build the model with its memory, such as one whose weights are stored.
    """

    @torch.no_grad()
    def shapes(model: Model, input: Any) -> Outputs:
        return by_head(ask(model.eval(), input))

    try:
        with torch.device("cpu") if real else torch.device("meta"):
            model = make()
        outputs = shapes(model.to("meta"), map_tensors(input, lambda tensor: tensor.to("meta")))
    except RuntimeError:  # of the settings or of an operation that meta lacks: done for real, it tells
        model = make()
        outputs = shapes(model, input)
    return model, map_tensors(outputs, lambda tensor: torch.zeros(tensor.shape, dtype=tensor.dtype))


@contextmanager
def about(section: str) -> Iterator[None]:
    """Let every error of what is tried name the settings; a file or a package that is missing names itself."""
    try:
        yield
    except (OSError, ImportError):
        raise
    except Exception as error:  # what cannot work fails in many ways
        first = str(error).strip().partition("\n")[0]
        why = first if isinstance(error, ValueError) else f"{type(error).__name__}: {first}"
        raise ValueError(f"{section}: tried on two examples, it fails: {why}") from error
