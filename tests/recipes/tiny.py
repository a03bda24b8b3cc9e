"""The main job on a task and with models so small that it takes a second."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image

from tutelage import _vision, recipes
from tutelage.data import digit_posters
from tutelage.metrics import bootstrap, paired_bootstrap
from tutelage.models import ModelSettings, ModelSpec, build, save_model
from tutelage.recipes.moderation import ModerationSettings, ModerationTask, pocket, posters_task
from tutelage.subtasks import DiscoverySettings, SelectionSettings, SpecialistSettings
from tutelage.training import Budget, checkpoint

SIZES: dict[str, Any] = {"train": (60, 120), "validation": (60, 120), "test": (40, 80), "unlabelled": 50}
KEPT = 2  # of four
ENCODER = ModelSpec("pocket_resnet", 5, 16, options={"widths": [4, 8]})


def task(noise: str = "uniform", image_size: int = 24) -> ModerationTask:
    """Digit posters, without encoders to pre-train."""
    made = posters_task(0, noise, image_size, **SIZES)
    made.pretraining = None
    return made


def written(folder: Path, train: tuple[int, int] = (64, 96)) -> list[tuple[str, str]]:
    """Write so many defective and acceptable posters as files, and return each one's name and label."""
    posters = digit_posters(1, train=train, validation=(2, 2), test=(2, 2), unlabelled=1)
    rows = []
    for row in posters.rows("train").tolist():
        Image.fromarray(posters.images[row].permute(1, 2, 0).numpy()).save(folder / f"{row}.png")
        rows.append((f"{row}.png", ["defective", "acceptable"][posters.labels[row]]))
    return rows


def manifest(folder: Path, train: tuple[int, int]) -> Path:
    """Write so many posters as `written` does, and a table of them; return its path."""
    pd.DataFrame(written(folder, train), columns=["image", "label"]).to_csv(folder / "all.csv", index=False)
    return folder / "all.csv"


def saved_encoder(folder: Path, spec: ModelSpec = ENCODER) -> Path:
    """Save a model with weights drawn at random, the same for all tests; return the folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(build(spec), folder)
    return folder


def settings() -> ModerationSettings:
    return replace(
        pocket(),
        image_size=24,
        augmentation="shift",
        radius=0,  # digits on a plain ground look alike to a hash
        student=ModelSettings("pocket_deit", options={"embed_dim": 16, "depth": 1, "num_heads": 2}),
        specialist=ModelSettings("pocket_resnet", options={"widths": [4, 8]}),
        budget=Budget(steps=4),
        discovery=DiscoverySettings(subtasks=4, lam=25.0, epochs=2),
        specialists=SpecialistSettings(sharing="trunk", epochs=1),
        selection=SelectionSettings(rule="top", threshold=KEPT / 4, flagged=0.5, window=4, significance=1.0),
    )


def hurry(setattr: Callable[..., None] = setattr) -> None:
    """Few bootstrap resamples, and a checkpoint after every step; for this process, or by a monkeypatch's setattr."""
    import tutelage.recipes.moderation.evaluation as evaluation
    import tutelage.subtasks.selection as selection

    setattr(evaluation, "bootstrap", partial(bootstrap, resamples=20))
    setattr(evaluation, "paired_bootstrap", partial(paired_bootstrap, resamples=20))
    setattr(selection, "bootstrap", partial(bootstrap, resamples=20))
    setattr(checkpoint, "due", lambda *_: True)


def killed_and_run_again(out: Path, seconds: list[float]) -> int:
    """Start the run, kill it so many seconds after its first sign of life, and so on; then let it end. Return the kills."""
    kills, log = 0, out / "log.jsonl"
    for patience in [*seconds, None]:
        told = log.stat().st_size if log.exists() else 0
        if (process := os.fork()) == 0:
            recipes.run("moderation", task(), settings(), out, quiet=True)
            os._exit(0)
        if patience is not None:
            while not log.exists() or log.stat().st_size == told:
                time.sleep(0.01)
            time.sleep(patience)
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            kills += 1
        elif os.waitstatus_to_exitcode(status) != 0:
            raise RuntimeError(f"the run failed with {status}")
    return kills


if __name__ == "__main__":  # a process of its own, with a single thread that can be forked
    torch.set_num_threads(1)
    hurry()
    _vision.timm()
    if sys.argv[1] == "--once":
        print(recipes.run("moderation", task(), settings(), Path(sys.argv[2]), quiet=True).folder)
    else:
        print(killed_and_run_again(Path(sys.argv[1]), [float(word) for word in sys.argv[2:]]))
