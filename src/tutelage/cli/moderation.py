"""The main job: `tutelage demo` and `tutelage moderate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from tutelage.cli.job import Preset, finish, told
from tutelage.data.manifest import LABELS, Columns
from tutelage.recipes.moderation import ModerationSettings, manifest_task, moderate, posters_task, settings_for

Noise = Literal["uniform", "structured", "none"]


@dataclass(frozen=True)
class Demo:
    """Run the main job on digit posters, real handwritten digits that need no download.

    Args:
        out: The run's folder.
        noise: Kind of wrong labels: uniform, or structured (one permitted digit is often taken for a forbidden one).
        noise_rate: Share of the moderator's labels that are wrong.
    """

    settings: ClassVar[Preset] = staticmethod(settings_for)
    scale: ClassVar[str] = "pocket"

    out: Path = Path("runs/demo")
    noise: Noise = "uniform"
    noise_rate: float = 0.2

    def run(self, settings: ModerationSettings) -> None:
        """Do it."""
        rate = 0.0 if self.noise == "none" else self.noise_rate
        task = posters_task(settings.seed, self.noise, settings.image_size, noise_rate=rate)
        finish(moderate(task, settings, self.out, told=told(self)).report)


@dataclass(frozen=True)
class Moderate:
    """Train a moderation model on a manifest of labelled images.

    Args:
        manifest: A CSV or Parquet file with columns image and label, or a folder with a subfolder for each label.
        out: The run's folder.
        columns: The manifest's own names of its columns.
        labels: Class of each label name: 0 defective, 1 acceptable, -1 not labelled.
    """

    settings: ClassVar[Preset] = staticmethod(settings_for)
    scale: ClassVar[str] = "auto"
    positional: ClassVar[tuple[str, ...]] = ("manifest",)

    manifest: Path
    out: Path
    columns: Columns = Columns()
    labels: dict[str, int] = field(default_factory=lambda: dict(LABELS))

    def run(self, settings: ModerationSettings) -> None:
        """Do it."""
        task = manifest_task(self.manifest, settings, self.columns, self.labels, out=self.out)
        finish(moderate(task, settings, self.out, told=told(self)).report)
