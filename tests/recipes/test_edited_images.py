"""An image file that was edited in place: the stages that looked at it run again, whichever of the images it is."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from PIL import Image

from tutelage.recipes.distill.settings import DistillSettings, Shares
from tutelage.recipes.distill.task import distill_task
from tutelage.recipes.moderation.task import moderation_task
from tutelage.recipes.multilabel.settings import MultilabelSettings
from tutelage.recipes.multilabel.task import multilabel_task
from tutelage.training import Log, Stages

TASKS: dict[str, Callable[[Path], Any]] = {
    "distill": lambda folder: distill_task(
        str(folder), DistillSettings(image_size=16, shares=Shares(held_out=0.2, val=0.2))
    ),
    "moderation": lambda folder: moderation_task(folder, replace(tiny.settings(), radius=0)),
    "multilabel": lambda folder: multilabel_task(str(folder), MultilabelSettings(image_size=16, radius=-1)),
}


def save(path: Path, seed: int) -> None:
    pixels = random.Random(seed).randbytes(16 * 16 * 3)
    Image.frombytes("RGB", (16, 16), pixels).save(path, compress_level=0)  # as many bytes for every picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for place, label in enumerate(("defective", "acceptable")):
        (folder / label).mkdir()
        for number in range(90):
            save(folder / label / f"{number}.png", 1000 * place + number)
    return folder


@pytest.mark.parametrize("name", TASKS)
def test_one_edited_image_runs_its_stages_again(name: str, folder: Path, tmp_path: Path) -> None:
    ran: list[int] = []

    def run() -> int:
        def work(out: Path) -> dict[str, Any]:
            ran.append(1)
            return {}

        Stages(tmp_path, Log(None, quiet=True)).run("teach", work, cache_key=TASKS[name](folder).fingerprint())
        return len(ran)

    assert (run(), run()) == (1, 1)
    for count, number in enumerate((7, 71), start=2):
        path = folder / "acceptable" / f"{number}.png"
        size = path.stat().st_size
        save(path, random.randrange(10**6, 10**9))
        assert path.stat().st_size == size
        assert (run(), run()) == (count, count)
