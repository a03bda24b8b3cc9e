"""Models on disk: safetensors for the numbers, JSON for the rest; nothing is ever unpickled."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tutelage.models.classifier import ImageClassifier, ModelSpec, build


class PartialWeights(UserWarning):
    """Some of a model's entries were not in a file of weights, or had another shape there."""


def load_matching(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> list[str]:
    """Load the entries whose name and shape agree, and return the names of the model's others.

    A file without our ``backbone.`` prefix (timm's own layout) is understood, and a distillation token or head that it lacks starts
    from the class token and head, as methods that fine-tune a plain model with distillation need.

    Raises:
        ValueError: nothing agrees.
    """
    state = model.state_dict()
    if not any(name.startswith("backbone.") for name in weights):
        weights = {f"backbone.{name}": value for name, value in weights.items()}
    found = dict(weights)
    for twin, origin in (
        ("dist_token", "cls_token"),
        ("head_dist.weight", "head.weight"),
        ("head_dist.bias", "head.bias"),
    ):
        if f"backbone.{twin}" not in found and f"backbone.{origin}" in found:
            found[f"backbone.{twin}"] = found[f"backbone.{origin}"]
    position = found.get("backbone.pos_embed")
    if position is not None and "backbone.dist_token" in state:
        wanted = state["backbone.pos_embed"].shape[1]
        if position.shape[1] == wanted - 1:  # one place for the second token: a copy of the class token's
            found["backbone.pos_embed"] = torch.cat([position[:, :1], position], dim=1)
    fitting = {name: value for name, value in found.items() if name in state and value.shape == state[name].shape}
    if not fitting:
        raise ValueError(f"{source}: none of its {len(weights)} entries fits the model; is it another architecture?")
    model.load_state_dict(fitting, strict=False)
    left = [name for name in state if name not in fitting]
    heads = getattr(model, "heads", ())
    body = [name for name in left if not any(name.startswith(head + ".") for head in heads)]
    if body:
        warnings.warn(f"{source}: left at their initial values: {', '.join(body)}", PartialWeights, stacklevel=3)
    return left


def save_model(model: ImageClassifier, folder: Path, **facts: Any) -> None:
    """Write ``model.safetensors`` and ``config.json`` (the spec, and further plain facts) into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.contiguous().cpu() for name, value in model.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps({"model": asdict(model.spec), **facts}, indent=2) + "\n")


def load_model(folder: Path) -> tuple[ImageClassifier, dict[str, Any]]:
    """Return the model and the facts that `save_model` wrote.

    Raises:
        FileNotFoundError: the folder holds no model.
    """
    config, weights = folder / "config.json", folder / "model.safetensors"
    for path in (config, weights):
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; is {folder} the model/ folder of a finished run?")
    facts = json.loads(config.read_text())
    model = build(ModelSpec(**facts.pop("model")))
    model.load_state_dict(load_file(weights))
    return model.eval(), facts
