"""Moderation of all product photographs at 112 pixels, on features of an encoder that was made on other article types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.given import given
from benchmarks.laptop.encoder import TRAINING, _train
from benchmarks.moderation.products import article_types
from benchmarks.moderation.rows import own_rows
from benchmarks.moderation.table import FIRST_SEED
from benchmarks.moderation.tasks import NOISES, products_task
from benchmarks.results_table import ResultRow, write_results
from tutelage.data import TensorData
from tutelage.metrics import auroc, npv_at_fpr
from tutelage.models import ModelSpec
from tutelage.recipes.encoding import EncoderSettings, encoded
from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.recipes.moderation.settings import laptop
from tutelage.training import Budget, Hardware, Log

SIZE, TINY = 112, 16
EVERYTHING = 10**9
SEEDS = 3


def encoder(data: Path, runs: Path, *, tiny: bool) -> Path:
    """Return the folder of a ResNet-50 that tells apart the article types that no moderation task has."""
    folder = runs / "encoders" / "products"
    if not (folder / "config.json").is_file():
        size = TINY if tiny else SIZE
        images, labels = article_types(data / "fashion-products", 0, (size, size), 64 if tiny else EVERYTHING)
        options = {"widths": [4, 8]} if tiny else {}
        spec = ModelSpec("pocket_resnet" if tiny else "resnet50", int(labels.max()) + 1, size, options=options)
        budget = Budget(steps=2) if tiny else Budget(epochs=30)
        _train(spec, TensorData(input=images, label=labels), None, TRAINING, budget, folder)
    return folder


def measured(data: Path, runs: Path, *, tiny: bool) -> Iterator[tuple[str, str, int, float]]:
    """Yield (row, metric, seed, value) for both kinds of noise; what is done under ``runs`` is kept."""
    made = encoder(data, runs, tiny=tiny)
    features = EncoderSettings(pretrained=str(made), cache=runs / "features", views=1 if tiny else 2, batch_size=256)
    settings = replace(laptop(), encoder=features, augmentation="shift", image_size=TINY if tiny else SIZE)
    if tiny:
        discovery = replace(settings.discovery, epochs=1)
        settings = replace(settings, budget=Budget(steps=4), discovery=discovery)
        settings = replace(settings, specialists=replace(settings.specialists, epochs=1))
    listed = own_rows(settings.student)[: 1 if tiny else None]
    for seed in range(FIRST_SEED, FIRST_SEED + (1 if tiny else SEEDS)):
        for noise in [name.partition(" ")[0] for name in NOISES[: 1 if tiny else None]]:
            most = 800 if tiny else EVERYTHING
            task = products_task(data / "fashion-products", seed, noise, settings.image_size, most)
            task.images = encoded(task.images, settings)
            folder = runs / "products" / noise / f"seed-{seed}"
            pipeline = Pipeline(
                task, replace(settings, seed=seed, hardware=Hardware()), folder, Log(folder / "log.jsonl")
            )
            test = pipeline.rows("test")
            labels = task.judged_by()[test].numpy()
            for row in listed:
                scores = row.scores(pipeline)[test].double().numpy()
                yield row.name, f"{noise} noise: NPV at 1 % FPR", seed, npv_at_fpr(scores, labels, 0.01)
                yield row.name, f"{noise} noise: AUROC", seed, auroc(scores, labels)


def table(data: Path | None, runs: Path, out: Path, *, tiny: bool) -> None:
    """Measure, and write ``products-gpu.md``."""
    data = given(data)
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row, metric, seed, value in measured(data, runs, tiny=tiny):
        found.setdefault((row, metric), {})[seed] = value
        print(f"{row}, {metric}, seed {seed}: {value:.3f}", flush=True)
    rows = [ResultRow.over_seeds(*place, values) for place, values in found.items()]
    notes = [
        f"All photographs at {SIZE} pixels (they come at 48 x 64). A ResNet-50 was trained here, from random weights, to tell "
        "apart the article types that no split of the task has; everything else learns from its features.",
    ]
    write_results("products", "gpu", rows, notes, out)
