"""Models on disk: safetensors for the numbers, JSON for the rest; a folder of a stranger runs nothing and fetches nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from tutelage.files import read_json, save_tensors

Spec = TypeVar("Spec")
Model = TypeVar("Model", bound=nn.Module)
_UNSTORED = 1 << 30  # bytes of buffers that are computed, such as tables of positions


def write_model(model: nn.Module, spec: Any, folder: Path, facts: Mapping[str, Any], entry: str = "model") -> None:
    """Write ``model.safetensors``, and ``config.json`` with the spec as ``entry`` and further plain facts."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_tensors(state, folder / "model.safetensors")
    text = json.dumps({entry: asdict(spec), **facts}, indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def read_model(
    folder: Path, kind: Callable[..., Spec], build: Callable[[Spec], Model], entry: str = "model"
) -> tuple[Model, dict[str, Any]]:
    """Return the model in eval mode, on the accelerator where there is one, and the facts that `write_model` wrote.

    The model is first built on the ``meta`` device, which takes no memory, and compared with the header of the stored
    tensors: only what agrees in every name and shape is built.

    Args:
        folder: the folder.
        kind: the spec's class.
        build: makes the model of a spec, without any weights.
        entry: the spec's name in config.json.

    Raises:
        FileNotFoundError: the folder holds no model.
        ValueError: the files are damaged, do not belong together, or ask for what no model here has.
    """
    config, weights = folder / "config.json", folder / "model.safetensors"
    for path in (config, weights):
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; is {folder} the model/ folder of a finished run?")
    facts = read_json(config)
    told = facts.pop(entry, None)
    if not isinstance(told, dict):
        raise ValueError(f"{config} holds no {entry!r}; is {folder} the model/ folder of another kind of run?")
    try:
        spec = kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in told.items()})
        with torch.device("meta"):
            outline = build(spec)
    except Exception as error:  # a file of a stranger fails in many ways
        raise ValueError(f"{config} describes no model that can be built: {error}") from error
    stored = outline.state_dict()
    _compare({name: list(value.shape) for name, value in stored.items()}, weights)
    unstored = sum(value.nbytes for name, value in outline.named_buffers() if name not in stored)
    if unstored > _UNSTORED:
        raise ValueError(f"{config} asks for {unstored / 2**30:.0f} GiB beside the model's weights; at most 1 is built")
    model = build(spec)
    model.load_state_dict(load_file(weights))
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return (model if accelerator is None else model.to(accelerator)).eval(), facts


def _compare(wanted: dict[str, list[int]], weights: Path) -> None:
    try:
        with safe_open(weights, "pt") as file:
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (no dictionary)
    except SafetensorError as error:
        raise ValueError(f"{weights} is damaged, or holds no safetensors: {error}") from error
    differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if differing:
        name = differing[0]
        raise ValueError(
            f"{weights} does not belong to its config.json: {name} is {found.get(name, 'absent')} there and "
            f"{wanted.get(name, 'absent')} in the model ({len(differing)} entries differ)"
        )
