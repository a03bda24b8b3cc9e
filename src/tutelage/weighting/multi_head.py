"""The modules of a network with a head for each task."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from tutelage.models import MultiHead, WithSquaredNorm
from tutelage.weighting.partition import Level, Partition


def of_multi_head(model: nn.Module, level: Level, shared: Collection[str]) -> Partition:
    """Divide a network with several heads.

    The blocks are those of the part that the network calls its encoder; what stands beside that (a decoder) is one more.

    Args:
        model: a `MultiHead`, also with its squared norm; any other model is divided by `Partition.of`.
        level: see `Partition.of`.
        shared: names of the heads that several losses reach; each is a module of its own. The others are in no module.
    """
    inside = model.model if isinstance(model, WithSquaredNorm) else model
    if not isinstance(inside, MultiHead):
        return Partition.of(model, level)
    prefix = "model." if inside is not model else ""
    heads = tuple(prefix + head for head in inside.heads)
    left_out = [head for head in heads if head.rpartition(".")[2] not in shared]
    if level != "block":
        return Partition.of(model, level, heads=left_out)
    encoder = prefix + inside.encoder
    beside = f"{encoder.rpartition('.')[0]}.".removeprefix(".")
    within = Partition.of(inside.get_submodule(inside.encoder), "block", heads=[])
    modules: dict[str, list[str]] = {name.removeprefix("backbone."): [] for name in within.names}
    for name, _ in model.named_parameters():
        place = within.module_of.get(name.removeprefix(f"{encoder}."))
        if name.startswith(f"{encoder}.") and place is not None:
            modules[list(modules)[place]].append(name)
        elif not any(name.startswith(f"{head}.") for head in left_out):
            head = next((head for head in heads if name.startswith(f"{head}.")), None)
            own = f"head of {head.rpartition('.')[2]}" if head else name.removeprefix(beside).split(".")[0]
            modules.setdefault(own, []).append(name)
    return Partition.given(model, modules)
