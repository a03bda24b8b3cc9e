"""Models on disk: safetensors for the numbers, JSON for the rest; nothing is ever unpickled."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from tutelage.models.classifier import ImageClassifier, ModelSpec, build


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
