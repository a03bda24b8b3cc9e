"""Which module each parameter of a model belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn

Level = Literal["block", "parameter", "model"]


@dataclass(frozen=True)
class Partition:
    """The modules of a model, for which importances are learned apart.

    Attributes:
        names: the modules' names, M of them.
        module_of: the module, 0 to M - 1, of each parameter by its name. Heads are in no module.
    """

    names: tuple[str, ...]
    module_of: Mapping[str, int]

    @classmethod
    def of(cls, model: nn.Module, level: Level = "block", heads: Iterable[str] | None = None) -> Partition:
        """Divide a model.

        Args:
            model: any model.
            level: "block": what the model's own structure calls a stage or a block, see `blocks`; "parameter": each
                parameter tensor (MAOAL's Parameter-L); "model": all in one (Model-L).
            heads: the names of modules to leave out, as in ``model.named_modules()``; None asks the model (see
                `heads_of`), an empty list leaves out nothing.

        Raises:
            ValueError: an unknown level, a head that is not in the model, or nothing but heads.
        """
        left_out = heads_of(model) if heads is None else list(heads)
        known = {name for name, _ in model.named_modules()}
        for head in left_out:
            if head not in known:
                raise ValueError(f"heads names {head!r}, which is no module of {type(model).__name__}")
        names = [name for name, _ in model.named_parameters() if not any(_within(name, head) for head in left_out)]
        if not names:
            raise ValueError(f"{type(model).__name__} has no parameters outside of its heads {left_out}; give heads=[]")
        if level == "parameter":
            return cls(tuple(names), {name: place for place, name in enumerate(names)})
        if level == "model":
            return cls(("model",), dict.fromkeys(names, 0))
        if level != "block":
            raise ValueError(f"level={level!r} is not one of {', '.join(get_args(Level))}")
        return cls._of_groups(blocks(model, names), names)

    @classmethod
    def given(cls, model: nn.Module, modules: Mapping[str, Sequence[str]]) -> Partition:
        """Divide a model as told; what is in no module has weight 1 for every signal.

        Args:
            model: any model.
            modules: for each module its submodules or parameters, by their names in the model.

        Raises:
            ValueError: a name that the model has not, or one that is in two modules.
        """
        names = [name for name, _ in model.named_parameters()]
        for module, members in modules.items():
            for member in members:
                if not any(_within(name, member) for name in names):
                    raise ValueError(f"module {module!r} names {member!r}, which holds no parameter of the model")
        for name in names:
            owners = [module for module, members in modules.items() if any(_within(name, m) for m in members)]
            if len(owners) > 1:
                raise ValueError(f"parameter {name!r} is in the modules {owners}; it can be in one")
        return cls._of_groups(modules, names)

    @classmethod
    def _of_groups(cls, modules: Mapping[str, Sequence[str]], names: Sequence[str]) -> Partition:
        found = {
            name: place
            for name in names
            for place, members in enumerate(modules.values())
            if any(_within(name, member) for member in members)
        }
        return cls(tuple(modules), found)

    def __len__(self) -> int:
        return len(self.names)

    def within(self, model: nn.Module) -> dict[str, int]:
        """Return ``module_of`` by the names of the same model as it is now, which a wrapper may have put a prefix before.

        Raises:
            ValueError: it is another model.
        """
        names = dict.fromkeys(name for name, _ in model.named_parameters())
        first = next(iter(self.module_of))
        for name in names:
            prefix = name.removesuffix(first)
            if name.endswith(first) and all(prefix + each in names for each in self.module_of):
                return {prefix + each: module for each, module in self.module_of.items()}
        raise ValueError(
            f"{type(model).__name__} has no parameter {first!r} or not all the others: the partition is another model's"
        )


def heads_of(model: Any) -> list[str]:
    """Return the names of the modules that a model says are its heads.

    Asked in this order: an attribute ``heads`` that lists names; timm's ``get_classifier()``; a child with one of the
    customary names (`HEADS`). A model that answers none of these has no head.
    """
    named = {id(module): name for name, module in reversed(list(model.named_modules()))}
    listed = getattr(model, "heads", None)
    if isinstance(listed, (tuple, list)) and all(isinstance(each, str) for each in listed):
        return list(listed)
    if callable(getattr(model, "get_classifier", None)):
        found = model.get_classifier()
        return [named[id(each)] for each in (found if isinstance(found, tuple) else (found,)) if id(each) in named]
    return [name for name, _ in model.named_children() if name in HEADS]


HEADS = ("head", "heads", "fc", "classifier", "head_dist", "fc_norm_head", "lm_head", "score")


def blocks(model: nn.Module, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the blocks that some parameters of a model fall into, by name, each with the modules that it is made of.

    The children of the model are its blocks. One child that holds everything is looked into, and so is the only one that
    is a row of composite modules, such as ``blocks`` of a vision transformer or ``stages`` of a ConvNeXt; of several such
    rows, as of a ResNet's four layers, each is a block. What has only vectors (normalisation, biases) joins the block
    before it, and so do parameters of the model's own, such as position embeddings, the first one.
    """
    shapes = {name: parameter.dim() for name, parameter in model.named_parameters()}
    units = _units(model, "", names)
    while True:
        rows = [unit for unit in units if _is_row(model, unit, names)]
        if len(units) == 1 and _children(model, units[0], names):
            units = _units(model.get_submodule(units[0]), units[0] + ".", names)
        elif len(rows) == 1:
            place = units.index(rows[0])
            inside = _units(model.get_submodule(rows[0]), rows[0] + ".", names)
            units = [*units[:place], *inside, *units[place + 1 :]]
        else:
            break
    found: dict[str, list[str]] = {}
    waiting: list[str] = []
    for unit in units:
        own = unit in shapes
        small = own or all(shapes[name] <= 1 for name in names if _within(name, unit))
        if not small:
            found[unit] = [*waiting, unit]
            waiting = []
        elif found and not own:
            found[next(reversed(found))].append(unit)
        else:
            waiting.append(unit)
    if waiting and found:
        found[next(iter(found))].extend(waiting)
    return found or {"model": waiting}


def _units(module: nn.Module, prefix: str, names: Sequence[str]) -> list[str]:
    """Return the parameters of a module's own and its children that hold some of the named parameters, in their order."""
    own = [prefix + name for name, _ in module.named_parameters(recurse=False) if prefix + name in names]
    return own + [prefix + name for name in _with_parameters(module, prefix, names)]


def _with_parameters(module: nn.Module, prefix: str, names: Sequence[str]) -> Iterator[str]:
    for name, _ in module.named_children():
        if any(_within(each, prefix + name) for each in names):
            yield name


def _children(model: nn.Module, unit: str, names: Sequence[str]) -> list[nn.Module]:
    """Return the children of a unit that hold some of the named parameters."""
    try:
        module = model.get_submodule(unit)
    except AttributeError:  # a parameter
        return []
    return [module.get_submodule(name) for name in _with_parameters(module, unit + ".", names)]


def _is_row(model: nn.Module, unit: str, names: Sequence[str]) -> bool:
    """Say whether a unit is a sequence or list of modules that have modules inside."""
    children = _children(model, unit, names)
    composite = [child for child in children if next(child.children(), None) is not None]
    return (
        len(children) > 1
        and len(composite) == len(children)
        and isinstance(model.get_submodule(unit), (nn.Sequential, nn.ModuleList))
    )


def _within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".") or module == ""
