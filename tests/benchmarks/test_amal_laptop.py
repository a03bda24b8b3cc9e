"""AMAL's table at the laptop size, on features that are drawn here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.amal import laptop
from benchmarks.reproduce import reproduce
from benchmarks.results_table import read_results

from tutelage.training import Budget
from tutelage.weighting.settings import AdaptSettings

pytestmark = pytest.mark.filterwarnings("ignore::tutelage.hypergradient.NeumannWarning")
COUNT = 160


@pytest.fixture
def small(monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(4), COUNT // 4)
    features = torch.from_numpy(np.eye(4)[labels] + 0.3 * rng.normal(size=(COUNT, 4))).float()[:, None]
    facts = pd.DataFrame({"id": [f"image-{number}" for number in range(COUNT)], "label": labels})
    facts["split"] = np.where(np.arange(COUNT) < 120, "unassigned", "test")
    facts["noisy_label"] = facts["worse_label"] = np.where(rng.random(COUNT) < 0.4, (labels + 1) % 4, labels)
    monkeypatch.setattr(laptop, "described", lambda name, data, runs: (features, facts))
    sizes = {"train": 60, "held_out": 20, "val": 20}
    monkeypatch.setattr(laptop, "SIZES", {"cifar10": sizes, "cifar100": sizes})
    monkeypatch.setattr(laptop, "TUNED_ON", 20)
    training = replace(laptop.BASE.training, batch_size=20, lr=0.05)
    adapt = AdaptSettings(every=1, batch_size=20)
    monkeypatch.setattr(laptop, "BASE", replace(laptop.BASE, training=training, adapt=adapt, budget=Budget(epochs=2)))
    names = ("CE", "CE, held-out labels count twice", "KD", "AMAL", "AMAL, refitted")
    monkeypatch.setattr(laptop, "ROWS", {name: laptop.ROWS[name] for name in names})
    monkeypatch.setattr(laptop, "TUNING_SEEDS", (200,))
    monkeypatch.setattr(laptop, "CASES", (laptop.CASES[0], laptop.CASES[3]))


def test_a_seed_has_its_own_images_and_the_trials_never_see_the_test(small):
    case = laptop.CASES[0]
    first, second = (laptop.task_of(case, seed, Path(), Path()) for seed in (1, 2))
    tuning = laptop.task_of(case, 1, Path(), Path(), tuning=True)
    ids = {
        name: set(task.images.table["id"]) for name, task in (("first", first), ("second", second), ("tuning", tuning))
    }
    assert ids["first"] != ids["second"]
    numbers = np.array([int(name.removeprefix("image-")) for name in ids["tuning"]])
    assert (numbers < 120).all()
    assert tuning.images.table["split"].value_counts().to_dict() == {"train": 60, "held_out": 20, "val": 20, "test": 20}
    assert len(first.rows("test")) == 40
    wrong = first.truth != first.labels
    assert wrong[first.rows("train")].any()
    assert not wrong[first.rows("held_out", "val", "test")].any()
    row = first.images.table.index[5]
    place = int(first.images.table["id"][row].removeprefix("image-"))
    raw, _ = laptop.described("cifar10", Path(), Path())
    kept = first.images.features
    torch.testing.assert_close(kept.gather(torch.tensor([row]))[0, 0] * kept.std + kept.mean, raw[place, 0])


def test_every_row_is_tried_as_often():
    assert len({len(laptop.trials(row)) for row in laptop.ROWS.values()}) == 1
    for row in laptop.ROWS.values():
        for changes in laptop.trials(row):
            replace(laptop.BASE, **changes)


def test_the_table_compares_ours_with_the_strongest_row_seed_by_seed(small, tmp_path):
    arguments = {"seeds": 2, "data": tmp_path, "out": tmp_path / "tables", "runs": tmp_path / "runs"}
    people, programs = reproduce("amal", "laptop", **arguments)
    text = people.read_text()
    assert "## Against the strongest other row" in text
    assert "AMAL, refitted, four teachers" in text
    rows = read_results(programs)
    first, second = laptop.CASES
    found = {row.row: row.by_seed for row in rows if row.metric == f"{first.name}: {laptop.ACCURACY}"}
    assert set(found) == {*laptop.ROWS, *(f"{name}, four teachers" for name in laptop.FOUR)}
    assert all(set(values) == {300, 301} for values in found.values())
    assert {row.row for row in rows if row.metric.endswith(laptop.FOUND)} >= {"AMAL", "AMAL, refitted"}
    before = {(row.row, row.metric): row.by_seed for row in rows}
    reproduce("amal", "laptop", **arguments, only=[second.name, "CE", "AMAL"])
    assert list(laptop.tuned(first, tmp_path, tmp_path / "runs", ["CE"])) == ["CE"]
    assert {(row.row, row.metric): row.by_seed for row in read_results(programs)} == before
    with pytest.raises(ValueError, match="no such case or row; there are"):
        reproduce("amal", "laptop", **arguments, only=["nothing"])
    with pytest.raises(ValueError, match="this table is of real data"):
        reproduce("amal", "laptop", **{**arguments, "data": None})
