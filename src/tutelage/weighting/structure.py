"""A model's own structure: which modules are heads, and which blocks the rest is made of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from typing import Any, cast

import torch
from torch import Tensor, nn

from tutelage.hypergradient.probe import Probe
from tutelage.signals import Batch, Objective, Signal

_HEAD = re.compile(
    r"(?!.*(conv|att))(.*_)?(heads?|classifiers?)\d*(_.*)?|fc|score|logits|cls|qa_outputs|aux(logits)?\d*",
    re.IGNORECASE,
)
_OUTPUTS = ("decoder", "out", "output", "output_layer")  # of a linear layer alone


def heads_of(model: Any) -> list[str]:
    """Return the names of the modules that are a model's heads, as far as names tell.

    Asked in this order: an attribute ``heads`` that lists names; timm's ``get_classifier()``; children with a customary name,
    such as ``fc``, ``main_head`` or ``aux_classifier``; the same of an only child. A model that answers none of these has no
    head.
    """
    named = {id(module): name for name, module in reversed(list(model.named_modules()))}
    listed = getattr(model, "heads", None)
    if isinstance(listed, (tuple, list)) and all(isinstance(each, str) for each in listed):
        return list(listed)
    if callable(getattr(model, "get_classifier", None)):
        found = model.get_classifier()
        return [named[id(each)] for each in (found if isinstance(found, tuple) else (found,)) if id(each) in named]
    children = dict(model.named_children())
    customary = [
        name
        for name, child in children.items()
        if _HEAD.fullmatch(name) or (name in _OUTPUTS and isinstance(child, nn.Linear))
    ]
    if not customary and len(children) == 1:
        ((name, child),) = children.items()
        return [f"{name}.{head}" for head in heads_of(child)]
    return customary


def reached_by_one(objective: Objective, batch: Batch) -> list[str]:
    """Return the names of the parameters that exactly one of several signals' losses reaches: the heads.

    Costs a forward and a backward pass for each signal, and leaves no trace in the model.
    """
    if len(objective.signals) == 1:
        return []
    # each signal alone: beside the others, what it does not reach has a gradient of 0
    alone = [Objective(objective.model, [cast(Signal, signal)]) for signal in objective.signals]
    reached = Counter(name for each in alone for name in _reached(each, batch))
    return [name for name, signals in reached.items() if signals == 1]


def _reached(objective: Objective, batch: Batch) -> list[str]:
    probe = Probe(objective, batch)
    leaves = {name: value.requires_grad_() for name, value in probe.parameters.items() if value.is_floating_point()}

    def names(losses_BK: Tensor) -> list[str]:
        if not losses_BK.requires_grad:  # of no parameter at all
            return []
        found = torch.autograd.grad(losses_BK.sum(), list(leaves.values()), allow_unused=True)
        return [name for name, gradient in zip(leaves, found, strict=True) if gradient is not None]

    return probe.run(leaves, names)


def blocks(model: nn.Module, names: Collection[str]) -> dict[str, list[str]]:
    """Return the blocks that some parameters of a model fall into, by name, each with the modules that it is made of.

    The children of the model are its blocks, but for those whose structure repeats: a row of composite modules, such as
    ``blocks`` of a vision transformer or ``stages`` of a ConvNeXt, is one block for each, wherever in the model it is; of
    several rows side by side, as of a ResNet's four layers, each is a block. What has only vectors (normalisation, biases)
    joins the block before it, and so do the own parameters of what is divided, such as position embeddings; what comes
    before any block joins the first.
    """
    inside = _Structure(model, names)
    found: dict[str, list[str]] = {}
    first: list[str] = []
    for unit in inside.divided(""):
        own = [shape for name, shape in inside.shapes.items() if within(name, unit)]
        if unit not in inside.shapes and any(len(shape) > 1 for shape in own):
            found[unit] = [unit] if found else [*first, unit]
        elif found:
            found[next(reversed(found))].append(unit)
        else:
            first.append(unit)
    return found or {"model": first}


class _Structure:
    """A model, as far as some of its parameters go."""

    def __init__(self, model: nn.Module, names: Collection[str]) -> None:
        self.model = model
        self.shapes = {name: p.shape for name, p in model.named_parameters() if name in names}
        self.numbers: Counter[str] = Counter()  # in the parameters of each module
        for name, shape in self.shapes.items():
            places = name.split(".")
            for depth in range(len(places) + 1):
                self.numbers[".".join(places[:depth])] += shape.numel()

    def units(self, at: str) -> list[str]:
        """Return the own parameters and the children of a module, or nothing of a parameter, in their order."""
        if at in self.shapes:
            return []
        module, prefix = self.model.get_submodule(at), f"{at}.".removeprefix(".")
        own = [prefix + name for name, _ in module.named_parameters(recurse=False)]
        children = [prefix + name for name, _ in module.named_children()]
        return [unit for unit in (*own, *children) if unit in self.numbers]

    def divided(self, at: str) -> list[str]:
        """Return the units of a module, those that repeat a structure divided in their turn."""
        units, rows, blocks = self.units(at), [], set()
        while True:
            rows = [unit for unit in units if self.is_row(unit)]
            opened = units if len(units) == 1 else rows
            inside = self.units(opened[0]) if len(opened) == 1 else []
            if all(unit in self.shapes for unit in inside):
                break
            if rows:
                blocks.update(inside)
            units = _opened(units, opened[0], inside)
        blocks.update(rows)
        hold = [unit for unit in units if unit not in blocks and (self.holds_row(unit) or self.repeats(unit))]
        alike = Counter(type(self.model.get_submodule(unit)) for unit in hold)
        hold = [
            unit
            for unit in hold
            if alike[type(self.model.get_submodule(unit))] < 3  # else they are the row
            # attributes of one class are a row where they are most of it, and else the branches of one block
            and (self.holds_row(unit) or self.numbers[unit] > self.numbers[at] / 2)
        ]
        for unit in sorted(hold, key=self.numbers.__getitem__, reverse=True):
            if all(self.numbers[unit] > self.numbers[block] for block in blocks):
                inside = self.divided(unit)
                blocks.update(inside)
                units = _opened(units, unit, inside)
        return units

    def is_row(self, unit: str) -> bool:
        """Say whether a unit is a sequence or list of modules that have modules inside."""
        children = self.units(unit)
        return (
            len(children) > 1
            and isinstance(self.model.get_submodule(unit), (nn.Sequential, nn.ModuleList))
            and all(self.is_composite(child) for child in children)
        )

    def is_composite(self, unit: str) -> bool:
        """Say whether a unit is a module with modules inside."""
        return unit not in self.shapes and next(self.model.get_submodule(unit).children(), None) is not None

    def holds_row(self, unit: str) -> bool:
        """Say whether a unit is a row or there is one in it."""
        return self.is_row(unit) or any(map(self.holds_row, self.units(unit)))

    def repeats(self, unit: str) -> bool:
        """Say whether a unit, or a module in it, has several children of one class that have composite parts."""
        children = self.units(unit)
        of_parts = [child for child in children if any(map(self.is_composite, self.units(child)))]
        classes = Counter(type(self.model.get_submodule(child)) for child in of_parts)
        return max(classes.values(), default=0) > 1 or any(map(self.repeats, children))


def _opened(units: list[str], unit: str, inside: list[str]) -> list[str]:
    place = units.index(unit)
    return [*units[:place], *inside, *units[place + 1 :]]


def within(name: str, module: str) -> bool:
    """Say whether a parameter or module is a module, or in it, by their names."""
    return name == module or name.startswith(module + ".") or module == ""
