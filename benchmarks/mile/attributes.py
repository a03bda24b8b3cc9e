"""MILe where an image has several attributes and only one of them was noted, as in the paper's CelebA: products of a shop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.laptop.encoder import cifar_encoder
from benchmarks.mile.laptop import BASE, FIRST_SEED, ROWS, TUNING_SEED, best, judged, of_lengths, trained
from benchmarks.results_table import Measured
from tutelage.data.encoded import EncodedTable
from tutelage.data.products import ATTRIBUTES, product_attributes
from tutelage.recipes.encoding import EncoderSettings, encoded
from tutelage.recipes.input import input_size
from tutelage.recipes.multilabel.settings import Method, MultilabelSettings
from tutelage.recipes.multilabel.task import MultilabelTask

CASE = "attributes of products, one of four noted"
ROWS_OF_SHOP, LEAST = 12_000, 150
PARTS = {"train": 8_000, "val": 1_000, "test": 3_000}
STEPS = 2_400
LEARNING_RATES = (1e-3, 3e-3)
RHOS = (0.1, 0.25)
WEIGHT_DECAYS = (0.1, 0.5)


def trials(method: Method) -> list[MultilabelSettings]:
    """Return what is tried for a row, eight settings: two learning rates, two lengths, and MILe's rho or the weight decay."""
    made = of_lengths(method, LEARNING_RATES, STEPS)
    if method == "mile":
        return [replace(each, iterated=replace(each.iterated, rho=rho)) for each in made for rho in RHOS]
    return [
        replace(each, training=replace(each.training, weight_decay=decay)) for each in made for decay in WEIGHT_DECAYS
    ]


def task_of(seed: int, data: Path, runs: Path) -> MultilabelTask:
    """Return the task of a seed: a product's type, colour, season and gender, one of which, drawn, is its label.

    Values that fewer than `LEAST` photographs have are nobody's. The validation part chooses thresholds by all attributes.
    """
    images = _photographs(data, runs)
    facts = images.table
    columns, names = [], []
    for column in ("label", *ATTRIBUTES):
        codes = facts[column].to_numpy()
        for code in range(codes.max() + 1):
            if (codes == code).sum() >= LEAST:
                columns.append(codes == code)
                names.append(f"{column} {code}")
    truth_NC = np.stack(columns, 1)
    rng = np.random.default_rng([seed, 23])
    noted = (rng.random(truth_NC.shape) * truth_NC).argmax(1)  # one of the true ones; all have a type
    order = rng.permutation(len(facts))
    split = np.full(len(facts), "left_out", dtype=object)
    split[order[: sum(PARTS.values())]] = np.repeat(list(PARTS), list(PARTS.values()))
    table = facts.drop(columns=list(ATTRIBUTES)).assign(label=noted, split=split)
    given_NC = torch.zeros(len(facts), len(names), dtype=torch.bool)
    given_NC[torch.arange(len(facts)), torch.from_numpy(noted)] = True
    images = EncodedTable(images.images, table, images.features)
    return MultilabelTask(CASE, images, names, given_NC, torch.from_numpy(truth_NC))


def _photographs(data: Path, runs: Path) -> EncodedTable:
    """Return the same photographs for all seeds, as features of an encoder that has seen no product."""
    encoder = EncoderSettings(
        pretrained=str(cifar_encoder(data, runs)), views=0, cache=runs / "mile-laptop" / "features"
    )
    settings = replace(BASE, encoder=encoder)
    side = input_size(settings)
    found = encoded(product_attributes(data / "fashion-products", 0, (side, side), LEAST, ROWS_OF_SHOP), settings)
    assert isinstance(found, EncodedTable)
    return found


def measure(data: Path, runs: Path, *, seeds: int, only: tuple[str, ...] = ()) -> Iterator[Measured]:
    """Tune each row on a seed of its own, and measure it on others. Arguments as in `benchmarks.mile.laptop.measure`."""
    folder = runs / "mile-laptop" / "attributes"
    tuning = task_of(TUNING_SEED, data, runs)
    chosen = {}
    for row, method in ROWS.items():
        tried = [
            trained(tuning, each, TUNING_SEED, folder / f"{method}-{place % 2}")
            for place, each in enumerate(trials(method))
        ]
        chosen[row] = best(tuning, tried)
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        task = task_of(seed, data, runs)
        for row, settings in chosen.items():
            yield from judged(CASE, row, seed, task, trained(task, settings, seed, folder / settings.method))


def reading() -> list[str]:
    """Return what to know when reading the table."""
    return [
        f"Attributes: {PARTS['train']:,} photographs of a shop to train on, {PARTS['val']:,} that choose the threshold by all "
        f"their attributes, and {PARTS['test']:,} of the test, as features of an encoder of CIFAR-100. Type, colour, season "
        "and gender are the labels, of which training is told one, drawn. Each row was tuned by eight trials on seed "
        f"{TUNING_SEED} (two learning rates, two lengths, and rho or the weight decay). The paper's case is CelebA, whose "
        "images have forty attributes.",
    ]
