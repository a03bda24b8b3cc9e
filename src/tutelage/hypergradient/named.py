"""What training may move, by name: the model's parameters, and those that signals own."""

from __future__ import annotations

from torch import nn

from tutelage.signals import Objective


def named_parameters(objective: Objective) -> dict[str, nn.Parameter]:
    """Return the objective's parameters, each once.

    The model's have their names in ``objective.model.named_parameters()``; those that only a signal has, such as a proxy for
    each class, are called ``objective.signals[K].NAME``.
    """
    named: dict[str, nn.Parameter] = dict(objective.model.named_parameters())
    known = {id(parameter) for parameter in named.values()}
    for k, signal in enumerate(objective.signals):
        for name, parameter in signal.named_parameters():
            if id(parameter) not in known:
                known.add(id(parameter))
                named[f"objective.signals[{k}].{name}"] = parameter
    return named
