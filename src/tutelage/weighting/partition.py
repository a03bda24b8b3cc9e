"""Which module each parameter of a model belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import nn

from tutelage.signals import Batch, Objective
from tutelage.weighting.structure import blocks, heads_of, reached_by_one, within

Level = Literal["block", "parameter", "model"]


@dataclass(frozen=True)
class Partition:
    """The modules of a model, for which importances are learned separately; it prints as a table.

    Attributes:
        names: the modules' names, M of them.
        module_of: the module, 0 to M - 1, of each parameter by its name. Heads are in no module.
        sizes: the numbers in each parameter of the model, by its name.
        tied: the other names of each parameter that several modules share. It counts where it is registered first.
    """

    names: tuple[str, ...]
    module_of: Mapping[str, int]
    sizes: Mapping[str, int] = field(repr=False, compare=False)
    tied: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        level: Level = "block",
        heads: Iterable[str] | None = None,
        *,
        objective: Objective | None = None,
        batch: Batch | None = None,
    ) -> Partition:
        """Divide a model.

        Args:
            model: any model.
            level: "block": what the model's own structure calls a stage or a block, see `blocks`; "parameter": each
                parameter tensor (MAOAL's Parameter-L); "model": all in one (Model-L).
            heads: the names of modules to leave out, as in ``model.named_modules()``; None finds them, by the losses where an
                objective is given and else by names (see `heads_of`); an empty list leaves out nothing.
            objective, batch: the signals and some examples that each of them speaks of; what only one signal's loss reaches
                is that signal's head.

        Raises:
            ValueError: an unknown level, heads as a text, a head that is not in the model, nothing but heads, an objective
                without a batch or of another model, or beside heads.
        """
        if isinstance(heads, str):
            raise ValueError(f"heads={heads!r} must be a list of names: heads=[{heads!r}]")
        if (objective is None) != (batch is None) or (objective is not None and heads is not None):
            raise ValueError("give heads, or objective and batch to find them, or none of the three")
        if objective is not None and batch is not None:
            if objective.model is not model:
                raise ValueError(f"objective is of another model than the {type(model).__name__} that is divided")
            left_out = reached_by_one(objective, batch)
        else:
            left_out = heads_of(model) if heads is None else list(heads)
            known = {name for name, _ in model.named_modules()}
            for head in left_out:
                if head not in known:
                    raise ValueError(f"heads names {head!r}, which is no module of {type(model).__name__}")
        names = [name for name, _ in model.named_parameters() if not any(within(name, head) for head in left_out)]
        if not names:
            raise ValueError(f"{type(model).__name__} has no parameters outside of its heads {left_out}; give heads=[]")
        if level not in get_args(Level):
            raise ValueError(f"level={level!r} is not one of {', '.join(get_args(Level))}")
        if level == "parameter":
            groups = {name: [name] for name in names}
        else:
            groups = {"model": names} if level == "model" else blocks(model, names)
        return cls._of_groups(groups, names, model)

    @classmethod
    def of_plain(cls, values: Mapping[str, Any]) -> Partition:
        """Return the partition that a file states, by the names of the attributes."""
        module_of, sizes, tied = (dict(values[key]) for key in ("module_of", "sizes", "tied"))
        return cls(tuple(values["names"]), module_of, sizes, tied)

    @classmethod
    def given(cls, model: nn.Module, modules: Mapping[str, Sequence[str]]) -> Partition:
        """Divide a model as given; what is in no module has weight 1 for every signal.

        Args:
            model: any model.
            modules: for each module its submodules or parameters, by their names in the model.

        Raises:
            ValueError: no module, a module of nothing, a text in the place of a list, a name that the model has not, or one
                that is in two modules.
        """
        if not modules:
            raise ValueError(
                "modules is empty, so that there is nothing to tell apart; give {name: [submodules or parameters]}"
            )
        names = [name for name, _ in model.named_parameters()]
        for module, members in modules.items():
            if isinstance(members, str):
                raise ValueError(f"module {module!r} is {members!r}; give a list of names: [{members!r}]")
            if not members:
                raise ValueError(
                    f"module {module!r} is empty; give the names of its submodules or parameters, or leave it out"
                )
            for member in members:
                if not any(within(name, member) for name in names):
                    raise ValueError(f"module {module!r} names {member!r}, which holds no parameter of the model")
        for name in names:
            owners = [module for module, members in modules.items() if any(within(name, m) for m in members)]
            if len(owners) > 1:
                raise ValueError(f"parameter {name!r} is in the modules {owners}; it can be in one")
        return cls._of_groups(modules, names, model)

    @classmethod
    def _of_groups(cls, modules: Mapping[str, Sequence[str]], names: Sequence[str], model: nn.Module) -> Partition:
        owner = {member: place for place, members in enumerate(modules.values()) for member in members}
        found = {name: owner[each] for name in names for each in _prefixes(name) if each in owner}
        sizes = {name: p.numel() for name, p in model.named_parameters()}
        places: dict[int, list[str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            places.setdefault(id(parameter), []).append(name)
        return cls(tuple(modules), found, sizes, {first: rest for first, *rest in places.values() if rest})

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        rows = [("module", "parameters", "what is in it")]
        for place, name in [*enumerate(self.names), (None, "(no module)")]:
            held = [each for each in self.sizes if self.module_of.get(each) == place]
            if held or place is not None:
                rows.append((name, f"{sum(self.sizes[each] for each in held):,}", _shortened(self._roots(held))))
        wide, count = (max(len(row[column]) for row in rows) for column in (0, 1))
        lines = [f"{name:<{wide}}  {size:>{count}}  {members}" for name, size, members in rows]
        lines += [f"{first} is also {_shortened(others)}: one tensor" for first, others in self.tied.items()]
        return "\n".join(lines)

    def _roots(self, held: Sequence[str]) -> list[str]:
        """Return the largest parts of the model that are made of these parameters alone."""
        others = {part for name in self.sizes.keys() - set(held) for part in _prefixes(name)}
        return list(dict.fromkeys(next(part for part in _prefixes(name) if part not in others) for name in held))

    def within(self, model: nn.Module) -> dict[str, int]:
        """Return ``module_of`` by the names of the same model as it is now, to which a wrapper may have added a prefix.

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


def _prefixes(name: str) -> list[str]:
    """Return the names of all modules that a parameter is in, from the whole model ("") to itself."""
    places = name.split(".")
    return [".".join(places[:depth]) for depth in range(len(places) + 1)]


def _shortened(parts: Sequence[str], most: int = 4) -> str:
    listed = ", ".join(part or "everything" for part in parts[:most])
    return listed + (f" and {len(parts) - most} more" if len(parts) > most else "")
