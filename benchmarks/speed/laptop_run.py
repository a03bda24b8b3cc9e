"""`tutelage moderate` at laptop size on about 10,000 photographs, from their files to the report: what each part costs.

OMP_NUM_THREADS=1 python -m benchmarks.speed.laptop_run --data DATA --runs RUNS  # five core-minutes: results/laptop-run.md
"""

import argparse
import datetime
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import wraps
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch

from benchmarks.laptop.encoder import shop_encoder
from benchmarks.moderation.products import product_photographs
from benchmarks.results_table import hardware
from tutelage.cli import main as tutelage
from tutelage.data.products import read_shop
from tutelage.recipes import finished, moderation, running
from tutelage.recipes.feature_maker import FeatureMaker
from tutelage.recipes.moderation import RECIPE
from tutelage.training import Stages

ROWS, SEED = 10_000, 400


class Clock:
    """Seconds of processor time and by the clock that named parts of a program take, each without the parts inside it."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}
        self.inside = [0.0, 0.0]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        before, self.inside = self.inside, [0.0, 0.0]
        begin = (time.process_time(), time.monotonic())
        try:
            yield
        finally:
            took = [time.process_time() - begin[0], time.monotonic() - begin[1]]
            own = [each - inner for each, inner in zip(took, self.inside, strict=True)]
            known = self.spent.setdefault(name, [0.0, 0.0])
            self.spent[name] = [each + more for each, more in zip(known, own, strict=True)]
            self.inside = [each + more for each, more in zip(before, took, strict=True)]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*given: Any, **named: Any) -> Any:
            with self.part(name):
                return function(*given, **named)

        return call


def write_photographs(data: Path, folder: Path, rows: int) -> int:
    """Write photographs as files and a manifest of them; the test's labels are right, 20 % of the others wrong."""
    table = product_photographs(data, SEED, size=(8, 8), max_rows=rows).table
    shop = read_shop(data, ("id", "image")).astype({"id": str}).set_index("id")
    for id in table["id"]:
        (folder / f"{id}.jpg").write_bytes(shop["image"][id])
    label = table["label"].map({0: "defective", 1: "acceptable"}).fillna("")
    listed = pd.DataFrame({"image": table["id"] + ".jpg", "label": label, "split": table["split"]})
    listed.to_csv(folder / "products.csv", index=False)
    return len(table)


def measured(manifest: Path, encoder: Path, views: int, out: Path) -> Clock:
    """Run the command in this process, and return what its parts took."""
    clock = Clock()
    run_stage = Stages.run

    def stage(self: Stages, name: str, work: Any, **named: Any) -> Any:
        return run_stage(self, name, clock.timed(name, work), **named)

    own = {"evaluate": "evaluation and tables", "doubts": "reasons for re-labelling", "rehearse": "rehearsal"}
    found = replace(RECIPE, **{name: clock.timed(told, getattr(RECIPE, name)) for name, told in own.items()})
    with (
        mock.patch.object(Stages, "run", stage),
        mock.patch.object(moderation, "RECIPE", found),
        mock.patch.object(moderation, "moderation_task", clock.timed("reading of images", moderation.moderation_task)),
        mock.patch.object(FeatureMaker, "fill", clock.timed("features", FeatureMaker.fill)),
        mock.patch.object(running, "report", clock.timed("report", finished.report)),
        redirect_stdout(StringIO()),
        clock.part("everything else"),
    ):
        tutelage(
            [
                *("moderate", str(manifest), "--out", str(out), "--scale", "laptop"),
                *("--encoder.pretrained", str(encoder), "--encoder.cache", str(manifest.parent / "features")),
                *("--encoder.views", str(views)),
            ]
        )
    return clock


def table(clock: Clock) -> list[str]:
    """Return the lines of a table: each part's seconds of processor time and by the clock, and their sums."""
    sums = {"all but the features": [0.0, 0.0], "all": [0.0, 0.0]}
    for name, took in clock.spent.items():
        for told in sums if name != "features" else ("all",):
            sums[told] = [each + more for each, more in zip(sums[told], took, strict=True)]
    lines = ["| part | processor s | clock s |", "|---|--:|--:|"]
    lines += [f"| {name} | {took[0]:.1f} | {took[1]:.1f} |" for name, took in clock.spent.items()]
    return [*lines, *(f"| **{name}** | **{took[0]:.0f}** | **{took[1]:.0f}** |" for name, took in sums.items())]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="Folder of the data sets.")
    parser.add_argument("--runs", type=Path, required=True, help="Folder in which the encoder lies, or is made.")
    parser.add_argument("--rows", type=int, default=ROWS, help="Photographs.")
    parser.add_argument("--views", type=int, default=2, help="Augmented views of each.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/laptop-run.md"))
    told = parser.parse_args(arguments)
    encoder = shop_encoder(told.data, told.runs)
    with tempfile.TemporaryDirectory() as folder:
        count = write_photographs(told.data / "fashion-products", Path(folder), told.rows)
        manifest = Path(folder) / "products.csv"
        clock = measured(manifest, encoder, told.views, Path(folder) / "run")
        metrics = json.loads((Path(folder) / "run" / "metrics.json").read_text())
    figures = [metrics[name]["auroc"]["value"] for name in ("model", "fine_tuned")]
    lines = [
        f"# `tutelage moderate` at laptop size on {count:,} photographs",
        "",
        f"{datetime.date.today()}; {hardware()}, {torch.get_num_threads()} thread.",
        "Product photographs as JPEG files with a manifest, default settings, features by the in-house encoder of 48 pixels,",
        f"of each image and of {told.views} augmented views of it. Processor time counts all threads: what one core needs;",
        "the clock tells how busy the machine was besides.",
        f"AUROC on the clean test {figures[0]:.3f}, plain fine-tuning {figures[1]:.3f}.",
        f"Made by `OMP_NUM_THREADS=1 python -m benchmarks.speed.laptop_run --data DATA --runs RUNS --views {told.views}`.",
        "",
        *table(clock),
    ]
    print("\n".join(lines))
    told.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
