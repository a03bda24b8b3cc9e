"""What all recipes share: what their settings are made of, and how a run begins."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from tutelage.configured import plain
from tutelage.models import ModelSpec
from tutelage.training import Log

Scale = Literal["pocket", "paper"]


@dataclass(frozen=True)
class ModelSettings:
    """A model and where it starts.

    Args:
        name: A timm name, or one of the pocket models.
        pretrained: timm, or the path of a safetensors file; none starts from random weights.
        dropout: Dropout before the heads.
        options: Further plain arguments of the model.
    """

    name: str
    pretrained: str | None = None
    dropout: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    def spec(self, num_classes: int, image_size: int) -> ModelSpec:
        """Return the model's spec."""
        return ModelSpec(self.name, num_classes, image_size, self.dropout, self.options)


def begin(out: Path, settings: Any, told: dict[str, Any] | None, *, first: bool, quiet: bool) -> Log:
    """Make a run's folder with its config.yaml, and return its log.

    Args:
        out: the folder.
        settings: the recipe's settings, a dataclass.
        told: further values for config.yaml, such as the data that a command was given.
        first: whether this process writes for all.
        quiet: say nothing on the terminal.
    """
    out.mkdir(parents=True, exist_ok=True)
    if first:
        config = yaml.safe_dump(plain({**(told or {}), **asdict(settings)}), sort_keys=False, allow_unicode=True)
        (out / "config.yaml").write_text(config, encoding="utf-8")
    return Log(out / "log.jsonl", quiet=quiet)
