"""MILe's table at the laptop size, on features that are drawn here."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.mile import attributes, laptop, web
from benchmarks.reproduce import reproduce
from benchmarks.results_table import read_results

from tutelage.generations import IteratedSettings

COUNT = 200


@pytest.fixture
def data(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(10), COUNT // 10)
    features = torch.from_numpy(np.eye(10)[labels] + 0.3 * rng.normal(size=(COUNT, 10))).float()[:, None]
    part = np.where(np.arange(COUNT) < 120, "train", "test")
    ids = [f"cifar10-{name}-{number % 120:05}" for number, name in enumerate(part)]
    facts = pd.DataFrame({"id": ids, "label": labels, "split": np.where(part == "train", "unassigned", "test")})
    facts["random_label1"] = np.where(part == "train", (labels + (rng.random(COUNT) < 0.2)) % 10, -1)
    counts = 40 * np.eye(10, dtype=int)[labels[120:]]
    counts[np.arange(80), (labels[120:] + 1) % 10] = np.where(np.arange(80) % 2, 3, 1)
    (tmp_path / "cifar10").mkdir()
    table = pd.DataFrame({"index": np.arange(80), "rater_counts": list(counts), "label": labels[120:]})
    table.iloc[::-1].to_parquet(tmp_path / "cifar10" / "test.parquet")  # in another order
    monkeypatch.setattr(laptop, "described", lambda name, data, runs: (features, facts))
    monkeypatch.setattr(web, "CASES", ())
    monkeypatch.setattr(attributes, "measure", lambda *given, **how: iter(()))
    monkeypatch.setattr(laptop, "TRAIN", 100)
    monkeypatch.setattr(laptop, "VAL", 30)
    monkeypatch.setattr(laptop, "SHARES", (laptop.Share(0.5, 24, 10),))
    it = IteratedSettings(interaction=2, imitation=1, variant="released")
    monkeypatch.setattr(laptop, "BASE", replace(laptop.BASE, iterated=it))
    return tmp_path


def test_training_has_one_rater_and_the_test_all_of_them(data, tmp_path):
    task = laptop.task_of(3, data, tmp_path)
    test, val, train = (task.images.rows(name) for name in ("test", "val", "train"))
    assert (len(train), len(val), len(test)) == (100, 30, 50)
    numbers = np.array([int(id[-5:]) for id in task.images.table["id"]])
    sets = task.truth_NC[torch.cat([val, test])]
    assert sets.sum(1).tolist() == [2 if number % 2 else 1 for number in numbers[100:]]
    _, facts = laptop.described("cifar10", data, tmp_path)
    given = dict(zip(facts["id"], facts["random_label1"], strict=True))
    assert [given[id] for id in task.images.table["id"][:100]] == task.labels[train].tolist()


def test_the_table_has_every_row_at_both_thresholds(data, tmp_path):
    people, programs = reproduce("mile", "laptop", seeds=2, data=data, out=tmp_path / "tables", runs=tmp_path / "runs")
    rows = read_results(programs)
    by_row = {row.row: row for row in rows if row.metric.endswith(": F1")}
    thresholds = [f"{name}, {at}" for name in ("Sigmoid", "MILe as released") for at in ("at 0.25", "chosen")]
    assert set(by_row) == {"Softmax", *thresholds}
    assert all(set(row.by_seed) == {300, 301} and 0 < row.ours <= 100 for row in by_row.values())
    assert "MILe as released, chosen" in people.read_text().partition("## Against the strongest other row")[2]
    with pytest.raises(ValueError, match="no such part; there are"):
        reproduce("mile", "laptop", seeds=1, data=data, out=tmp_path, runs=tmp_path / "runs", only=["cifar"])
