"""Starting a model from weights that were made for a relative of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

NAMED = 6  # of the entries that a message names


class PartialWeights(UserWarning):
    """Some entries of a model, or of a file of weights, have no partner of their name and shape in the other."""


def load_matching(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> list[str]:
    """Load the entries whose name and shape agree, and return the names of the model's others.

    A file without our ``backbone.`` prefix (timm's own layout) is understood. A distillation token or head that it lacks
    starts from the class token and head, which fine-tuning a plain model with distillation needs. What stays without a
    partner is named in a warning, but for the heads, which other classes need anew.

    Raises:
        ValueError: nothing agrees of what is neither the pixels' door nor a head.
    """
    state = model.state_dict()
    if not any(name.startswith("backbone.") for name in weights):
        weights = {f"backbone.{name}": value for name, value in weights.items()}
    found = dict(weights)
    twins = {"dist_token": "cls_token", "head_dist.weight": "head.weight", "head_dist.bias": "head.bias"}
    for twin, origin in twins.items():
        if f"backbone.{twin}" not in found and f"backbone.{origin}" in found:
            found[f"backbone.{twin}"] = found[f"backbone.{origin}"]
    position = found.get("backbone.pos_embed")
    if position is not None and "backbone.dist_token" in state:
        wanted = state["backbone.pos_embed"].shape[1]
        if position.shape[1] == wanted - 1:  # one place for the second token: a copy of the class token's
            found["backbone.pos_embed"] = torch.cat([position[:, :1], position], dim=1)
    fitting = {name: value for name, value in found.items() if name in state and value.shape == state[name].shape}
    if not body(model, fitting):
        raise ValueError(f"{source}: none of its {len(weights)} entries fits the model; is it another architecture?")
    model.load_state_dict(fitting, strict=False)
    left = [name for name in state if name not in fitting]
    apart = {
        "left at their initial values": body(model, left),
        "not used": body(model, (name for name in weights if name not in fitting)),
    }
    if any(apart.values()):
        parts = (f"{what}: {listed(names)}" for what, names in apart.items() if names)
        warnings.warn(f"{source}: {'; '.join(parts)}", PartialWeights, stacklevel=3)
    return left


def body(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Return the names that are neither of the pixels' door nor of a head."""
    ours = ("pixels.", *(f"{head}." for head in getattr(model, "heads", ())))
    return [name for name in names if not name.startswith(ours)]


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
